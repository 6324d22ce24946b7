import { expect } from 'vitest';
import { attackOf } from '../../bench/attack-traffic.ts';
import { attackLive, type LiveAttackOptions, type MitigationLine } from '../../bench/live-attack.ts';
import { surpriseOf, usualTraffic } from '../../bench/usual-traffic.ts';
import { eventually } from '../gate/daemon-support.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';

ownNetns();

/** Seconds for what takes one or two when the machine is quiet. */
const PATIENCE = 120;
/** Of the usual packets, at most so many may be dropped. */
const SPARED = 0.001;

const untilLogged = (log: () => MitigationLine[], event: string): Promise<MitigationLine> =>
  eventually(async () => log().find((line) => line.event === event), `nothing is ${event}`, PATIENCE);
const moment = (milliseconds: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, milliseconds));

const usual = usualTraffic(5, '198.51.100');
const [server] = usual.servers;
// Low enough that an attack is one on a slow machine too, and still learning.
const common: Omit<LiveAttackOptions, 'attack' | 'during'> = {
  usual: () => usual.packet(0),
  usualPps: 1000,
  attackPps: 10_000,
  before: 7,
  signal: new AbortController().signal,
  gateOptions: ['--min-pps', '400'],
};

for (const [kind, seed, isWatched] of [
  ['memcached-amplification', 12, true],
  ['dns-water-torture', 9, false],
] as const)
  kernelTest(
    `${kind} over usual traffic is dropped, the usual is not${isWatched ? ', and the rule goes with it' : ''}`,
    ['xdpFrags', 'syscallProgram', 'packetRing'],
    async () => {
      const attack = attackOf(kind, seed, server);
      const result = await attackLive({
        ...common,
        attack: attack.packet,
        during: async (log) => {
          await untilLogged(log, 'live');
          await moment(2000);
        },
        afterwards: async (log) => {
          if (!isWatched) return;
          await untilLogged(log, 'ended');
          await untilLogged(log, 'lifted');
        },
      });
      const told = result.log.filter((line) => line.attack === true);
      expect(told.map((line) => line.kind)).toContain(attack.kind);
      expect(told.map((line) => line.target)).toContain(attack.target);
      expect(result.firstDrop).toBeDefined();
      expect(result.droppedAll).toBeGreaterThan(0);
      // What the cable has lost on a machine with much to do was not dropped.
      const dropped = result.usualDropped * result.usualSent - result.lost;
      expect(dropped).toBeLessThanOrEqual(SPARED * result.usualSent);
    },
  );

kernelTest('a flash crowd gets no rule', ['xdpFrags', 'syscallProgram', 'packetRing'], async () => {
  const { log, attackSent, droppedAll, lost } = await attackLive({
    ...common,
    attack: surpriseOf('flash-crowd', 31, server, 0),
    during: async (lines) => {
      await untilLogged(lines, 'began');
      await moment(3000);
    },
  });
  expect(log.map(({ surprise }) => surprise)).toContain('flash-crowd');
  expect(log.filter(({ event }) => event === 'live')).toEqual([]);
  expect(droppedAll * attackSent).toBeLessThanOrEqual(lost);
});
