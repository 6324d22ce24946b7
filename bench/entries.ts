import { readFileSync } from 'node:fs';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout } from 'node:timers/promises';
import { readEntry } from '../src/gate/entry.ts';
import { bpfObjectPath } from '../src/gate/kind.ts';
import type { OpName } from '../src/gate/ops.ts';
import { type BenchIo, cpuSeconds, interleaved, median, quantile, type Table } from './measure.ts';
import { GateTables } from './tables.ts';

const ENTRIES = 1_000_000;
/** Looks at the kernel's memory in a row that must not find less. */
const SETTLED = 12;
const IDLE_MS = 500;

/** One turn of filling a table and reading it. */
interface Turn {
  /** Bytes for each entry: as the kernel accounts for the map, and by which its memory has grown. */
  accounted: number;
  grown: number;
  /** Entries per second of CPU time. */
  armed: number;
  flipped: number;
  added: number;
  /** Reading and decoding all of them. */
  dumpMs: number;
  p50: number;
  p99: number;
  max: number;
  /** Of a loop that does nothing, right before: what is the machine's and not ours. */
  idleP99: number;
}

/** Memory of the kernel that tables lie in, in bytes: large allocations, and those for each CPU. */
function kernelMemory(): number {
  const text = readFileSync('/proc/meminfo', 'utf8');
  const of = (name: string): number => Number(new RegExp(`^${name}:\\s+(\\d+) kB`, 'm').exec(text)?.[1] ?? 0);
  return (of('VmallocUsed') + of('Percpu')) * 1024;
}

/** The same once what was given back has arrived: maps are freed some time after they are closed. */
async function settledMemory(): Promise<number> {
  let least = kernelMemory();
  for (let quiet = 0; quiet < SETTLED; quiet++) {
    await setTimeout(50);
    const now = kernelMemory();
    if (now < least) quiet = 0;
    least = Math.min(least, now);
  }
  return least;
}

/** What a map takes, as the kernel tells (since Linux 6.4 what it has in fact allocated). */
function accountedBytes(fd: number): number {
  return Number(/^memlock:\s*(\d+)/m.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1]);
}

/** Keys of `count` TCP connections, none like another, one after the other in the same memory. */
export function* keysOf(family: 4 | 6, count: number): Generator<Uint8Array> {
  const key = new Uint8Array(family === 4 ? 16 : 48);
  const view = new DataView(key.buffer);
  const size = family === 4 ? 4 : 16;
  key[0] = family === 4 ? 10 : 0x20;
  key[size] = family === 4 ? 192 : 0x20;
  key[size + 1] = 1;
  view.setUint16(2 * size + 2, 443);
  key[2 * size + 4] = 6;
  for (let n = 0; n < count; n++) {
    view.setUint16(size - 2, n >>> 14);
    view.setUint16(2 * size, 40_000 + (n & 0x3fff));
    yield key;
  }
}

/** One kind of change for so many entries, in batches; CPU seconds. */
export function changeAll(tables: GateTables, family: 4 | 6, name: OpName, count: number): number {
  const { ops, owner } = tables.client;
  const begun = cpuSeconds();
  let failed = 0;
  let n = 0;
  const run = (): void => {
    ops.run();
    for (let row = 0; row < ops.count; row++) if (ops.result(row) !== 0) failed++;
    ops.clear();
  };
  ops.clear();
  for (const key of keysOf(family, count)) {
    ops.push(name, family, key, owner, 300_000, n++, NOTHING, NOTHING);
    if (ops.full) run();
  }
  run();
  const seconds = cpuSeconds() - begun;
  if (failed > 0) throw new Error(`${failed} of ${count} entries: ${name} failed`);
  return seconds;
}

const NOTHING: [number, number] = [0, 0];

async function turn(family: 4 | 6, count: number): Promise<Turn> {
  const before = await settledMemory();
  using tables = new GateTables(bpfObjectPath('gate'), family === 4 ? count : 1, family === 6 ? count : 1);
  const grown = kernelMemory() - before;
  const accounted = accountedBytes(tables.object.map(`flows${family}`).fd);
  const arm = changeAll(tables, family, 'arm', count);
  const flip = changeAll(tables, family, 'flip', count);
  const idle = monitorEventLoopDelay({ resolution: 1 });
  idle.enable();
  await setTimeout(IDLE_MS);
  idle.disable();
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  const begun = performance.now();
  const found = await tables.client.sweep(family, (_keys, _offset, values, at) =>
    readEntry(values, at, family, true, tables.entry),
  );
  const dumpMs = performance.now() - begun;
  // Until the timer behind it has run once more: what held the loop last counts as well.
  await setTimeout(3);
  delay.disable();
  if (found !== count) throw new Error(`${found} of ${count} entries were read`);
  return {
    accounted: accounted / count,
    grown: grown / count,
    armed: count / arm,
    flipped: count / flip,
    added: count / (arm + flip),
    dumpMs,
    p50: delay.percentile(50) / 1e6,
    p99: delay.percentile(99) / 1e6,
    max: delay.max / 1e6,
    idleP99: idle.percentile(99) / 1e6,
  };
}

/**
 * A million entries of each family: memory for each, how fast they are made, and one read of all of them with the delay
 * of the event loop meanwhile. Needs CAP_BPF and CAP_NET_ADMIN, and 0.6 GB.
 */
export async function benchEntries(
  rounds: number,
  io: BenchIo,
  count = ENTRIES,
): Promise<{ tables: Table[]; notes: string[] }> {
  const families = [4, 6] as const;
  const turns: Turn[][] = [[], []];
  await interleaved([0, 1], rounds, io, async (at) => {
    turns[at]?.push(await turn(families[at], count));
    return 0;
  });
  const rows = families.map((family, at) => {
    // The first round is a warm-up.
    const mine = turns[at]?.slice(1) ?? [];
    const of = (key: keyof Turn): number => median(mine.map((each) => each[key]));
    return {
      name: `IPv${family}`,
      accounted: of('accounted'),
      grown: of('grown'),
      armed: of('armed'),
      flipped: of('flipped'),
      added: of('added'),
      dumpMs: of('dumpMs'),
      p50: of('p50'),
      p99: of('p99'),
      idleP99: of('idleP99'),
      max: quantile(
        mine.map(({ max }) => max),
        1,
      ),
    };
  });
  return {
    tables: [
      {
        title: `${count.toLocaleString('en-US')} entries`,
        columns: [
          { key: 'name', title: 'table' },
          { key: 'accounted', title: 'bytes each', digits: 1 },
          { key: 'grown', title: 'memory grown', digits: 1 },
          { key: 'armed', title: 'armed/s' },
          { key: 'flipped', title: 'flipped/s' },
          { key: 'added', title: 'added/s' },
          { key: 'dumpMs', title: 'dump ms', digits: 0 },
          { key: 'p50', title: 'loop p50', digits: 2 },
          { key: 'p99', title: 'p99', digits: 2 },
          { key: 'max', title: 'max', digits: 2 },
          { key: 'idleP99', title: 'idle p99', digits: 2 },
        ],
        rows,
      },
    ],
    notes: [
      'Bytes each: as the kernel accounts for the table; memory grown: by /proc/meminfo, all tables of the gate. Added: armed and flipped, per second of CPU time.',
      'Delay of the event loop in ms while all entries are read; max is the worst of all rounds; idle: of a loop without work right before. It has the 1 ms of its own timer in it.',
    ],
  };
}
