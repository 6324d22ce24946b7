/** The measurements of `sluice bench`. Each is bounded in time, makes its own traffic, and compares within one run. */
import { benchGate } from './gate.ts';
import type { BenchIo, Table } from './measure.ts';
import { benchRead } from './read.ts';
import { benchSweep } from './sweep.ts';

export { type BenchIo, type BenchReport, machine, reportText } from './measure.ts';

export interface Bench {
  readonly name: string;
  readonly about: string;
  readonly rounds: number;
  run(rounds: number, io: BenchIo): Promise<{ tables: Table[]; notes: string[] }>;
}

export const BENCHES: readonly Bench[] = [
  {
    name: 'gate',
    about: 'nanoseconds per packet of the gate, over a bare drop and Debian’s xdp-filter; two CPUs; sizes',
    rounds: 7,
    run: (rounds, io) =>
      benchGate(
        { rounds, repeat: 500_000, entries: 1000, spread: 16_384, against: undefined, xdpFilter: undefined },
        io,
      ),
  },
  {
    name: 'sweep',
    about: 'one batched read of the shunt tables: cost per 100,000 live shunts, delay of the event loop',
    rounds: 9,
    run: benchSweep,
  },
  {
    name: 'read',
    about: 'packets per second from a capture file of 2,000,000 packets and 100,000 connections',
    rounds: 3,
    run: (rounds, io) => {
      const { passes } = benchRead({ rounds, onPass: ({ what }) => io.progress(what) });
      const rows = passes.map((pass) => ({
        what: pass.what === 'source' ? 'reading alone' : 'with the flow engine',
        rate: pass.packetsPerSecond / 1e6,
        ns: 1e9 / pass.packetsPerSecond,
        flows: pass.flows,
      }));
      const columns = [
        { key: 'what', title: 'pass' },
        { key: 'rate', title: 'Mpackets/s', digits: 2 },
        { key: 'ns', title: 'ns/packet' },
        { key: 'flows', title: 'connections' },
      ];
      return Promise.resolve({ tables: [{ title: 'reading a capture file', columns, rows }], notes: [] });
    },
  },
];
