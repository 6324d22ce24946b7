import { ipBytes } from '../../packet/address.ts';
import { CommunityIds } from '../../packet/community-id.ts';

/** A connection as a line of some log tells of it. */
export interface LoggedFlow {
  uid: string | undefined;
  /** The same for both directions and every log: what else than the uid it is joined by. */
  key: string | undefined;
  orig: string;
  origPort: number;
  resp: string;
  /** Seconds since the epoch; undefined: not known. */
  from: number | undefined;
  to: number | undefined;
}

const PROTOCOLS: Readonly<Record<string, number>> = {
  tcp: 6,
  udp: 17,
  sctp: 132,
  icmp: 1,
  'ipv6-icmp': 58,
  icmp6: 58,
};
const ICMPV6 = 58;
/** Of our own making: two logs need not have been written with one seed. */
const ids = new CommunityIds(0);

/** What is known of a flow that has been read: nothing of it is trusted. */
export interface FlowText {
  uid?: string | undefined;
  proto?: string | undefined;
  orig?: string | undefined;
  origPort?: number | undefined;
  resp?: string | undefined;
  respPort?: number | undefined;
  communityId?: string | undefined;
  from?: number | undefined;
  to?: number | undefined;
}

/** Undefined: it names neither endpoints nor a uid. */
export function loggedFlow(text: FlowText): LoggedFlow | undefined {
  const { uid, orig, resp, origPort, respPort, from, to } = text;
  const [a, b] = [ipBytes(orig ?? ''), ipBytes(resp ?? '')];
  if (a === undefined || b === undefined || a.length !== b.length) {
    // By its uid alone, with its sides as they come.
    return uid === undefined ? undefined : { uid, key: undefined, orig: '', origPort: 0, resp: '', from, to };
  }
  return {
    uid,
    key: keyOf(text, a.length) ?? text.communityId,
    orig: Buffer.from(a).toString('latin1'),
    origPort: origPort ?? 0,
    resp: Buffer.from(b).toString('latin1'),
    from,
    to: to ?? from,
  };

  function keyOf({ proto }: FlowText, size: number): string | undefined {
    if (origPort === undefined || respPort === undefined) return undefined;
    if (!isPort(origPort) || !isPort(respPort)) return undefined;
    const number = PROTOCOLS[proto?.toLowerCase() ?? ''];
    if (number === undefined || orig === undefined || resp === undefined) return undefined;
    const ipProto = number === PROTOCOLS['icmp'] && size === 16 ? ICMPV6 : number;
    return ids.of({ origHost: orig, origPort, respHost: resp, respPort, ipProto });
  }
}

function isPort(port: number): boolean {
  return Number.isInteger(port) && port >= 0 && port <= 65_535;
}

/** The second names its sides the other way around than the first. */
export function isTurned(first: LoggedFlow, second: LoggedFlow): boolean {
  return first.orig === second.resp && (first.orig !== second.orig || first.origPort !== second.origPort);
}

/** Seconds since the epoch, from a number or a time as ISO 8601 has it; undefined for anything else. */
export function timeOf(value: unknown): number | undefined {
  if (typeof value === 'number') return Number.isFinite(value) ? value : undefined;
  if (typeof value !== 'string') return undefined;
  if (/^\d+(\.\d+)?$/.test(value)) return Number(value);
  // Date knows a zone only with a colon.
  const millis = Date.parse(value.replace(/([+-]\d{2})(\d{2})$/, '$1:$2'));
  return Number.isNaN(millis) ? undefined : millis / 1000;
}

export function numberOf(value: unknown): number | undefined {
  const number = typeof value === 'string' && value !== '' ? Number(value) : value;
  return typeof number === 'number' && Number.isFinite(number) ? number : undefined;
}

export function textOf(value: unknown): string | undefined {
  return typeof value === 'string' ? value : undefined;
}
