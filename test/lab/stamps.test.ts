import { expect } from 'vitest';
import { runTraffic, type TrafficPlan } from '../../lab/index.ts';
import { labTest, sameFrames, watchTap } from './support.ts';

const PLAN: TrafficPlan = {
  name: 'stamps',
  transfers: [
    { kind: 'tcp', bytes: 3_000_000, count: 3 },
    { kind: 'https', bytes: 500_000, family: 6, count: 3 },
    { kind: 'tcp', bytes: 3_000_000, family: 6, direction: 'upload' },
    { kind: 'dns', count: 20 },
  ],
};

const link = { seed: 7, drop: 0.002, duplicate: 0.01, reorder: 0.01 };

for (const [name, options] of Object.entries({
  'as they are': {},
  'from a bad link, with tags': { impair: link, vlan: { inner: 5, outer: 6 } },
})) {
  labTest(
    `both taps get one time stamp for each frame, ${name}`,
    { ...options, oneStamp: true },
    async (lab) => {
      const begin = Date.now() * 1000;
      const [a, b] = await Promise.all([watchTap(lab, 'a'), watchTap(lab, 'b')]);
      await lab.setPass('a', true);
      expect((await runTraffic(lab, PLAN)).errors).toEqual([]);
      const [first, second] = await Promise.all([a.stop(), b.stop()]);
      const end = Date.now() * 1000;
      expect(first.lost + second.lost).toBe(0);
      expect(first.frames.length).toBeGreaterThan(9000);
      expect(sameFrames(first.frames, second.frames)).toBe(true);
      expect(first.stamps).toEqual(second.stamps);
      // They are times, and those at which one frame after the other entered the hub.
      expect(first.stamps.every((stamp, i) => i === 0 || stamp >= (first.stamps[i - 1] ?? 0))).toBe(true);
      expect(first.stamps[0]).toBeGreaterThan(begin);
      expect(first.stamps.at(-1)).toBeLessThan(end);
    },
  );
}
