import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout } from 'node:timers/promises';
import { Entry, readEntry } from '../src/gate/entry.ts';
import { bpfObjectPath } from '../src/gate/kind.ts';
import { liveShunts } from './live-shunts.ts';
import { type BenchIo, interleaved, median, quantile, type Table } from './measure.ts';
import { GateTables } from './tables.ts';

const SIZES = [1000, 10_000, 100_000] as const;

/** Reads of the tables, and what is done with each entry. */
const WAYS = ['read and decoded', 'in the sensor, connections found'] as const;

/**
 * One batched read of the flow tables with so many live shunts: decoded alone, and as the sensor does it every five
 * seconds, which finds the connection of each and notes when it was last seen. What keeping their idle timeouts costs, and
 * how long the event loop is held by it. Needs CAP_BPF and CAP_NET_ADMIN.
 */
export async function benchSweep(
  rounds: number,
  io: BenchIo,
  sizes: readonly number[] = SIZES,
): Promise<{ tables: Table[]; notes: string[] }> {
  const rows: Table['rows'] = [];
  for (const size of sizes) {
    if (io.stop.aborted) break;
    using tables = new GateTables(bpfObjectPath('gate'), size, size);
    io.progress(`${size} shunts: making them`);
    const shunter = liveShunts(tables, size);
    const entry = new Entry();
    const alone = async (): Promise<number> => {
      let found = 0;
      for (const family of [4, 6] as const) {
        found += await tables.client.sweep(family, (_keys, _offset, values, at) =>
          readEntry(values, at, family, true, entry),
        );
      }
      return found;
    };
    const ways = [alone, () => shunter.sweep()];
    const delays = ways.map(() => ({ p50: [] as number[], p99: [] as number[], max: [] as number[] }));
    const seconds = await interleaved([0, 1], rounds, io, async (way) => {
      // A monitor of its own: one that is enabled again takes the time in between for a delay.
      const delay = monitorEventLoopDelay({ resolution: 1 });
      delay.enable();
      const begun = performance.now();
      const found = await ways[way]();
      const took = (performance.now() - begun) / 1000;
      // Until the timer behind it has run once more: what held the loop last counts as well.
      await setTimeout(3);
      delay.disable();
      if (found !== size) throw new Error(`${found} of ${size} shunts were read`);
      delays[way].p50.push(delay.percentile(50) / 1e6);
      delays[way].p99.push(delay.percentile(99) / 1e6);
      delays[way].max.push(delay.max / 1e6);
      return took;
    });
    for (const [way, what] of WAYS.entries()) {
      const ms = median(seconds[way]) * 1000;
      // The warm-up is the first of them.
      const [p50, p99, max] = Object.values(delays[way]).map((values) => values.slice(1));
      rows.push({
        size,
        what,
        ms,
        per: (ms * 100_000) / size,
        p50: median(p50),
        p99: median(p99),
        max: quantile(max, 1),
      });
    }
  }
  return {
    tables: [
      {
        title:
          'one batched read of all shunts (a sixth of them IPv6), and the delay of the event loop meanwhile, in ms',
        columns: [
          { key: 'size', title: 'shunts' },
          { key: 'what', title: 'how' },
          { key: 'ms', title: 'in all', digits: 1 },
          { key: 'per', title: 'per 100,000', digits: 1 },
          { key: 'p50', title: 'loop p50', digits: 2 },
          { key: 'p99', title: 'p99', digits: 2 },
          { key: 'max', title: 'max', digits: 2 },
        ],
        rows,
      },
    ],
    notes: [
      'Delay of the event loop: medians over the rounds of the percentiles of each; max is the worst of all. It has the 1 ms of its own timer in it.',
    ],
  };
}
