import { describe, expect, it } from 'vitest';
import { attackOf, dnsQuery, Random } from '../../bench/attack-traffic.ts';
import { type AttackRecord, Responder } from '../../src/mitigation/index.ts';
import { eth } from '../../src/packet/build.ts';
import { columnsOf } from './samples.ts';

const TARGET = '192.0.2.7';
const r = new Random(21);
const host = (): string => `198.51.${r.int(0, 255)}.${r.int(1, 254)}`;
const RATE = 6000;

const asks = (dport: number, payload: Uint8Array): Uint8Array =>
  eth()
    .ipv4({ src: TARGET, dst: host() })
    .udp({ sport: r.int(1024, 65_535), dport })
    .payload(payload)
    .bytes();
const answers = attackOf('snmp-amplification', 9, TARGET);
const usual = (): Uint8Array =>
  eth()
    .ipv4({ src: host(), dst: '192.0.2.9' })
    .tcp({ sport: r.int(1024, 65_535), dport: 443, flags: 'A' })
    .payload('x')
    .bytes();

/** What is said of SNMP answers to the target when it sends something else as often itself. */
function judged(beside: () => Uint8Array): AttackRecord[] {
  const records = new Map<string, AttackRecord>();
  const responder = new Responder((record) => records.set(record.id, record), { learning: 0.5 });
  const add = (begin: number, packets: readonly Uint8Array[]): void => {
    const columns = columnsOf(packets);
    for (let row = 0; row < columns.count; row++) columns.time[row] = (begin + row / RATE) * 1e9;
    responder.add(columns);
  };
  add(1_700_000_000, Array.from({ length: RATE }, usual));
  add(
    1_700_000_001,
    Array.from({ length: RATE }, (_, at) => (at % 2 === 0 ? answers.packet(0) : beside())),
  );
  return [...records.values()].filter(({ kind }) => kind === 'snmp-amplification');
}

describe('answers of a service', () => {
  it('are no attack when the target has asked that service', () => {
    const [record] = judged(() => asks(161, r.bytes(40)));
    expect(record.judgement).toMatchObject({ attack: false, surprise: 'answers' });
    expect(record.rules).toEqual([]);
  });

  it('are one when it has asked something else: a resolver under attack goes on asking names', () => {
    const name = [1, 97, 7, ...Buffer.from('example')];
    const [record] = judged(() => asks(53, dnsQuery(r, name)));
    expect(record.judgement.attack).toBe(true);
    expect(record.rules[0].expr).toContain('udp src port 161');
  });
});
