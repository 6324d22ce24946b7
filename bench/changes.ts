import { bpfObjectPath } from '../src/gate/index.ts';
import { type BenchIo, cpuSeconds, interleaved, median, paired, ratio, type Table } from './measure.ts';
import { type FlowKey, GateTables, manyKeys } from './tables.ts';

/** As many as the tables of a sensor hold by default, about. */
const SHUNTS = 30_000;

interface Step {
  name: string;
  /** What the same would cost by a system call per entry. */
  floor?: string;
  run: () => number;
}

/** CPU seconds of something that must not fail. */
function timed(work: () => number): number {
  const begin = cpuSeconds();
  const failed = work();
  const seconds = cpuSeconds() - begin;
  if (failed > 0) throw new Error(`${failed} changes failed`);
  return seconds;
}

/**
 * How fast entries are armed, synchronized, flipped, ended, read and deleted: changes in batches of 1,024 by the syscall
 * program, beside plain map updates and deletions with a system call each. Needs CAP_BPF and CAP_NET_ADMIN.
 */
export async function benchChanges(
  rounds: number,
  io: BenchIo,
): Promise<{ tables: Table[]; notes: string[] }> {
  using tables = new GateTables(bpfObjectPath('gate'), SHUNTS, SHUNTS);
  const { client, object } = tables;
  const keys = manyKeys(SHUNTS);
  const maps = { 4: object.map('flows4'), 6: object.map('flows6') };
  const values = { 4: new Uint8Array(maps[4].valueBytes), 6: new Uint8Array(maps[6].valueBytes) };
  const count = (ok: (key: FlowKey) => boolean): number =>
    keys.reduce((failed, key) => failed + (ok(key) ? 0 : 1), 0);
  const steps: Step[] = [
    { name: 'arm', floor: 'map update', run: () => tables.change('arm', keys, 300_000) },
    { name: 'synchronize', floor: 'map update', run: () => tables.change('sync', keys) },
    { name: 'flip', floor: 'map update', run: () => tables.change('flip', keys) },
    {
      name: 'read one entry',
      run: () => count(({ family, bytes }) => client.read(family, bytes, true, tables.entry)),
    },
    { name: 'end', floor: 'map update', run: () => tables.change('end', keys) },
    {
      name: 'delete',
      floor: 'map update',
      run: () => count(({ family, bytes }) => maps[family].delete(bytes)),
    },
    {
      name: 'map update',
      run: () => count(({ family, bytes }) => maps[family].trySet(bytes, values[family]) === 0),
    },
  ];
  // One case after the other, as each needs what the one before has left; all of them are one round.
  const found = steps.map((): number[] => []);
  await interleaved([0], rounds, io, () => {
    for (const [at, step] of steps.entries()) found[at]?.push(timed(step.run));
    count(({ family, bytes }) => maps[family].delete(bytes));
    return 0;
  });
  const seconds = found.map((each) => each.slice(1));
  return {
    tables: [
      {
        title: `changes of ${SHUNTS.toLocaleString('en-US')} entries (a sixth of them IPv6), in batches of 1,024`,
        columns: [
          { key: 'name', title: 'step' },
          { key: 'ns', title: 'ns per entry' },
          { key: 'rate', title: 'entries/s' },
          { key: 'ratio', title: '× a map update', digits: 2 },
        ],
        rows: steps.map(({ name, floor }, at) => {
          const mine = seconds[at] ?? [];
          const under = seconds[steps.findIndex((each) => each.name === floor)];
          return {
            name,
            ns: (median(mine) * 1e9) / SHUNTS,
            rate: SHUNTS / median(mine),
            ratio: under === undefined ? undefined : paired(mine, under, ratio),
          };
        }),
      },
    ],
    notes: [
      'Read, delete and map update are a system call per entry, from JavaScript; the others one per 1,024.',
    ],
  };
}
