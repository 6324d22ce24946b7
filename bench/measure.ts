import { readFileSync } from 'node:fs';
import { cpus, release } from 'node:os';
import { KernelError } from '../src/kernel/index.ts';

/** What a measurement was taken on. */
export interface Machine {
  cpu: string;
  cpus: number;
  kernel: string;
  node: string;
}

export interface Column {
  /** Of the rows. */
  key: string;
  title: string;
  /** Digits behind the point of its numbers; 0 unless told. */
  digits?: number;
}

export interface Table {
  title: string;
  columns: Column[];
  rows: Record<string, string | number | undefined>[];
}

export interface BenchReport {
  bench: string;
  /** What gives the same measurement again, defaults spelled out. */
  command: string;
  machine: Machine;
  /** Time that it took in all. */
  seconds: number;
  tables: Table[];
  notes: string[];
}

/** What a measurement talks through while it runs. */
export interface BenchIo {
  progress(text: string): void;
  /** Stop at the next round; what was measured by then is reported. */
  readonly stop: AbortSignal;
}

export function machine(): Machine {
  const model = /^model name\s*:\s*(.*)$/m.exec(readFileSync('/proc/cpuinfo', 'utf8'))?.[1];
  const all = cpus();
  return {
    cpu: (model ?? all[0]?.model ?? 'unknown').trim(),
    cpus: all.length,
    kernel: release(),
    node: process.version,
  };
}

/** The value that `share` of the values do not exceed; NaN of none. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const at = share * (sorted.length - 1);
  const low = sorted[Math.floor(at)] ?? Number.NaN;
  const high = sorted[Math.ceil(at)] ?? Number.NaN;
  return low + (high - low) * (at - Math.floor(at));
}

export const median = (values: readonly number[]): number => quantile(values, 0.5);

/** CPU time of this thread in seconds; of the process where the runtime cannot tell threads apart (before 23.9). */
export function cpuSeconds(): number {
  const usage: { threadCpuUsage?(): NodeJS.CpuUsage; cpuUsage(): NodeJS.CpuUsage } = process;
  const { user, system } = usage.threadCpuUsage?.() ?? usage.cpuUsage();
  return (user + system) / 1e6;
}

/**
 * What a measurement finds; undefined when it was stopped: a signal ends system calls that run programs many times, before
 * anybody hears of it. @throws SluiceError of what went wrong by itself
 */
export async function untilStopped<T>(
  io: Pick<BenchIo, 'stop'>,
  measure: () => Promise<T>,
): Promise<T | undefined> {
  try {
    return await measure();
  } catch (error) {
    if (!(error instanceof KernelError) || error.errnoName !== 'EINTR') throw error;
    await turn();
    if (!io.stop.aborted) throw error;
    return undefined;
  }
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/**
 * Measures all cases in each round, beginning with another one each time, so that what slows the machine down for a
 * while hits all alike. Answers the values by case; index r of each is round r. The first round is thrown away.
 */
export async function interleaved<T>(
  cases: readonly T[],
  rounds: number,
  io: BenchIo,
  measure: (one: T) => number | Promise<number>,
): Promise<number[][]> {
  const values = cases.map((): number[] => []);
  for (let round = -1; round < rounds; round++) {
    io.progress(round < 0 ? 'warming up' : `round ${round + 1} of ${rounds}`);
    const found = cases.map(() => 0);
    for (let i = 0; i < cases.length; i++) {
      const at = (i + round + 1) % cases.length;
      found[at] = await measure(cases[at]);
      await turn();
      // Half a round is none: rounds are compared with each other.
      if (io.stop.aborted) return values;
    }
    if (round >= 0) for (const [at, value] of found.entries()) values[at]?.push(value);
  }
  return values;
}

/** Median of what `combine` gives round by round: ratios and differences within a round cancel the machine's moods. */
export function paired(
  a: readonly number[],
  b: readonly number[],
  combine: (x: number, y: number) => number,
): number {
  return median(a.map((x, round) => combine(x, b[round] ?? Number.NaN)));
}

export const ratio = (x: number, y: number): number => x / y;
export const difference = (x: number, y: number): number => x - y;

function cell(value: string | number | undefined, digits = 0): string {
  if (value === undefined) return '–';
  if (typeof value === 'string') return value;
  if (!Number.isFinite(value)) return '–';
  return value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

function tableText({ title, columns, rows }: Table): string {
  const lines = [
    columns.map((column) => column.title),
    ...rows.map((row) => columns.map(({ key, digits }) => cell(row[key], digits))),
  ];
  const right = columns.map(({ key }) => rows.some((row) => typeof row[key] === 'number'));
  const widths = columns.map((_, at) => Math.max(...lines.map((line) => (line[at] ?? '').length)));
  const text = lines.map((line) =>
    line
      .map((part, at) => (right[at] ? part.padStart(widths[at] ?? 0) : part.padEnd(widths[at] ?? 0)))
      .join('  ')
      .trimEnd(),
  );
  return `${title}\n  ${text.join('\n  ')}\n`;
}

export function reportText({ command, machine, seconds, tables, notes }: BenchReport): string {
  const { cpu, cpus, kernel, node } = machine;
  return [
    `${command}\n${cpu}, ${cpus} CPUs, Linux ${kernel}, Node ${node}; took ${seconds.toFixed(1)} s\n`,
    ...tables.map(tableText),
    ...(notes.length > 0 ? [notes.map((note) => `${note}\n`).join('')] : []),
  ].join('\n');
}
