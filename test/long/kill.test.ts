import { expect } from 'vitest';
import { createLab } from '../../lab/lab.ts';
import { demoPlan } from '../../lab/plan.ts';
import { runTraffic } from '../../lab/traffic.ts';
import { seeded } from '../../src/packet/conversation.ts';
import { killAt } from '../sensor/killing.ts';
import { LogDir, pause } from '../sensor/run.ts';
import { kernelTest } from '../support/kernel.ts';

const FEATURES = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing', 'tcx'] as const;
const KILLS = 25;
/** A run is ready after about one second. */
const LATEST_MS = 2500;

kernelTest(
  'runs killed at any moment, from their very start on',
  [...FEATURES],
  async () => {
    await using lab = await createLab({ mbps: 200 });
    using logs = new LogDir();
    const traffic = new AbortController();
    const driven = runTraffic(lab, { ...demoPlan(600), maxBytes: 1e11 }, { signal: traffic.signal });
    const random = seeded(25);
    const kills = Array.from({ length: KILLS }, () => {
      const ms = random() * LATEST_MS;
      return { when: () => pause(ms), early: random() * LATEST_MS };
    });
    try {
      expect(await killAt(lab, logs, kills)).toBeGreaterThan(0);
    } finally {
      traffic.abort();
      await driven;
    }
  },
  600_000,
);
