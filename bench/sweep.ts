import { monitorEventLoopDelay } from 'node:perf_hooks';
import { Entry, readEntry } from '../src/gate/entry.ts';
import { bpfObjectPath } from '../src/gate/gate.ts';
import { type BenchIo, median, type Table } from './measure.ts';
import { GateTables, manyKeys } from './tables.ts';

const SIZES = [1000, 10_000, 100_000] as const;

/**
 * One batched read of the flow tables with so many live shunts, each decoded as the sensor does every five seconds: what
 * keeping their idle timeouts costs, and how long the event loop is held by it. Needs CAP_BPF and CAP_NET_ADMIN.
 */
export async function benchSweep(rounds: number, io: BenchIo): Promise<{ tables: Table[]; notes: string[] }> {
  const rows: Table['rows'] = [];
  for (const size of SIZES) {
    using tables = new GateTables(bpfObjectPath('gate'), size, Math.max(1000, Math.ceil(size / 5)));
    tables.shunt(manyKeys(size));
    const entry = new Entry();
    const seconds: number[] = [];
    const delay = monitorEventLoopDelay({ resolution: 1 });
    for (let round = -1; round < rounds && !io.stop.aborted; round++) {
      io.progress(`${size} shunts, round ${round + 1} of ${rounds}`);
      if (round === 0) delay.enable();
      const begun = performance.now();
      let found = 0;
      for (const family of [4, 6] as const) {
        found += await tables.client.sweep(family, (_keys, _offset, values, at) =>
          readEntry(values, at, family, true, entry),
        );
      }
      if (found !== size) throw new Error(`${found} of ${size} shunts were read`);
      if (round >= 0) seconds.push((performance.now() - begun) / 1000);
    }
    delay.disable();
    rows.push({
      size,
      ms: median(seconds) * 1000,
      per: (median(seconds) * 1000 * 100_000) / size,
      p50: delay.percentile(50) / 1e6,
      p99: delay.percentile(99) / 1e6,
      max: delay.max / 1e6,
    });
  }
  return {
    tables: [
      {
        title:
          'one batched read of all shunts (a sixth of them IPv6), and the delay of the event loop meanwhile, in ms',
        columns: [
          { key: 'size', title: 'shunts' },
          { key: 'ms', title: 'in all', digits: 1 },
          { key: 'per', title: 'per 100,000', digits: 1 },
          { key: 'p50', title: 'loop p50', digits: 2 },
          { key: 'p99', title: 'p99', digits: 2 },
          { key: 'max', title: 'max', digits: 2 },
        ],
        rows,
      },
    ],
    notes: ['The event loop delay has the 1 ms of its own timer in it.'],
  };
}
