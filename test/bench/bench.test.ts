import { describe, expect, it } from 'vitest';
import { benchDaemon } from '../../bench/daemon.ts';
import { benchEntries } from '../../bench/entries.ts';
import { benchGate } from '../../bench/gate.ts';
import { BENCHES } from '../../bench/index.ts';
import {
  type BenchIo,
  interleaved,
  median,
  paired,
  quantile,
  ratio,
  type Table,
  untilStopped,
} from '../../bench/measure.ts';
import { readTables } from '../../bench/read-table.ts';
import { benchSweep } from '../../bench/sweep.ts';
import { bpfObjectPath } from '../../src/gate/index.ts';
import { KernelError } from '../../src/kernel/index.ts';
import { sluice } from '../support/command.ts';
import { kernelTest } from '../support/kernel.ts';

const NEEDS = ['xdpFrags', 'syscallProgram'] as const;
const io: BenchIo = { progress: () => {}, stop: new AbortController().signal };

const broken = (errno: number) => async (): Promise<never> => {
  throw new KernelError('program.run', errno, 'run program gate');
};

function row(table: Table, name: string): Record<string, string | number | undefined> {
  const found = table.rows.find((each) => each['name'] === name);
  expect(found, name).toBeDefined();
  return found ?? {};
}

describe('statistics', () => {
  it('medians, quantiles, and ratios within rounds', () => {
    expect(median([5, 1, 3])).toBe(3);
    expect(quantile([4, 1, 3, 2], 0.5)).toBe(2.5);
    expect(quantile([1, 2, 3], 1)).toBe(3);
    // Twice the floor in every round, whatever the machine's mood.
    expect(paired([2, 20, 200], [1, 10, 100], ratio)).toBe(2);
  });

  it('every case is measured in every round, another one first each time, and the warm-up is thrown away', async () => {
    const order: string[] = [];
    const values = await interleaved(['a', 'b', 'c'], 2, io, (one) => order.push(one));
    expect(order.join('')).toBe('abcbcacab');
    expect(values).toEqual([
      [6, 8],
      [4, 9],
      [5, 7],
    ]);
  });

  it('ends at the next case when it is stopped, without half a round', async () => {
    const stop = new AbortController();
    let runs = 0;
    const values = await interleaved(['a', 'b'], 5, { progress: () => {}, stop: stop.signal }, () => {
      if (++runs === 5) stop.abort();
      return 1;
    });
    expect(runs).toBe(5);
    expect(values).toEqual([[1], [1]]);
  });

  it('a system call that a signal ends is a stop, when one was asked for, and an error otherwise', async () => {
    const asked = new AbortController();
    await expect(untilStopped(io, broken(4))).rejects.toMatchObject({ errnoName: 'EINTR' });
    // As with a real signal, word of it comes after the call.
    setImmediate(() => asked.abort());
    expect(await untilStopped({ stop: asked.signal }, broken(4))).toBeUndefined();
    await expect(untilStopped({ stop: asked.signal }, broken(22))).rejects.toMatchObject({
      errnoName: 'EINVAL',
    });
  });
});

describe('sluice bench', () => {
  it('lists what there is, and says what was meant by another name', async () => {
    const { code, stdout } = await sluice('bench');
    expect(code).toBe(0);
    for (const { name } of BENCHES) expect(stdout).toMatch(new RegExp(`^${name} `, 'm'));
    expect(await sluice('bench', 'swep')).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('did you mean sweep?'),
    });
    expect((await sluice('bench', 'read', '--rounds', '0')).code).toBe(2);
  });

  kernelTest('changes: a report with command, machine and table', NEEDS, async () => {
    const { code, stdout } = await sluice('bench', 'changes', '--rounds', '1', '--json');
    expect(code).toBe(0);
    const report = JSON.parse(stdout) as { bench: string; command: string; machine: object; tables: Table[] };
    expect(report).toMatchObject({ bench: 'changes', command: 'sluice bench changes --rounds 1' });
    expect(report.machine).toMatchObject({ node: process.version, cpu: expect.any(String) });
    for (const each of report.tables[0].rows) expect(each['ns'], String(each['name'])).toBeGreaterThan(0);
  });
});

kernelTest(
  'gate: hits drop, misses pass, another build in the same rounds; no count is lost',
  NEEDS,
  async () => {
    const gate = bpfObjectPath('gate');
    const { tables } = await benchGate(
      { rounds: 1, repeat: 2000, entries: 10, spread: 16, against: gate, xdpFilter: undefined },
      io,
    );
    const titled = (begin: string) => tables.find(({ title }) => title.startsWith(begin));
    const [timings, programs] = [titled('ns per packet'), titled('programs')] as [Table, Table];
    const cpus = titled('hit, IPv4 TCP, from two CPUs');
    for (const name of ['hit, IPv4 TCP', 'miss, IPv6 TCP', 'other: hit, IPv4 TCP'])
      expect(row(timings, name)['ns'], name).toBeGreaterThan(0);
    // Over a program that does nothing: of so few packets it may come out below.
    for (const name of ['hit', 'miss, one rule in the slot', 'hit, IPv4 TCP, 16 in turn'])
      expect(row(titled('bars') as Table, name)['value'], name).toSatisfy(Number.isFinite);
    for (const name of ['hit, trace of another flow', 'hit, first fragment'])
      expect(row(timings, name)['ns'], name).toBeGreaterThan(0);
    for (const each of cpus?.rows ?? []) expect(each['lost'], String(each['name'])).toBe(0);
    const flood = titled('alone, while new flows come');
    if (flood !== undefined) {
      expect(row(flood, 'shunts after')['count']).toBe(row(flood, 'shunts before')['count']);
      expect(row(flood, 'new flows watched')['count']).toBeGreaterThan(0);
    }
    expect(row(programs, 'sluice_gate')['instructions']).toBeGreaterThan(100);
    // Loading it takes as long as the verifier needs: tags and extension headers must not multiply the paths.
    expect(row(programs, 'sluice_gate')['verified']).toBeLessThan(100_000);
  },
);

kernelTest('sweep: every live shunt is read, alone and by the sensor', NEEDS, async () => {
  const { tables } = await benchSweep(1, io, [500]);
  expect(tables[0].rows.map((each) => each['size'])).toEqual([500, 500]);
  for (const each of tables[0].rows) expect(each['ms']).toBeGreaterThan(0);
});

kernelTest('entries: both tables are filled and read', NEEDS, async () => {
  const { tables } = await benchEntries(1, io, 20_000);
  for (const name of ['IPv4', 'IPv6'])
    for (const key of ['accounted', 'added', 'dumpMs'])
      expect(row(tables[0], name)[key], `${name} ${key}`).toBeGreaterThan(0);
});

kernelTest('daemon: the table is filled, looked after, listed and emptied', NEEDS, async () => {
  const { tables } = await benchDaemon(1, io, 5000);
  expect(tables).toHaveLength(2);
  for (const { rows } of tables) {
    // Of the whole machine, on which others work.
    expect(rows[0]?.['bytes']).toSatisfy(Number.isFinite);
    for (const each of rows) expect(each['ms'], String(each['name'])).toBeGreaterThan(0);
  }
});

it('read: whole programs and passes over a small file, with their flows', async () => {
  const { tables, notes } = await readTables(1, io, { packets: 5000, flows: 300, concurrent: 40 });
  const [programs, stages] = tables;
  expect(row(programs, 'sluice read --bare')).toMatchObject({ bare: 1, flows: 300 });
  expect(row(programs, 'sluice read')).toMatchObject({ full: 1, flows: 300 });
  for (const each of programs.rows) expect(each['seconds'], String(each['name'])).toBeGreaterThan(0);
  expect(row(stages, 'flows')['flows']).toBe(300);
  expect(row(stages, 'reading alone')['ns']).toBeGreaterThan(0);
  expect(notes.join('\n')).toMatch(/^In the hot loop, /m);
});
