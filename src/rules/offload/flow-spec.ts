import { FLOW_SPEC } from '../../kernel/index.ts';
import type { HeaderMatch, Masked } from './header-match.ts';

/** Kinds of rules (linux/ethtool.h), by IP version and protocol. */
const ETHER_FLOW = 0x12;
const FLOWS: Record<4 | 6, Readonly<Record<number, number>>> = {
  4: { 6: 0x01, 17: 0x02, 132: 0x03 },
  6: { 6: 0x05, 17: 0x06, 132: 0x07 },
};
const USER_FLOW = { 4: 0x0d, 6: 0x0e } as const;
/** usr_ip4_spec.ip_ver (ETH_RX_NFC_IP4). */
const IP4 = 1;

/** Offset of h_proto in struct ethhdr. */
const ETHER_TYPE = 12;
/** Offsets in struct ethtool_tcpip4_spec and usrip4_spec, and in their IPv6 sisters. */
const FIELDS = {
  4: { source: 0, target: 4, sport: 8, dport: 10, version: 13, proto: 14 },
  6: { source: 0, target: 16, sport: 32, dport: 34, version: undefined, proto: 37 },
} as const;

/** struct ethtool_rx_flow_spec that drops these packets, wherever the driver puts it; undefined: a NIC has none for them. */
export function flowSpec(match: HeaderMatch): Uint8Array | undefined {
  const { etherType, proto, source, target, sport, dport } = match;
  const spec = new Uint8Array(FLOW_SPEC.size);
  const view = new DataView(spec.buffer);
  view.setBigUint64(FLOW_SPEC.action, 0xffff_ffff_ffff_ffffn, true);
  const bytes = (at: number, { value, mask }: Masked): void => {
    spec.set(value, FLOW_SPEC.header + at);
    spec.set(mask, FLOW_SPEC.mask + at);
  };
  const number = (at: number, size: number, value: number): void => {
    const big = size === 1 ? [value] : [value >> 8, value & 0xff];
    bytes(at, { value: Uint8Array.from(big), mask: new Uint8Array(size).fill(0xff) });
  };
  const ip = etherType === 0x0800 ? 4 : etherType === 0x86dd ? 6 : undefined;
  if (ip === undefined || (proto ?? source ?? target) === undefined) {
    view.setUint32(FLOW_SPEC.type, ETHER_FLOW, true);
    number(ETHER_TYPE, 2, etherType);
    return spec;
  }
  const fields = FIELDS[ip];
  const flow = proto === undefined ? undefined : FLOWS[ip][proto];
  if (flow === undefined && (sport ?? dport) !== undefined) return undefined;
  view.setUint32(FLOW_SPEC.type, flow ?? USER_FLOW[ip], true);
  if (source !== undefined) bytes(fields.source, source);
  if (target !== undefined) bytes(fields.target, target);
  if (sport !== undefined) number(fields.sport, 2, sport);
  if (dport !== undefined) number(fields.dport, 2, dport);
  if (flow === undefined) {
    if (fields.version !== undefined) spec[FLOW_SPEC.header + fields.version] = IP4;
    if (proto !== undefined) number(fields.proto, 1, proto);
  }
  return spec;
}

/** Whether a NIC does with a rule what was asked: the same kind, fields, bits that count, and action. */
export function sameSpec(asked: Uint8Array, given: Uint8Array): boolean {
  const { type, header, mask, action, location } = FLOW_SPEC;
  const same = (from: number, to: number): boolean =>
    Buffer.compare(asked.subarray(from, to), given.subarray(from, to)) === 0;
  if (!same(type, header) || !same(mask, action) || !same(action, location)) return false;
  for (let at = header; at < mask; at++) {
    const bits = asked[mask + at - header];
    if (((asked[at] ^ given[at]) & bits) !== 0) return false;
  }
  return true;
}
