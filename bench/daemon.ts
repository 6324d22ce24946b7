import { monitorEventLoopDelay } from 'node:perf_hooks';
import { setTimeout } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import type { Conversation } from '../src/gate/control-server.ts';
import { PairKeeper } from '../src/gate/daemon-pairs.ts';
import { DaemonRequests } from '../src/gate/daemon-requests.ts';
import { ShuntTable } from '../src/gate/daemon-table.ts';
import { Exceptions } from '../src/gate/exceptions.ts';
import { bpfObjectPath } from '../src/gate/kind.ts';
import { Owners } from '../src/gate/owners.ts';
import { Pairs, PrefixPairs } from '../src/gate/pairs.ts';
import { nextTurn } from '../src/gate/turns.ts';
import { BpfMap } from '../src/kernel/index.ts';
import { keysOf } from './entries.ts';
import { type BenchIo, median, quantile, type Table } from './measure.ts';
import { GateTables } from './tables.ts';

const ENTRIES = 1_000_000;
/** Flows of one request. */
const REQUEST = 256;
const IDLE_MS = 500;
const CONVERSATION: Conversation = {
  peer: { uid: 0, pid: 1 },
  page: async (rows) => void JSON.stringify(rows),
  watch: () => {},
  unwatch: () => {},
};

/** The delay of the event loop during one piece of work, in ms. */
interface Held {
  ms: number;
  p50: number;
  p99: number;
  max: number;
}

async function held(work: () => Promise<unknown>): Promise<Held> {
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  // Its timer has to run before the work, and after it: what holds the loop at once or last counts as well.
  await setTimeout(3);
  const begun = performance.now();
  await work();
  const ms = performance.now() - begun;
  await setTimeout(3);
  delay.disable();
  return {
    ms,
    p50: delay.percentile(50) / 1e6,
    p99: delay.percentile(99) / 1e6,
    max: delay.max / 1e6,
  };
}

function heapUsed(): number {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  const { heapUsed: heap, external } = process.memoryUsage();
  return heap + external;
}

/** Half of the entries are of one owner, half of another. */
async function addAll(table: ShuntTable, family: 4 | 6, count: number): Promise<void> {
  let n = 0;
  const rows: Parameters<ShuntTable['add']>[0][number][] = [];
  const run = (): void => {
    if (table.add(rows).some((result) => result !== 0)) throw new Error('an entry was not added');
    rows.length = 0;
  };
  for (const bytes of keysOf(family, count)) {
    const key = { family, bytes: bytes.slice(), tcp: true, sideOfA: 0 as const };
    const slot = n++ < count / 2 ? 1 : 2;
    rows.push({ key, slot, trigger: 'bench', ttl: undefined, idle: 300, seq: undefined, ack: undefined });
    if (rows.length < REQUEST) continue;
    run();
    await nextTurn();
  }
  run();
}

const STEPS = [
  'nothing, for comparison',
  'added, 256 at a time',
  'looked after: one sweep',
  'taken over by the next daemon',
  'listed, 256 a page',
  'listed, an owner without entries',
  'a new exception that covers none',
  'a new exception that covers half',
  'an owner gone with the others',
] as const;

async function turn(family: 4 | 6, count: number): Promise<{ bytes: number; steps: Held[] }> {
  const [max4, max6] = family === 4 ? [count, 1] : [1, count];
  using tables = new GateTables(bpfObjectPath('gate'), max4, max6, {}, count);
  const { client, object } = tables;
  const leases = BpfMap.adopt(tables.handles.leases);
  const owner = { uid: 0, lease: 3600, idle: 300, maxEntries: count };
  const owners = new Owners(
    leases.mmap(true),
    ['one', 'two', 'three'].map((name, at) => ({ name, slot: at + 1, ...owner })),
  );
  for (const name of ['one', 'two', 'three']) owners.renew(name, 0);
  const events = {
    started: () => {},
    ended: () => {},
    failed: (error: Error) => {
      throw error;
    },
  };
  const table = new ShuntTable(client, owners, events);
  const grace = (): Promise<void> => client.grace();
  const exceptions = new Exceptions(object.map('exceptions'));
  const pairs = new Pairs(object.map('pairs'), client.ops, grace);
  const prefixes = new PrefixPairs(object.map('prefixes'), client.ops, grace);
  const requests = new DaemonRequests({
    vlanKey: false,
    table,
    owners,
    pairs: new PairKeeper(pairs, prefixes, exceptions, owners, () => {}),
    exceptions,
    audit: { write: () => {} },
    save: () => {},
  });
  const ask = (op: string, fields: object): Promise<unknown> =>
    requests.perform({ id: 1, op, ...fields } as never, CONVERSATION);
  const page = REQUEST;
  const before = heapUsed();
  const steps = [await held(() => setTimeout(IDLE_MS)), await held(() => addAll(table, family, count))];
  const bytes = (heapUsed() - before) / count;
  const next = new ShuntTable(client, new Owners(leases.mmap(true), owners.settings()), events);
  // Of a million.
  const half = family === 4 ? '10.0.0.0/27' : '2000::/123';
  const work = [
    () => table.start(),
    () => next.start(),
    () => ask('list', { page }),
    () => ask('list', { page, owner: 'three' }),
    () => ask('exception.add', { prefix: '198.51.100.0/24' }),
    () => ask('exception.add', { prefix: half }),
    () => ask('owner.unregister', { name: 'two' }),
  ];
  for (const [at, step] of work.entries()) {
    steps.push(await held(step));
    if (at === 1) await next.stop();
  }
  await table.stop();
  leases.close();
  return { bytes, steps };
}

/**
 * The table that a gate's daemon keeps beside those of the kernel, with a million entries of each family: its memory, and how
 * long whatever goes through all of it holds the event loop. Needs CAP_BPF and CAP_NET_ADMIN, and 1.5 GB.
 */
export async function benchDaemon(
  rounds: number,
  io: BenchIo,
  count = ENTRIES,
): Promise<{ tables: Table[]; notes: string[] }> {
  const tables: Table[] = [];
  for (const family of [4, 6] as const) {
    const turns: Awaited<ReturnType<typeof turn>>[] = [];
    for (let round = 0; round < rounds && !io.stop.aborted; round++) {
      io.progress(`IPv${family}, round ${round + 1} of ${rounds}`);
      turns.push(await turn(family, count));
    }
    if (turns.length === 0) break;
    const bytes = median(turns.map((each) => each.bytes));
    const of = (at: number, key: keyof Held): number => median(turns.map(({ steps }) => steps[at][key]));
    tables.push({
      title: `${count.toLocaleString('en-US')} entries, IPv${family}: ${bytes.toFixed(0)} bytes of heap each`,
      columns: [
        { key: 'name', title: 'what' },
        { key: 'ms', title: 'ms in all', digits: 0 },
        { key: 'p50', title: 'loop p50', digits: 2 },
        { key: 'p99', title: 'p99', digits: 2 },
        { key: 'max', title: 'max', digits: 2 },
      ],
      rows: STEPS.map((name, at) => ({
        name,
        bytes,
        ms: of(at, 'ms'),
        p50: of(at, 'p50'),
        p99: of(at, 'p99'),
        max: quantile(
          turns.map(({ steps }) => steps[at].max),
          1,
        ),
      })),
    });
  }
  return {
    tables,
    notes: [
      'Delay of the event loop in ms, with the 1 ms of its own timer in it; max, the worst of all rounds, is a table of V8 that grows, or its garbage collection.',
    ],
  };
}
