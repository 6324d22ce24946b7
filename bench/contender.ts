import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A program that reads a capture file, run as a process of its own. */
export interface Contender {
  name: string;
  command: string;
  args: (file: string, dir: string) => string[];
  /** Connections or flows that it counted, by what it printed. */
  flows?: (output: string) => number | undefined;
  /** Far slower than the others: one run is enough. */
  once?: boolean;
}

export interface Run {
  seconds: number;
  /** Processor time, user and system, of all its threads. */
  cpuSeconds: number;
  /** Most memory; sampled, so that the last instants may be missing. */
  peakMiB: number;
  flows: number | undefined;
}

/** Longest run. */
const LIMIT_MS = 120_000;
const SAMPLE_MS = 20;
const MOST_OUTPUT = 65_536;
const env = { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin` };
/** Keeps the command's exit status and leaves its processor time in $0; `exec` is not to be used, for times are of children. */
const SCRIPT = '"$@"; status=$?; times >"$0"; exit $status';

export function isInstalled(command: string): boolean {
  return spawnSync('sh', ['-c', 'command -v "$0"', command], { env, stdio: 'ignore' }).status === 0;
}

/** Seconds in the second line of `times`: user and system time of children, as 0m1.25s. */
function childSeconds(path: string): number {
  const line = readFileSync(path, 'utf8').split('\n')[1] ?? '';
  let sum = 0;
  for (const [, minutes = '0', seconds = '0'] of line.matchAll(/(\d+)m([\d.]+)s/g))
    sum += Number(minutes) * 60 + Number(seconds);
  return sum;
}

/** Peak resident memory so far of a process and its children, the largest single one. */
function peakKiB(pid: number): number {
  let peak = 0;
  try {
    for (const task of readdirSync(`/proc/${pid}/task`))
      for (const child of readFileSync(`/proc/${pid}/task/${task}/children`, 'utf8').split(' '))
        if (child !== '') peak = Math.max(peak, peakKiB(Number(child)));
    const own = /^VmHWM:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1];
    return Math.max(peak, Number(own ?? 0));
  } catch {
    // It has ended in between.
    return peak;
  }
}

/**
 * Runs it once over a file, on one processor (the first one that this process may use). Undefined when it fails or
 * takes longer than two minutes.
 */
export async function run(contender: Contender, file: string): Promise<Run | undefined> {
  const dir = mkdtempSync(join(tmpdir(), 'sluice-reader-'));
  try {
    const times = join(dir, '.times');
    const command = ['sh', '-c', SCRIPT, times, contender.command, ...contender.args(file, dir)];
    const pinned = isInstalled('taskset') ? ['taskset', '-c', firstCpu(), ...command] : command;
    const begin = performance.now();
    const child = spawn(pinned[0] ?? '', pinned.slice(1), {
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
      timeout: LIMIT_MS,
    });
    let output = '';
    const keep = (text: Buffer): void => {
      if (output.length < MOST_OUTPUT) output += text.toString();
    };
    child.stdout.on('data', keep);
    child.stderr.on('data', keep);
    let peak = 0;
    const sampler = setInterval(() => {
      if (child.pid !== undefined) peak = Math.max(peak, peakKiB(child.pid));
    }, SAMPLE_MS);
    const status = await new Promise<number | null>((resolve) => {
      child.on('error', () => resolve(null));
      child.on('close', resolve);
    });
    const seconds = (performance.now() - begin) / 1000;
    clearInterval(sampler);
    if (status !== 0) return undefined;
    return {
      seconds,
      cpuSeconds: childSeconds(times),
      peakMiB: peak / 1024,
      flows: contender.flows?.(output),
    };
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}

function firstCpu(): string {
  return /^Cpus_allowed_list:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0';
}
