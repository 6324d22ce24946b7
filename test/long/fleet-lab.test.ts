import { expect } from 'vitest';
import { runFleetLab } from '../../lab/fleet/fleet-lab.ts';
import { kernelTest } from '../support/kernel.ts';

kernelTest(
  'a fleet of three gates and thirty simulated edges: nothing lost, nothing applied that should not be',
  [],
  async () => {
    const report = await runFleetLab({
      simulated: 30,
      rules: 10,
      attack: 0,
      progress: () => {},
      stop: new AbortController().signal,
    });
    expect(report.failures).toEqual([]);
    expect(report.cases.map(({ name }) => name)).toEqual([
      'repeated, out of order',
      'forged',
      'bad',
      'expired, withdrawn',
      'clocks',
      'partition',
      'server restart',
    ]);
    // Of ten rules two are for one site: 8 for each of 3 gates, and 1 each.
    expect(report.spread.real.landings).toBe(3 * 8 + 2);
    // Each of 30 edges but the two whose clocks are far behind and the two far ahead, for which rules of an hour are over.
    expect(report.spread.simulated.landings).toBeGreaterThanOrEqual(26 * 8);
    expect(report.spread.real.p99).toBeLessThan(60);
    expect(report.dropped).toBeGreaterThan(0);
    expect(report.inForce).toBeGreaterThan(29 * 10);
  },
);
