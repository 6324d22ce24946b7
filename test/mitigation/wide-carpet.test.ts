import { expect, it } from 'vitest';
import { Random } from '../../bench/attack-traffic.ts';
import { type AttackRecord, Responder } from '../../src/mitigation/index.ts';
import { eth } from '../../src/packet/build.ts';
import { columnsOf } from './samples.ts';

/** Packets a second of each. */
const USUAL = 600;
const ATTACK = 4000;

it('datagrams spread over an IPv6 prefix wider than /48 are one attack, on no more than they are spread over', () => {
  const r = new Random(8);
  const hex = (): string => r.int(0, 0xffff).toString(16);
  const usual = (): Uint8Array =>
    eth()
      .ipv6({ src: `2001:db8:9:${hex()}::${hex()}`, dst: `2001:db8:${r.pick(['4000', '4001', 'b000'])}::1` })
      .tcp({ sport: r.int(1024, 65_535), dport: 443, flags: 'A' })
      .payload('x')
      .bytes();
  // The half of the /32 whose first bit is 0.
  const attack = (): Uint8Array =>
    eth()
      .ipv6({
        src: `2a00:${hex()}::${hex()}`,
        dst: `2001:db8:${r.int(0, 0x7fff).toString(16)}:${hex()}::${hex()}`,
      })
      .udp({ sport: r.int(1024, 65_535), dport: r.int(1, 65_535) })
      .payload(64)
      .bytes();
  const records = new Map<string, AttackRecord>();
  const responder = new Responder((record) => records.set(record.id, record), { learning: 2 });
  const add = (begin: number, seconds: number, pps: number, next: () => Uint8Array): void => {
    const columns = columnsOf(Array.from({ length: seconds * pps }, next));
    for (let row = 0; row < columns.count; row++) columns.time[row] = (begin + row / pps) * 1e9;
    responder.add(columns);
  };
  add(1_700_000_000, 4, USUAL, usual);
  expect(records.size).toBe(0);
  const all = ATTACK + USUAL;
  add(1_700_000_004, 2, all, () => (r.chance(ATTACK / all) ? attack() : usual()));
  const found = [...records.values()];
  expect(found.map(({ kind, target }) => `${kind} ${target}`)).toEqual(['udp-flood 2001:db8::/32']);
  const [{ rules, uncovered, judgement }] = found;
  expect(judgement.attack).toBe(true);
  expect(rules[0].action.kind).toBe('drop');
  expect(rules[0].expr).toContain('dst net 2001:db8::/33');
  expect(uncovered).toBeLessThan(0.02);
  expect(rules[0].toTarget.matched).toBe(0);
});
