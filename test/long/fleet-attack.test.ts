import { expect } from 'vitest';
import { attack } from '../../lab/fleet/attack.ts';
import { Stand } from '../../lab/fleet/stand.ts';
import { kernelTest } from '../support/kernel.ts';

/** Of the attack. */
const SECONDS = 9;

kernelTest(
  'the attack of the fleet in the lab, on one gate: found through NATS, dropped, gone on with when its detector is killed, and over',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    const stand = await Stand.make(0, 1);
    try {
      const result = await attack(stand, SECONDS);
      expect(result.kind).toBe('ntp-amplification');
      expect(result.sent).toBeGreaterThan(0);
      expect(result.firstDrop).toHaveLength(1);
      expect(result.attackDropped).toBeGreaterThan(0);
      expect(result.takenOver).toBeGreaterThan(0);
      expect(stand.wrong(await stand.states())).toEqual([]);
      const [edge] = stand.real;
      expect((await edge.rules()).filter(({ id }) => id.includes('auto-'))).toEqual([]);
    } finally {
      await stand.close();
    }
  },
);
