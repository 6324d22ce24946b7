import { hash } from 'node:crypto';
import { ipBytes } from './address.ts';
import { icmpCounterpart } from './icmp.ts';

const TCP = 6;
const UDP = 17;
const ICMP = 1;
const ICMPV6 = 58;
const SCTP = 132;
const LONGEST = 40;

/** Where an address lies. */
export interface AddressBytes {
  u8: Uint8Array;
  at: number;
  bytes: 4 | 16;
}

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
  of({ origHost, origPort, respHost, respPort, ipProto }: CommunityIdEndpoints): string | undefined {
    const orig = ipBytes(origHost);
    const resp = ipBytes(respHost);
    if (orig === undefined || resp === undefined) return undefined;
    return this.between(placed(orig), origPort, placed(resp), respPort, ipProto);
  }

  /** The same from the addresses themselves. */
  between(
    orig: AddressBytes,
    origPort: number,
    resp: AddressBytes,
    respPort: number,
    ipProto: number,
  ): string | undefined {
    const size = orig.bytes;
    if (size !== resp.bytes) return undefined;
    const icmp = ipProto === ICMP || ipProto === ICMPV6;
    const ports = icmp || ipProto === TCP || ipProto === UDP || ipProto === SCTP;
    // An ICMP type without an answer has a direction: its id is that of the packets as they went.
    const oneWay = icmp && icmpCounterpart(ipProto, origPort) !== respPort;
    const order = compare(orig, resp);
    const swap = !oneWay && (order > 0 || (order === 0 && ports && origPort > respPort));
    const out = this.#buffer;
    const [low, high] = swap ? [resp, orig] : [orig, resp];
    out[0] = this.#seed >>> 8;
    out[1] = this.#seed & 0xff;
    for (let i = 0; i < size; i++) {
      out[2 + i] = low.u8[low.at + i];
      out[2 + size + i] = high.u8[high.at + i];
    }
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

function placed(u8: Uint8Array): AddressBytes {
  return { u8, at: 0, bytes: u8.length === 4 ? 4 : 16 };
}

function compare(a: AddressBytes, b: AddressBytes): number {
  for (let i = 0; i < a.bytes; i++) {
    const difference = a.u8[a.at + i] - b.u8[b.at + i];
    if (difference !== 0) return difference;
  }
  return 0;
}
