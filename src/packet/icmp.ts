/** Set in the port of the sender of an ICMP type that has no counterpart: A to B and B to A are flows of their own. */
export const ICMP_ONE_WAY = 0x8000;

const COUNTERPART4 = pairs([
  [8, 0],
  [13, 14],
  [15, 16],
  [10, 9],
  [17, 18],
]);
const COUNTERPART6 = pairs([
  [128, 129],
  [133, 134],
  [135, 136],
  [130, 131],
  [139, 140],
  [144, 145],
]);

function pairs(list: readonly (readonly [number, number])[]): Int16Array {
  const table = new Int16Array(256).fill(-1);
  for (const [a, b] of list) {
    table[a] = b;
    table[b] = a;
  }
  return table;
}

/**
 * The type that answers an ICMP (protocol 1) or ICMPv6 (58) type, or -1 when there is none. In a flow the type stands
 * for the sender's port and the counterpart for the other's, so that both directions have one key.
 */
export function icmpCounterpart(protocol: number, type: number): number {
  return (protocol === 1 ? COUNTERPART4 : COUNTERPART6)[type & 0xff];
}
