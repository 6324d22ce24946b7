import { existsSync } from 'node:fs';
import { expect } from 'vitest';
import { type Attacking, attackOf, Random } from '../../bench/attack-traffic.ts';
import { attackLive, type MitigationLine } from '../../bench/live-attack.ts';
import { usualTrace } from '../../bench/usual-trace.ts';
import { findPlace } from '../../src/gate/control-places.ts';
import type { RuleRow } from '../../src/gate/control-protocol.ts';
import { eventually } from '../gate/daemon-support.ts';
import { sluice } from '../support/command.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';

ownNetns();

/** Seconds for what takes one or two when the machine is quiet. */
const PATIENCE = 100;
const SEED = 54;
/** One of each sort: flags of TCP, amplification, fragments, a carpet, names. */
const KINDS = ['rst-flood', 'cldap-amplification', 'fragment-flood', 'carpet-udp', 'dns-water-torture'];
const MOST_USUAL = 0.001;

interface Counted {
  readonly pkts: number;
}

const isOf =
  ({ kind, target }: Attacking) =>
  (line: MitigationLine): boolean =>
    line.event !== 'ended' && line.attack === true && line.kind === kind && line.target === target;

/** Lines that say that a rule is in force, of one attack or of all. */
const livesOf = (log: readonly MitigationLine[], id?: string): MitigationLine[] =>
  log.filter((line) => line.event === 'live' && (id === undefined || line.id === id));

kernelTest(
  'attacks of each sort at once, over captured traffic: each is named and met by rules of its own, which are lifted when it is over; usual packets pass',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    const trace = usualTrace(undefined, process.env);
    const usual = trace.of(SEED);
    const targets = [usual.servers[0], usual.servers[1], '192.0.2.77', '203.0.113.9', '192.0.2.53'];
    const attacks = KINDS.map((kind, at) => attackOf(kind, SEED + at, targets[at]));
    const r = new Random(SEED);
    let gate = '';
    const result = await attackLive({
      usual: () => usual.packet(0),
      attack: (at) => r.pick(attacks).packet(at),
      usualPps: 1000,
      attackPps: 30_000,
      // Until it has learned for long enough, which it writes down.
      before: async (name) => {
        gate = name;
        const { baseline } = findPlace(name);
        await eventually(async () => existsSync(baseline) || undefined, 'nothing is learned', PATIENCE);
      },
      // Until each has rules, and these have met some of it.
      during: async (log) => {
        await eventually(
          async () => {
            const lines = log();
            const began = attacks.map((one) => lines.find(isOf(one))?.id);
            if (began.some((id) => id === undefined || livesOf(lines, id).length === 0)) return undefined;
            const { stdout } = await sluice('rule', 'ls', '-i', gate, '--json');
            const matched = new Map(
              (JSON.parse(stdout) as RuleRow[]).map((row) => [row.id, row.matched.pkts]),
            );
            const met = (id: string | undefined): boolean =>
              livesOf(lines, id).some((line) => (matched.get(String(line['rule'])) ?? 0) > 0);
            return began.every(met) || undefined;
          },
          'not all are answered',
          PATIENCE,
        );
      },
      afterwards: async (log) => {
        await eventually(
          async () => {
            const lines = log();
            const lifted = new Set(
              lines.filter(({ event }) => event === 'lifted').map((line) => line['rule']),
            );
            return livesOf(lines).every((line) => lifted.has(line['rule'])) || undefined;
          },
          'rules are not lifted',
          PATIENCE,
        );
      },
      signal: new AbortController().signal,
    });
    const { log, booked, lost, usualSent, usualDropped } = result;
    const wrong = log.filter(({ event, attack }) => event === 'began' && attack === true);
    // Queries for random names are queries to their server as well.
    const known = [
      ...attacks.map(({ kind, target }) => `${kind} ${target}`),
      `dns-query-flood ${targets[4]}`,
    ];
    expect(
      wrong.map(({ kind, target }) => `${kind} ${target}`).filter((text) => !known.includes(text)),
    ).toEqual([]);

    const lifted = log.filter(({ event }) => event === 'lifted');
    // What the rules say they have dropped is what the gate has in its books.
    expect(lifted.reduce((sum, line) => sum + (line['dropped'] as Counted).pkts, 0)).toBe(booked);
    // What was lost beside rules, on a machine that was too slow, may have been usual packets.
    expect(usualSent * usualDropped).toBeLessThanOrEqual(MOST_USUAL * usualSent + lost);
  },
);
