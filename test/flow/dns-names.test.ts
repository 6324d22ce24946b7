import * as fc from 'fast-check';
import { expect, test } from 'vitest';
import { DnsNames } from '../../src/flow/dns-names.ts';
import { ipBytes } from '../../src/packet/address.ts';

const name = (text: string) => text.split('.').flatMap((label) => [label.length, ...Buffer.from(label)]);
const u16 = (n: number) => [n >> 8, n & 255];

interface Answer {
  owner?: number[];
  type: number;
  ttl: number;
  data: ArrayLike<number>;
}

function message(question: string, answers: readonly Answer[], flags = 0x8180): Uint8Array {
  const records = answers.flatMap(({ owner = [0xc0, 12], type, ttl, data }) => [
    ...owner,
    ...u16(type),
    ...u16(1),
    ...u16(Math.floor(ttl / 65_536)),
    ...u16(ttl % 65_536),
    ...u16(data.length),
    ...Array.from(data),
  ]);
  return Uint8Array.from([
    ...u16(7),
    ...u16(flags),
    ...u16(1),
    ...u16(answers.length),
    0,
    0,
    0,
    0,
    ...name(question),
    0,
    ...u16(1),
    ...u16(1),
    ...records,
  ]);
}

const a = (text: string, ttl = 3600): Answer => ({ type: 1, ttl, data: ipBytes(text) ?? [] });
const lookUp = (names: DnsNames, text: string, now: number) => {
  const bytes = ipBytes(text) ?? new Uint8Array(4);
  return names.nameOf(bytes, 0, bytes.length as 4 | 16, now);
};
const learn = (names: DnsNames, u8: Uint8Array, now: number) => names.learn(u8, 0, u8.length, now);

test('an answer tells which name led to its addresses, through aliases too', () => {
  const names = new DnsNames(10);
  const alias: Answer = { type: 5, ttl: 60, data: [...name('cdn.example'), 0] };
  const other = { ...a('192.0.2.1'), owner: [...name('cdn.example'), 0] };
  const six: Answer = { type: 28, ttl: 3600, data: ipBytes('2001:db8::9') ?? [] };
  learn(names, message('www.example', [alias, other, a('192.0.2.2'), six]), 100);
  for (const text of ['192.0.2.1', '192.0.2.2', '2001:db8::9'])
    expect(lookUp(names, text, 200)).toBe('www.example');
  expect(lookUp(names, '192.0.2.3', 200)).toBeUndefined();
  // The last answer counts, and each for at least five minutes.
  learn(names, message('new.example', [a('192.0.2.1', 5)]), 300);
  expect(lookUp(names, '192.0.2.1', 599)).toBe('new.example');
  expect(lookUp(names, '192.0.2.1', 601)).toBeUndefined();
});

test('questions, refusals and what is cut say nothing', () => {
  const names = new DnsNames(10);
  learn(names, message('www.example', [a('192.0.2.1')], 0x0100), 1);
  learn(names, message('www.example', [a('192.0.2.1')], 0x8183), 1);
  const whole = message('www.example', [a('192.0.2.1')]);
  for (let size = 0; size < whole.length; size++) names.learn(whole, 0, size, 1);
  expect(names.size).toBe(0);
});

test('what is kept is bounded: the oldest goes first', () => {
  const names = new DnsNames(3);
  for (let i = 1; i <= 5; i++) learn(names, message(`n${i}.example`, [a(`192.0.2.${i}`)]), i);
  expect(names.size).toBe(3);
  expect(lookUp(names, '192.0.2.2', 9)).toBeUndefined();
  expect(lookUp(names, '192.0.2.3', 9)).toBe('n3.example');
});

test('no bytes make it fail', () => {
  const names = new DnsNames(100);
  const whole = message('www.example', [a('192.0.2.1'), a('192.0.2.2')]);
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 200 }),
      fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255))),
      (u8, edits) => {
        learn(names, u8, 1);
        const changed = Uint8Array.from(whole);
        for (const [at, byte] of edits) changed[at] = byte;
        learn(names, changed, 1);
        expect(names.size).toBeLessThanOrEqual(100);
      },
    ),
  );
});
