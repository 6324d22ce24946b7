import { describe, expect, it } from 'vitest';
import { simulate } from '../../bench/mitigation-run.ts';
import { madeAttack, TOOLS } from '../../bench/tool-attacks.ts';
import { usualTraffic } from '../../bench/usual-traffic.ts';

const common = { usualPps: 4000, attackPps: 20_000, every: 20, before: 12, during: 4 } as const;

describe.each([311, 70_021])('attacks as tools make them, with seed %i', (seed) => {
  it.each(TOOLS)('%s is named and held back, and the usual goes through', (tool) => {
    const usual = usualTraffic(seed, '198.51.100');
    const attack = madeAttack(tool, seed, usual.servers[0]);
    const result = simulate({ ...common, usual: usual.packet, attack: attack.packet, seed });
    const found = result.records.filter(({ judgement }) => judgement.attack);
    expect(found.map(({ kind, target }) => ({ kind, target }))).toContainEqual({
      kind: attack.kind,
      target: attack.target,
    });
    expect(result.firstDrop).toBeLessThan(2);
    expect(result.droppedAfter).toBeGreaterThan(0.99);
    expect(result.usualDropped).toBeLessThanOrEqual(0.001);
  });
});
