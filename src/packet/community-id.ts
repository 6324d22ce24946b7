import { hash } from 'node:crypto';
import { ipBytes } from './address.ts';
import { icmpCounterpart } from './icmp.ts';

const TCP = 6;
const UDP = 17;
const ICMP = 1;
const ICMPV6 = 58;
const SCTP = 132;
const LONGEST = 40;

/** What a community id is made of: the endpoints of a connection, ICMP with type and counterpart type or code as ports. */
export interface CommunityIdEndpoints {
  origHost: string;
  origPort: number;
  respHost: string;
  respPort: number;
  ipProto: number;
}

/**
 * Community ID, version 1 (github.com/corelight/community-id-spec): the same for both directions of a connection and for
 * every tool with the same seed (0 to 65535).
 */
export class CommunityIds {
  readonly #buffer = new Uint8Array(LONGEST);
  readonly #seed: number;

  constructor(seed: number) {
    this.#seed = seed;
  }

  /** Undefined when a host is no address, or the two are of different families. */
  of(endpoints: CommunityIdEndpoints): string | undefined {
    const { ipProto, origPort, respPort } = endpoints;
    const orig = ipBytes(endpoints.origHost);
    const resp = ipBytes(endpoints.respHost);
    if (orig === undefined || resp === undefined || orig.length !== resp.length) return undefined;
    const icmp = ipProto === ICMP || ipProto === ICMPV6;
    const ports = icmp || ipProto === TCP || ipProto === UDP || ipProto === SCTP;
    // An ICMP type without an answer has a direction: its id is that of the packets as they went.
    const oneWay = icmp && icmpCounterpart(ipProto, origPort) !== respPort;
    const order = compare(orig, resp);
    const swap = !oneWay && (order > 0 || (order === 0 && ports && origPort > respPort));
    const out = this.#buffer;
    const size = orig.length;
    out[0] = this.#seed >>> 8;
    out[1] = this.#seed & 0xff;
    out.set(swap ? resp : orig, 2);
    out.set(swap ? orig : resp, 2 + size);
    let at = 2 + 2 * size;
    out[at++] = ipProto;
    out[at++] = 0;
    if (ports) {
      const first = swap ? respPort : origPort;
      const second = swap ? origPort : respPort;
      out[at++] = first >>> 8;
      out[at++] = first & 0xff;
      out[at++] = second >>> 8;
      out[at++] = second & 0xff;
    }
    return `1:${hash('sha1', out.subarray(0, at), 'base64')}`;
  }
}

function compare(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return a[i] - b[i];
  return 0;
}
