import { writeSync } from 'node:fs';
import { parseArgs } from 'node:util';
import { seeded } from '../../../src/packet/conversation.ts';
import { Coverage } from '../../support/coverage.ts';
import { captureTargets } from './capture-targets.ts';
import type { Input, Target } from './input.ts';
import { mutate } from './mutate.ts';
import { packetTargets } from './packet-targets.ts';
import { plantedTargets } from './planted.ts';
import { serviceTargets } from './service-targets.ts';

/** What a run of one target came to. */
export interface TargetReport {
  target: string;
  inputs: number;
  bytes: number;
  /** Inputs that have reached something new, seeds included. */
  kept: number;
  /** The most that any block of ours ran for an input, per byte of it. */
  work: number;
  /** Which block. */
  where: string;
  /** Bytes of memory that one holder of state kept, at most. */
  held: number;
  failure?: { message: string; input: string };
}

export interface FuzzReport {
  targets: TargetReport[];
  blocks: Record<string, number>;
  /** Highest resident memory of the process, in bytes. */
  rss: number;
}

const GROUPS: Record<string, () => Promise<Target[]> | Target[]> = {
  services: serviceTargets,
  packets: packetTargets,
  captures: captureTargets,
  planted: plantedTargets,
};

/** What a target does between two looks at the coverage, each of which costs some milliseconds. */
const ROUND_MS = 120;
const ROUND_INPUTS = 2048;
/** However slow the machine is. */
const LEAST_INPUTS = 1000;
const MOST_KEPT = 2000;
const RECENT = 4;
/** An input, and each of its pieces, cost as much as so many bytes whatever they hold: objects are made, timers run. */
const INPUT_BYTES = 256;
const PIECE_BYTES = 32;
/** Inputs that are measured and weighed at the end: those that went furthest, as they are and so many times over. */
const MEASURED = 8;
const WEIGHED = 3;
const TIMES = 16;
const MAX_REPEATED = 1 << 19;
const HELD = 24;

const bytesIn = ({ pieces }: Input) => pieces.reduce((sum, { bytes }) => sum + bytes.length, 0);

const printed = ({ port, pieces }: Input) =>
  JSON.stringify({
    port,
    pieces: pieces.map(({ from, bytes }) => [from, Buffer.from(bytes).toString('base64')]),
  });

class Fuzzer {
  readonly report: TargetReport;
  readonly #target: Target;
  readonly #coverage: Coverage;
  readonly #random: () => number;
  readonly #kept: Input[];

  constructor(target: Target, coverage: Coverage, random: () => number) {
    this.#target = target;
    this.#coverage = coverage;
    this.#random = random;
    this.#kept = [...target.seeds];
    if (this.#kept.length === 0) throw new Error(`no seeds for ${target.name}`);
    this.report = { target: target.name, inputs: 0, bytes: 0, kept: 0, work: 0, where: '', held: 0 };
  }

  async seeds(): Promise<void> {
    for (const seed of this.#target.seeds) await this.#run(seed);
    this.#coverage.look();
  }

  async round(): Promise<void> {
    const inputs: Input[] = [];
    const until = performance.now() + ROUND_MS;
    while (inputs.length < ROUND_INPUTS && performance.now() < until) {
      const input = this.#next();
      inputs.push(input);
      await this.#run(input);
    }
    const { fresh } = this.#coverage.look();
    if (fresh.size > 0 && this.#kept.length < MOST_KEPT) await this.#keep(inputs, fresh);
    this.report.kept = this.#kept.length;
  }

  /** Runs them again, half by half, to learn whose the new blocks are. */
  async #keep(inputs: readonly Input[], fresh: Set<string>): Promise<void> {
    for (const input of inputs) await this.#run(input);
    const reached = this.#coverage.which(fresh);
    if (reached.length === 0) return;
    if (inputs.length === 1) {
      this.#kept.push(inputs[0]);
      for (const block of reached) fresh.delete(block);
      return;
    }
    const half = inputs.length >>> 1;
    await this.#keep(inputs.slice(0, half), fresh);
    if (fresh.size > 0) await this.#keep(inputs.slice(half), fresh);
  }

  #furthest(count: number): Input[] {
    const last = this.#kept.slice(-count);
    return [...last, ...last.map(repeated)];
  }

  /** What work grows with: the coverage counts. */
  async measure(): Promise<void> {
    this.#coverage.look();
    for (const input of this.#furthest(MEASURED)) {
      await this.#run(input);
      const { most, where } = this.#coverage.look();
      const work = most / (INPUT_BYTES + PIECE_BYTES * input.pieces.length + bytesIn(input));
      if (work <= this.report.work) continue;
      this.report.work = work;
      this.report.where = where;
    }
  }

  /** What a holder of state keeps. */
  weigh(): void {
    const target = this.#target;
    if (target.hold === undefined) return;
    for (const input of this.#furthest(WEIGHED)) {
      const before = memory();
      const held = Array.from({ length: HELD }, () => target.hold?.(input));
      const after = memory();
      this.report.held = Math.max(this.report.held, Math.round((after - before) / held.length));
    }
  }

  #next(): Input {
    const kept = this.#kept;
    const pick = (among: number) =>
      kept[kept.length - 1 - Math.floor(this.#random() * Math.min(among, kept.length))];
    // What was new last leads on most often.
    const parent = pick(this.#random() < 0.3 ? RECENT : kept.length);
    return mutate(parent, pick(kept.length), this.#target.ports, this.#random);
  }

  async #run(input: Input): Promise<void> {
    this.report.inputs++;
    this.report.bytes += bytesIn(input);
    try {
      await this.#target.run(input);
    } catch (error) {
      this.report.failure ??= { message: (error as Error).stack ?? String(error), input: printed(input) };
    }
  }
}

/** The same pieces over and over: what is not linear shows. */
function repeated({ port, pieces }: Input): Input {
  const times = Math.max(
    1,
    Math.min(TIMES, Math.floor(MAX_REPEATED / Math.max(1, bytesIn({ port, pieces })))),
  );
  return { port, pieces: Array.from({ length: times }, () => pieces).flat() };
}

function memory(): number {
  // Once for the objects, once more for the memory that they held.
  globalThis.gc?.();
  globalThis.gc?.();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

const { values } = parseArgs({
  options: { group: { type: 'string' }, seconds: { type: 'string' }, seed: { type: 'string' } },
});
const targets = await GROUPS[values.group ?? 'services']();
const coverage = new Coverage();
const fuzzers = targets.map(
  (target, i) => new Fuzzer(target, coverage, seeded(Number(values.seed ?? 1) * 1000 + i)),
);
for (const fuzzer of fuzzers) await fuzzer.seeds();
// All have their turns until the time is over, also when one has failed, and until each has had enough.
const until = performance.now() + Number(values.seconds ?? 10) * 1000;
while (performance.now() < until || fuzzers.some(({ report: { inputs } }) => inputs < LEAST_INPUTS))
  for (const fuzzer of fuzzers) await fuzzer.round();
for (const fuzzer of fuzzers) await fuzzer.measure();
const report: FuzzReport = {
  targets: fuzzers.map((fuzzer) => fuzzer.report),
  blocks: coverage.blocks(),
  rss: 0,
};
coverage.close();
for (const fuzzer of fuzzers) fuzzer.weigh();
report.rss = process.resourceUsage().maxRSS * 1024;
writeSync(1, `${JSON.stringify(report)}\n`);
