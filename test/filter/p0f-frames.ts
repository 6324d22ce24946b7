/** TCP segments with all that p0f looks at, at random. */
import type { Frame } from './support.ts';

type Random = (n: number) => number;

/** Address of the client of segment `index`: p0f's log tells the segments apart by it. */
export const clientOf = (index: number, version: 4 | 6): string =>
  version === 4
    ? `10.${index >> 16}.${(index >> 8) & 255}.${index & 255}`
    : `2001:db8:0:0:0:0:0:${(index + 1).toString(16)}`;

const chance = (random: Random, oneIn: number) => random(oneIn) === 0;
const word = (value: number, bytes: number) =>
  Array.from({ length: bytes }, (_, i) => (value / 2 ** (8 * (bytes - 1 - i))) & 255);

const LAYOUTS = [
  'msf',
  'mstnw',
  'mnwnnts',
  'mnnsnw',
  'mnwnntse',
  'm',
  '',
  'mnwse',
  'wnmts',
  'mstuk',
  'mnk',
  'us',
];

function option(kind: string, random: Random, odd: boolean): number[] {
  const length = (right: number) => (odd && chance(random, 4) ? random(12) : right);
  switch (kind) {
    case 'm':
      return [2, length(4), ...word([1460, 1440, 1380, 536, 64, 0, 100, 8960][random(8)], 2)];
    case 'w':
      return [3, length(3), chance(random, 12) ? 15 : random(11)];
    case 's':
      return [4, length(2)];
    case 't':
      return [
        8,
        length(10),
        ...word(chance(random, 5) ? 0 : 1 + random(1e9), 4),
        ...word(chance(random, 6) ? 7 : 0, 4),
      ];
    case 'n':
      return [1];
    case 'k': {
      const blocks = 1 + random(2);
      return [5, length(2 + 8 * blocks), ...word(5, 8), ...(blocks > 1 ? word(9, 8) : [])];
    }
    case 'u': {
      const size = 2 + random(5);
      return [
        [30, 34, 254, 6][random(4)],
        length(size),
        ...Array.from({ length: size - 2 }, () => random(256)),
      ];
    }
    default: {
      const pad = Array.from({ length: random(4) }, () => (chance(random, 3) ? 5 : 0));
      return [0, ...pad];
    }
  }
}

function options(random: Random): number[] {
  const odd = chance(random, 4);
  let layout = LAYOUTS[random(LAYOUTS.length)];
  if (chance(random, 3)) layout = Array.from({ length: random(8) }, () => 'mmwstnnkue'[random(10)]).join('');
  if (chance(random, 40)) layout = 'n'.repeat(20 + random(12));
  let bytes = layout
    .split('')
    .flatMap((kind) => option(kind, random, odd))
    .slice(0, 40);
  // A header ends at a multiple of four: cut what does not fit, or fill it up.
  if (bytes.length % 4 !== 0) {
    if (odd && chance(random, 2)) bytes = bytes.slice(0, bytes.length - (bytes.length % 4));
    else while (bytes.length % 4 !== 0) bytes.push(chance(random, 2) ? 0 : 1);
  }
  return bytes;
}

/** A SYN, or the answer to one, from or to `clientOf(index, version)`. */
export function segment(random: Random, index: number, version: 4 | 6, answer: boolean): Frame {
  const opts = options(random);
  const mss = opts[0] === 2 && opts.length >= 4 ? opts[2] * 256 + opts[3] : 1460;
  const times = 1 + random(45);
  const window =
    [
      mss * times,
      (mss - 12) * times,
      1460 * times,
      1448 * times,
      1500 * times,
      (mss + 40) * times,
      1440 * times,
      1428 * times,
      (mss + 60) * times,
      65_535,
      8192,
      0,
      1337 * times,
      (mss + 40 + opts.length + (version === 6 ? 20 : 0)) * times,
    ][random(14)] & 0xffff;
  let flags = answer ? 0x12 : 0x02;
  if (chance(random, 15)) flags |= 0x08;
  if (chance(random, 15)) flags |= 0x20;
  if (chance(random, 10)) flags |= 0xc0;
  if (chance(random, 60)) flags |= 1 << random(3);
  const ack = answer ? (chance(random, 15) ? 0 : 1 + random(1e9)) : chance(random, 10) ? random(2 ** 32) : 0;
  const offset = (5 + opts.length / 4) << 4;
  const payload = chance(random, 10) ? Array.from({ length: 1 + random(6) }, () => 65) : [];
  const tcp = [
    ...word(answer ? 80 : 40_000, 2),
    ...word(answer ? 40_000 : 80, 2),
    ...word(chance(random, 15) ? 0 : 1 + random(1e9), 4),
    ...word(ack, 4),
    chance(random, 30) ? offset | random(16) : offset,
    flags,
    ...word(window, 2),
    0,
    0,
    ...word(chance(random, 15) ? 9 : 0, 2),
    ...opts,
    ...payload,
  ];
  const ttl = [64, 57, 128, 255, 33, 29, 28, 1, 65, 200][random(10)];
  const tos = chance(random, 6) ? random(256) : 0;
  const ip =
    version === 4
      ? ipv4(random, index, tcp.length, ttl, tos, answer)
      : ipv6(random, index, tcp.length, ttl, tos, answer);
  const ethernet = [
    ...Array.from<number>({ length: 12 }).fill(2),
    ...word(version === 4 ? 0x800 : 0x86dd, 2),
  ];
  const padding = Array.from<number>({ length: chance(random, 5) ? 6 : 0 }).fill(0);
  let bytes = Uint8Array.from([...ethernet, ...ip, ...tcp, ...padding]);
  const wire = bytes.length;
  if (chance(random, 40)) bytes = bytes.slice(0, bytes.length - 1 - random(8));
  return { bytes, wire, linkType: 1 };
}

function ipv4(
  random: Random,
  index: number,
  length: number,
  ttl: number,
  tos: number,
  answer: boolean,
): number[] {
  const optionBytes = chance(random, 12) ? 4 * (1 + random(3)) : 0;
  const client = clientOf(index, 4).split('.').map(Number);
  const server = [192, 0, 2, 1];
  let fragment = chance(random, 3) ? 0 : 0x4000;
  if (chance(random, 20)) fragment |= 0x8000;
  if (chance(random, 50)) fragment |= 0x2000;
  return [
    0x45 + optionBytes / 4,
    tos,
    ...word(20 + optionBytes + length, 2),
    ...word(chance(random, 3) ? 0 : 1 + random(65_535), 2),
    ...word(fragment, 2),
    ttl,
    6,
    0,
    0,
    ...(answer ? server : client),
    ...(answer ? client : server),
    ...Array.from<number>({ length: optionBytes }).fill(1),
  ];
}

function ipv6(
  random: Random,
  index: number,
  length: number,
  ttl: number,
  tos: number,
  answer: boolean,
): number[] {
  const client = [0x20, 1, 0x0d, 0xb8, ...word(0, 10), ...word(index + 1, 2)];
  const server = [0x20, 1, 0x0d, 0xb8, ...word(1, 8), ...word(1, 4)];
  const flow = chance(random, 2) ? 0 : 1 + random(0xfffff);
  return [
    0x60 | (tos >> 4),
    ((tos & 15) << 4) | (flow >> 16),
    ...word(flow & 0xffff, 2),
    ...word(length, 2),
    6,
    ttl,
    ...(answer ? server : client),
    ...(answer ? client : server),
  ];
}

const quiet: Random = () => 1;

/** A SYN without options in front of an answer: p0f looks at answers of connections only that it has seen begin. */
export function opening(answer: Frame, index: number, version: 4 | 6): Frame {
  const made = version === 4 ? ipv4(quiet, index, 20, 64, 0, false) : ipv6(quiet, index, 20, 64, 0, false);
  const tcp = [...word(40_000, 2), ...word(80, 2), 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 1, 1, 0, 0, 0, 0];
  const bytes = Uint8Array.from([...answer.bytes.subarray(0, 14), ...made, ...tcp]);
  return { bytes, wire: bytes.length, linkType: 1 };
}
