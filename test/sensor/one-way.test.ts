import { expect, test } from 'vitest';
import { IpProto } from '../../src/packet/decode.ts';
import { isOneWay, OneWayWatch } from '../../src/sensor/one-way.ts';

const record = (packets: number, others: number, history: string, ipProto: number = IpProto.tcp) =>
  [ipProto, packets, others, history] as const;

test.each<[string, ReturnType<typeof record>, boolean | undefined]>([
  ['both sides', record(5, 4, 'ShADadFf'), false],
  ['the client alone, which acknowledges what nobody has seen', record(6, 0, 'SADF'), true],
  ['the server alone', record(0, 6, '^hadf'), true],
  ['a connection that was there before', record(9, 0, 'DA'), true],
  ['a scan that nobody answers', record(7, 0, 'S'), undefined],
  ['answers to a forged address', record(0, 6, '^h'), undefined],
  ['refused, again and again', record(4, 4, 'Sr'), undefined],
  ['too short to tell', record(3, 0, 'SAD'), undefined],
  ['no TCP', record(50, 0, 'D', IpProto.udp), undefined],
])('one-way or not: %s', (_name, of, expected) => {
  expect(isOneWay(...of)).toBe(expected);
});

test('told from a tenth on, taken back below a twentieth, of 20 connections at least', () => {
  const watch = new OneWayWatch();
  expect(watch.look(19, 19)).toBeUndefined();
  expect(watch.look(20, 20)).toEqual({ raised: true, share: 1, of: 20 });
  // Between the two nothing is said again.
  expect(watch.look(40, 21)).toBeUndefined();
  expect(watch.look(59, 21)).toBeUndefined();
  expect(watch.look(140, 25)).toEqual({ raised: false, share: 0.04, of: 100 });
  expect(watch.look(240, 34)).toBeUndefined();
  expect(watch.look(340, 44)).toEqual({ raised: true, share: 0.1, of: 100 });
});
