import { existsSync } from 'node:fs';
import { expect } from 'vitest';
import { createLab } from '../../lab/lab.ts';
import { demoPlan } from '../../lab/plan.ts';
import { runTraffic } from '../../lab/traffic.ts';
import { seeded } from '../../src/packet/conversation.ts';
import { expectOneRecordEach, killAt, killOften } from '../sensor/killing.ts';
import { LogDir, pause, places, tapLink } from '../sensor/run.ts';
import { kernelTest, until } from '../support/kernel.ts';

const FEATURES = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing', 'tcx'] as const;
const KILLS = 200;
/** A run is ready after about one second. */
const LATEST_MS = 1800;
/** After so many kills a run is looked at whole: what it goes on with, what it removes. */
const LOOK_EVERY = 20;

kernelTest(
  'runs killed at any moment under load, from their very start on',
  [...FEATURES],
  async () => {
    await using lab = await createLab({ mbps: 200 });
    using logs = new LogDir();
    const traffic = new AbortController();
    const driven = runTraffic(lab, { ...demoPlan(1790), maxBytes: 1e11 }, { signal: traffic.signal });
    const random = seeded(25);
    let recovered = 0;
    let dropped = 0;
    try {
      for (let kills = 0; kills < KILLS; kills += LOOK_EVERY) {
        // One of them is killed in the middle of its work, and the one after it is looked at.
        await killOften(lab, logs, LOOK_EVERY - 1, () => random() * LATEST_MS);
        const when = async (): Promise<void> => {
          const started = logs.shunts('start');
          await until(() => logs.shunts('start') > started, 'nothing is shunted');
          await pause(random() * LATEST_MS);
        };
        const last = await killAt(lab, logs, [{ when }]);
        recovered += last.recovered;
        dropped += last.dropped;
      }
    } finally {
      traffic.abort();
      await driven;
    }
    expect(recovered).toBeGreaterThan(KILLS / LOOK_EVERY);
    expect(dropped).toBeGreaterThan(1000);
    expectOneRecordEach(logs);
    const { ifindex } = await tapLink(lab, 'a');
    const { pins, lock } = places(ifindex, lab.namespace('tapA').inode);
    expect(existsSync(pins) || existsSync(lock)).toBe(false);
  },
  1_800_000,
);
