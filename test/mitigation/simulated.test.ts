import { describe, expect, it } from 'vitest';
import { attackOf } from '../../bench/attack-traffic.ts';
import { type SimulationOptions, simulate } from '../../bench/mitigation-run.ts';
import { surpriseOf, usualTraffic } from '../../bench/usual-traffic.ts';
import { Responder } from '../../src/mitigation/index.ts';
import { eth } from '../../src/packet/build.ts';
import { columnsOf } from './samples.ts';

const usual = () => usualTraffic(77, '198.51.100');
const common = { usualPps: 6000, attackPps: 30_000, every: 60, before: 6.5, during: 3, seed: 5 } as const;
const run = (more: Partial<SimulationOptions> & Pick<SimulationOptions, 'attack'>) =>
  simulate({ ...common, usual: usual().packet, ...more });

describe('an attack of random parameters', () => {
  it.each(['syn-flood', 'carpet-udp'])('%s is held back', (kind) => {
    const attack = attackOf(kind, 4242, usual().servers[0]);
    const result = run({ attack: attack.packet });
    expect(result.records.map((record) => record.kind)).toContain(attack.kind);
    expect(result.records.map((record) => record.target)).toContain(attack.target);
    expect(result.firstDrop).toBeLessThan(1);
    expect(result.droppedAfter).toBeGreaterThan(0.98);
    expect(result.usualDropped).toBeLessThan(0.005);
  });

  it('is over when it is over, and comes again', () => {
    const attack = attackOf('udp-flood', 6, usual().servers[0]);
    // ARP, of which nothing is counted.
    const arp = eth({ type: 0x0806 }).payload(46).bytes();
    const result = run({
      attack: (at) => (at < 2 || at > 5 ? attack.packet(at) : arp),
      during: 7,
      detector: { quiet: 1 },
    });
    expect(result.records.map(({ kind, ended }) => [kind, ended === undefined])).toEqual([
      ['udp-flood', false],
      ['udp-flood', true],
    ]);
  });
});

it('is noticed after the clock was set back', () => {
  const { servers, packet } = usual();
  const attack = attackOf('memcached-amplification', 3, servers[0]);
  const told: string[] = [];
  const responder = new Responder((record) => told.push(record.kind), { learning: 0.5 });
  const add = (frames: readonly Uint8Array[], begin: number): void => {
    const columns = columnsOf(frames);
    for (let row = 0; row < columns.count; row++) {
      columns.time[row] = (begin + row / 2000) * 1e9;
    }
    responder.add(columns);
  };
  add(
    Array.from({ length: 2000 }, () => packet(0)),
    1_700_000_000,
  );
  add(
    Array.from({ length: 3000 }, (_, i) => attack.packet(i)),
    1_600_000_000,
  );
  expect(told).toContain('memcached-amplification');
});

describe('what only looks like an attack', () => {
  it.each(['flash-crowd', 'scan'] as const)('%s is let through', (kind) => {
    const result = run({ attack: surpriseOf(kind, 31, usual().servers[0]) });
    expect(result.droppedAll).toBe(0);
    expect(result.records.length).toBeGreaterThan(0);
    expect(result.records.flatMap(({ rules }) => rules)).toEqual([]);
  });

  it('is not found in what is usual', () => {
    expect(run({ attack: undefined, during: 1 }).records).toEqual([]);
  });
});
