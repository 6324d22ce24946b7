import { once } from 'node:events';
import { cpus } from 'node:os';
import { Worker } from 'node:worker_threads';
import { median, type Table } from './measure.ts';
import type { FlowKey, GateTables } from './tables.ts';
import type { HitterSetup } from './two-cpus-worker.ts';

/** A thread that sends one frame through the program on its CPU. */
class Hitter {
  readonly #worker: Worker;

  constructor(setup: HitterSetup) {
    const body = import.meta.url.endsWith('.ts') ? './two-cpus-worker.ts' : './two-cpus-worker.js';
    this.#worker = new Worker(new URL(body, import.meta.url), { workerData: setup });
  }

  /** Nanoseconds per packet. */
  async done(): Promise<number> {
    const [ns] = (await once(this.#worker, 'message')) as [number];
    await this.#worker.terminate();
    return ns;
  }
}

/**
 * The same connection from two CPUs: a direction each, or both on one. Counts are compared with what was sent. Undefined
 * on a machine with one CPU.
 */
export async function twoCpus(
  tables: GateTables,
  key: FlowKey,
  [there, back]: [Uint8Array, Uint8Array],
  rounds: number,
  repeat: number,
): Promise<Table | undefined> {
  if (cpus().length < 2) return undefined;
  const program = tables.object.program('sluice_gate').fd;
  const ways = [
    { name: 'one CPU', frames: [there] },
    { name: 'two CPUs, a direction each', frames: [there, back] },
    { name: 'two CPUs, one direction', frames: [there, there] },
  ];
  const found = ways.map(() => ({ ns: [] as number[], lost: 0 }));
  for (let round = 0; round < rounds; round++) {
    for (const [at, { frames }] of ways.entries()) {
      const before = tables.counted(key);
      const ready = new SharedArrayBuffer(4);
      const hitters = frames.map(
        (frame, cpu) => new Hitter({ program, frame, cpu, repeat, ready, hitters: frames.length }),
      );
      const ns = await Promise.all(hitters.map((hitter) => hitter.done()));
      const after = tables.counted(key);
      const way = found[at];
      way.ns.push(...ns);
      way.lost += frames.length * repeat - (after[0] + after[1] - before[0] - before[1]);
    }
  }
  return {
    title: `hit, IPv4 TCP, from two CPUs (${(rounds * repeat * 2).toLocaleString('en-US')} packets each way)`,
    columns: [
      { key: 'name', title: 'case' },
      { key: 'ns', title: 'ns', digits: 1 },
      { key: 'ratio', title: '× one CPU', digits: 2 },
      { key: 'lost', title: 'counts lost' },
    ],
    rows: ways.map(({ name }, at) => {
      const ns = median(found[at]?.ns ?? []);
      return { name, ns, ratio: ns / median(found[0]?.ns ?? []), lost: found[at]?.lost };
    }),
  };
}
