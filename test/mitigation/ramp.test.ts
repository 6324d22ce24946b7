import { expect, it } from 'vitest';
import { Detector, KINDS } from '../../src/mitigation/index.ts';
import { eth } from '../../src/packet/build.ts';
import { columnsOf } from './samples.ts';

const TICK = 0.25;
const START = 1_700_000_000;
const usual = (at: number): Uint8Array =>
  eth()
    .ipv4({ src: `198.51.100.${1 + (at % 200)}`, dst: '192.0.2.1' })
    .tcp({ sport: 1024 + at, dport: 443, flags: 'S' })
    .bytes();
const some = (count: number): Uint8Array[] => Array.from({ length: count }, (_, at) => usual(at));
const flood = (at: number, flags: string | undefined): Uint8Array => {
  const ip = eth().ipv4({ src: `203.0.113.${1 + (at % 200)}`, dst: '192.0.2.9' });
  return flags === undefined
    ? ip
        .udp({ sport: 161, dport: 1024 + at })
        .payload(40)
        .bytes()
    : ip.tcp({ sport: 1024 + at, dport: 80, flags }).bytes();
};

/** Packets a second, tick by tick, of an attack that does not begin with all that it has. */
const RAMPS = [
  ['in the middle of a tick', [950, 20_000]],
  ['on a machine that does not send faster at first', [900, 3500, 9000, 20_000]],
] as const;

const CASES = RAMPS.flatMap(([when, rates]) => [
  { kind: 'snmp-amplification', flags: undefined, when, rates },
  { kind: 'ack-flood', flags: 'A', when, rates: rates.map((rate) => Math.min(20_000, 2.9 * rate)) },
]);

it.each(CASES)('$kind is not taken for usual when it begins $when', ({ kind, flags, rates }) => {
  const began: string[] = [];
  const detector = new Detector({
    began: ({ track }) => began.push(KINDS[track.kind].name),
    lasts: () => {},
    ended: () => {},
  });
  let now = START;
  const tick = (frames: readonly Uint8Array[]): void => {
    const columns = columnsOf(frames);
    for (let row = 0; row < columns.count; row++)
      columns.time[row] = (now + (TICK * row) / columns.count) * 1e9;
    detector.add(columns);
    now += TICK;
    detector.advance(now * 1e9);
  };
  for (let i = 0; i < 32; i++) tick(some(120));
  expect(began).toEqual([]);
  for (const rate of rates)
    tick([...some(120), ...Array.from({ length: rate * TICK }, (_, at) => flood(at, flags))]);
  expect([...new Set(began)]).toEqual([kind]);
});
