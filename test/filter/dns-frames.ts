/** DNS queries over IPv4 and IPv6, in VLANs, with options and extension headers. */
import type { Frame } from './support.ts';

export interface QueryOptions {
  version?: 4 | 6;
  /** EtherTypes of tags, outermost first. */
  tags?: number[];
  /** IPv6: types of extension headers in front of UDP; IPv4: any number of them stands for 4 bytes of options each. */
  extensions?: number[];
  port?: number;
  flags?: number;
  /** Questions, answers, authorities, additional. */
  counts?: [number, number, number, number];
  /** The flags and fragment offset of IPv4, or those of an IPv6 fragment header. */
  fragment?: number;
  /** Instead of the name. */
  rawName?: number[];
  /** Bytes cut off the end. */
  cut?: number;
  protocol?: number;
}

const ADDRESSES_4 = [10, 0, 0, 1, 10, 0, 0, 2];
const address6 = (last: number) => [0x20, 1, 0x0d, 0xb8, ...Array.from<number>({ length: 11 }).fill(0), last];
const word = (value: number) => [(value >> 8) & 255, value & 255];

/** A name on the wire; labels without escapes. */
export const wireName = (name: string): number[] => [
  ...name
    .split('.')
    .filter((label) => label !== '')
    .flatMap((label) => [label.length, ...Buffer.from(label, 'latin1')]),
  0,
];

/** A datagram with a query for the name. */
export function query(name: string, options: QueryOptions = {}): Frame {
  const { version = 4, tags = [], extensions = [], port = 53, flags = 0x0100, protocol = 17 } = options;
  const { counts = [1, 0, 0, 0], fragment = 0, rawName, cut = 0 } = options;
  const dns = [
    ...word(0x1234),
    ...word(flags),
    ...counts.flatMap(word),
    ...(rawName ?? wireName(name)),
    0,
    1,
    0,
    1,
  ];
  const udp = [...word(40_000), ...word(port), ...word(8 + dns.length), 0, 0, ...dns];
  let ip: number[];
  if (version === 4) {
    const bytes = 20 + 4 * extensions.length;
    ip = [
      0x40 | (bytes / 4),
      0,
      ...word(bytes + udp.length),
      ...word(7),
      ...word(fragment),
      64,
      protocol,
      0,
      0,
      ...ADDRESSES_4,
      ...extensions.flatMap(() => [1, 1, 1, 1]),
    ];
  } else {
    const headers = extensions.flatMap((type, index) => {
      const next = extensions[index + 1] ?? protocol;
      if (type === 44) return [next, 0, ...word(fragment), 0, 0, 0, 9];
      if (type === 51) return [next, 4, ...Array.from<number>({ length: 22 }).fill(0)];
      // A routing header of an experiment, with no segments left; options with padding.
      if (type === 43) return [next, 0, 253, 0, 0, 0, 0, 0];
      return [next, 1, 1, 12, ...Array.from<number>({ length: 12 }).fill(0)];
    });
    ip = [
      0x60,
      0,
      0,
      0,
      ...word(headers.length + udp.length),
      extensions[0] ?? protocol,
      64,
      ...address6(1),
      ...address6(2),
      ...headers,
    ];
  }
  const types = [...tags, version === 4 ? 0x0800 : 0x86dd];
  const ethernet = [
    ...Array.from<number>({ length: 12 }).fill(2),
    ...types.flatMap((type, i) => [...word(type), ...(i < tags.length ? word(100 + i) : [])]),
  ];
  const whole = Uint8Array.from([...ethernet, ...ip, ...udp]);
  const bytes = whole.slice(0, whole.length - cut);
  return { bytes, wire: whole.length, linkType: 1 };
}
