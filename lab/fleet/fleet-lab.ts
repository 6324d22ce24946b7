import { SluiceError } from '../../src/base/errors.ts';
import { FLEET_PREFIX } from '../../src/fleet/statement.ts';
import { type AttackResult, attack, attackText, checkGoals } from './attack.ts';
import type { Signed } from './author.ts';
import { CASES, type CaseResult, spread } from './cases.ts';
import type { Landing } from './edge.ts';
import { SKEWED, Stand } from './stand.ts';

export interface FleetLabOptions {
  /** Simulated edges, those with wrong clocks among them. */
  readonly simulated: number;
  /** Rules whose spread is measured. */
  readonly rules: number;
  /** Seconds of an attack that detectors find through NATS; 0: none. */
  readonly attack: number;
  readonly progress: (text: string) => void;
  readonly stop: AbortSignal;
}

/** Seconds from before a rule is signed to when it is in force at an edge. */
export interface Spread {
  readonly landings: number;
  readonly p50: number;
  readonly p99: number;
  readonly most: number;
}

export interface FleetReport {
  readonly edges: { readonly real: number; readonly simulated: number };
  readonly rules: number;
  readonly spread: { readonly real: Spread; readonly simulated: Spread };
  readonly cases: readonly CaseResult[];
  /** Null: there was none, or it failed. */
  readonly attack: AttackResult | null;
  /** In the end: rules in force at all edges together, and packets dropped by them at the real ones. */
  readonly inForce: number;
  readonly dropped: number;
  /** What was not as it should be. */
  readonly failures: readonly string[];
  readonly figures: {
    /** Bytes of a signed rule, on average. */
    readonly statement: number;
    /** Bytes of memory of the server, and its share of a processor over the run. */
    readonly serverMemory: number;
    readonly serverCpu: number;
  };
  readonly seconds: number;
}

const PAUSE_MS = 250;
export const LEAST_SIMULATED = SKEWED + 2;

function at(sorted: readonly number[], share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? Number.NaN;
}

function spreadOf(stand: Stand, signed: readonly Signed[], real: boolean): Spread {
  const began = new Map(signed.map(({ id, revision, at }) => [`${id} ${revision}`, at]));
  const names = new Set(stand.edges.filter((edge) => edge.real === real).map(({ name }) => name));
  const first = new Map<string, Landing>();
  for (const landing of stand.landings()) {
    const key = `${landing.edge} ${landing.id} ${landing.revision}`;
    if (!first.has(key)) first.set(key, landing);
  }
  const sorted = [...first.values()]
    .flatMap(({ edge, id, revision, at }) => {
      const from = began.get(`${id} ${revision}`);
      return from === undefined || !names.has(edge) ? [] : [at - from];
    })
    .sort((a, b) => a - b);
  return {
    landings: sorted.length,
    p50: at(sorted, 0.5),
    p99: at(sorted, 0.99),
    most: sorted.at(-1) ?? Number.NaN,
  };
}

/**
 * A fleet on this machine: a NATS server, three gates with traffic and simulated edges; how fast rules spread, and what becomes of
 * them when things go wrong. The calling thread moves into a network namespace of its own and stays there. Ends by itself, after
 * one to three minutes; goes on after a case that fails, and reports it. @throws SluiceError LAB, PRIVILEGE when it cannot be made
 */
export async function runFleetLab(options: FleetLabOptions): Promise<FleetReport> {
  const began = performance.now();
  options.progress('server, gates and simulated edges are started');
  const stand = await Stand.make(options.simulated);
  const cases: CaseResult[] = [];
  const failures: string[] = [];
  try {
    const from = { cpu: stand.server.cpuSeconds(), at: performance.now() };
    options.progress(`${options.rules} rules are signed and spread`);
    const signed = await spread(stand, options.rules, PAUSE_MS);
    const cpu = (stand.server.cpuSeconds() - from.cpu) / ((performance.now() - from.at) / 1000);
    const memory = stand.server.memory();
    const spreads = { real: spreadOf(stand, signed, true), simulated: spreadOf(stand, signed, false) };
    const attempt = async (name: string, run: () => Promise<string>): Promise<void> => {
      if (options.stop.aborted) throw new SluiceError('LAB', 'it was asked to stop');
      options.progress(name);
      const since = performance.now();
      let shown: string;
      try {
        shown = await run();
      } catch (error) {
        const { message } = error as Error;
        failures.push(`${name}: ${message}`);
        shown = `FAILED: ${message}`;
      }
      cases.push({ name, shown, seconds: (performance.now() - since) / 1000 });
    };
    for (const { name, run } of CASES) await attempt(name, () => run(stand));
    let attacked: AttackResult | null = null;
    if (options.attack > 0)
      await attempt('a detector is killed', async () => {
        attacked = await attack(stand, options.attack);
        checkGoals(attacked);
        return attackText(attacked);
      });
    options.progress('what is in force is compared with what was signed');
    const states = await stand.states();
    failures.push(...stand.wrong(states));
    const rows = (await Promise.all(stand.real.map((edge) => edge.rules()))).flat();
    const dropping = rows.filter(({ id, dropped }) => id === `${FLEET_PREFIX}attack0` && dropped.pkts > 0);
    if (dropping.length < stand.real.length) failures.push('a gate drops nothing of what its rules name');
    const foreign = rows.filter(({ id }) => !id.startsWith(FLEET_PREFIX));
    for (const { id } of foreign) failures.push(`a gate has a rule ${id} that nobody has sent`);
    return {
      edges: { real: stand.real.length, simulated: options.simulated },
      rules: options.rules,
      spread: spreads,
      cases,
      attack: attacked,
      inForce: states.reduce((sum, { inForce }) => sum + inForce.size, 0),
      dropped: rows.reduce((sum, { dropped }) => sum + dropped.pkts, 0),
      failures,
      figures: {
        statement: signed.reduce((sum, { line }) => sum + line.length, 0) / signed.length,
        serverMemory: memory,
        serverCpu: cpu,
      },
      seconds: (performance.now() - began) / 1000,
    };
  } finally {
    await stand.close();
  }
}
