import { describe, expect, test } from 'vitest';
import { MQTT } from '../../../src/flow/services/mqtt.ts';
import { C, feed, hex, S, type Said, stands, suggested, verdict } from './support.ts';

const connect = Buffer.concat([
  hex('10 10 0004'),
  Buffer.from('MQTT'),
  hex('04 02 003c 0004'),
  Buffer.from('abcd'),
]);
const old = Buffer.concat([
  hex('10 12 0006'),
  Buffer.from('MQIsdp'),
  hex('03 02 003c 0004'),
  Buffer.from('abcd'),
]);
const long = Buffer.concat([hex('10 d204 0004'), Buffer.from('MQTT'), hex('05 02 003c'), Buffer.alloc(584)]);

describe('mqtt', () => {
  const session: Said[] = [C(connect), S(hex('20 02 0000')), C(hex('c0 00'))];
  stands(MQTT, { session, old: [C(old)], long: [C(long)] });

  test('confirmed by the CONNECT', () => {
    for (const first of [connect, old, long]) expect(verdict(feed(MQTT, [C(first)]))).toBe('confirmed');
  });

  test('other protocols', () => {
    expect(verdict(feed(MQTT, [C(hex('10 0c 0004 58585858 04 02 003c 0000'))]))).toBe('rejected');
    expect(suggested(MQTT, [C(hex('10 0c 0004 58585858'))])).toBe(false);
    expect(suggested(MQTT, [C('GET /')])).toBe(false);
  });
});
