import { expect } from 'vitest';
import type { Conversation } from '../../src/gate/control-server.ts';
import type { AuditLine } from '../../src/gate/daemon-audit.ts';
import { PairKeeper } from '../../src/gate/daemon-pairs.ts';
import { DaemonRequests } from '../../src/gate/daemon-requests.ts';
import type { Wanted } from '../../src/gate/daemon-shunt.ts';
import { ShuntTable } from '../../src/gate/daemon-table.ts';
import { Exceptions } from '../../src/gate/exceptions.ts';
import { flowKey } from '../../src/gate/flow-key.ts';
import { Owners } from '../../src/gate/owners.ts';
import { Pairs, PrefixPairs } from '../../src/gate/pairs.ts';
import { BpfMap } from '../../src/kernel/index.ts';
import { kernelTest, ownNetns, PATIENCE } from '../support/kernel.ts';
import { TestGate } from './support.ts';

ownNetns();

const ENTRIES = 6000;
/** What one turn of the event loop may do: system calls that read or delete an entry, and looks at one. */
const MOST_CALLS = 640;
const MOST_LOOKS = 2048;
const ROOT = { uid: 0, pid: 1 };
const B = { addr: '192.0.2.2', port: 443 };

const flowOf = (n: number) => ({
  proto: 'tcp',
  a: { addr: `10.1.${n >> 8}.${n & 255}`, port: 5000 },
  b: B,
  vlan: 0,
  innerVlan: 0,
  vni: 0,
});

/** The table of a gate's daemon without a daemon, and what it does in each turn of the event loop. */
class Desk {
  readonly gate = new TestGate({ maxShunts4: 2 * ENTRIES });
  readonly ended: string[] = [];
  readonly audit: AuditLine[] = [];
  readonly owners: Owners;
  readonly table: ShuntTable;
  readonly requests: DaemonRequests;
  readonly #leases: BpfMap;
  #calls = 0;
  #most = 0;
  #turns = 0;
  #stopped = false;

  constructor() {
    const { gate, client } = this.gate;
    for (const name of ['read', 'remove'] as const) this.#count(name);
    this.#leases = BpfMap.adopt(gate.handles(0).leases);
    const settings = { uid: 0, lease: 600, idle: 300, maxEntries: ENTRIES } as const;
    this.owners = new Owners(this.#leases.mmap(true), [
      { name: 'one', slot: 1, ...settings },
      { name: 'two', slot: 2, ...settings },
    ]);
    this.table = new ShuntTable(client, this.owners, {
      started: () => {},
      ended: (_shunt, reason) => this.ended.push(reason),
      failed: (error) => {
        throw error;
      },
    });
    const grace = (): Promise<void> => client.grace();
    const exceptions = new Exceptions(gate.table('exceptions'));
    const prefixes = new PrefixPairs(gate.table('prefixes'), client.ops, grace);
    const pairs = new Pairs(gate.table('pairs'), client.ops, grace);
    this.requests = new DaemonRequests({
      vlanKey: false,
      table: this.table,
      owners: this.owners,
      pairs: new PairKeeper(pairs, prefixes, exceptions, this.owners, () => {}),
      exceptions,
      audit: { write: (line: AuditLine) => this.audit.push(line) },
      save: () => {},
    });
    const turn = (): void => {
      this.#turns++;
      this.#calls = 0;
      if (!this.#stopped) setImmediate(turn);
    };
    turn();
  }

  #count(name: 'read' | 'remove'): void {
    const { client } = this.gate;
    const real = client[name].bind(client) as (...args: unknown[]) => unknown;
    Object.assign(client, {
      [name]: (...args: unknown[]) => {
        this.#most = Math.max(this.#most, ++this.#calls);
        return real(...args);
      },
    });
  }

  /** Does it, and tells of the most calls in one turn and of the turns that it took. */
  async watch<T>(work: () => Promise<T>): Promise<{ result: T; most: number; turns: number }> {
    this.#most = 0;
    const before = this.#turns;
    const result = await work();
    return { result, most: this.#most, turns: this.#turns - before };
  }

  ask(op: string, fields: object, page: (rows: readonly unknown[]) => void = () => {}): Promise<unknown> {
    const conversation: Conversation = {
      peer: ROOT,
      page: (rows) => Promise.resolve(page(rows)),
      watch: () => {},
      unwatch: () => {},
    };
    return this.requests.perform({ id: 1, op, ...fields } as never, conversation);
  }

  fill(count: number, slot: number, from = 0): void {
    const wanted: Wanted[] = Array.from({ length: count }, (_, n) => ({
      key: flowKey(flowOf(from + n)),
      slot,
      trigger: 'test',
      ttl: undefined,
      idle: 300,
      seq: undefined,
      ack: undefined,
    }));
    expect(new Set(this.table.add(wanted))).toEqual(new Set([0]));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopped = true;
    await this.table.stop();
    this.#leases.close();
    this.gate[Symbol.dispose]();
  }
}

kernelTest('a request adds its flows in portions, up to the limit of its owner', [], async () => {
  await using desk = new Desk();
  desk.fill(ENTRIES - 200, 1);
  const flows = Array.from({ length: 256 }, (_, n) => flowOf(ENTRIES + n));
  const { result, turns } = await desk.watch(() => desk.ask('add', { owner: 'one', flows }));
  const { results } = result as { results: { error?: { code: string } }[] };
  expect(results.map(({ error }) => error?.code ?? 'ok')).toEqual(
    flows.map((_, n) => (n < 200 ? 'ok' : 'LIMIT')),
  );
  expect(turns).toBeGreaterThanOrEqual(3);
  expect(desk.owners.at(1)?.entries).toBe(ENTRIES);
  // One that goes while its flows are added: those before are answered for, and go with it.
  const more = Array.from({ length: 256 }, (_, n) => flowOf(2 * ENTRIES + n));
  const adding = desk.ask('add', { owner: 'two', flows: more });
  const going = desk.ask('owner.unregister', { name: 'two' });
  const answered = (await adding) as { results: { error?: { code: string } }[] };
  expect(answered.results.map(({ error }) => error?.code ?? 'ok')).toEqual(
    more.map((_, n) => (n < 64 ? 'ok' : 'NOT_FOUND')),
  );
  expect(await going).toEqual({ ended: 64 });
  expect(desk.table.size).toBe(ENTRIES);
});

kernelTest('a list, also of an owner with few entries, reads some and lets others go on', [], async () => {
  await using desk = new Desk();
  desk.fill(ENTRIES - 1, 1);
  desk.fill(1, 2, ENTRIES);
  let rows = 0;
  const all = await desk.watch(() => desk.ask('list', { page: 1024 }, (page) => (rows += page.length)));
  expect(all.result).toEqual({ entries: ENTRIES });
  expect(rows).toBe(ENTRIES);
  expect(all.most).toBeLessThanOrEqual(MOST_CALLS);
  expect(all.turns).toBeGreaterThan(10);
  const few = await desk.watch(() => desk.ask('list', { owner: 'two', page: 1024 }));
  expect(few.result).toEqual({ entries: 1 });
  // Entries of others cost no system call, and are no reason to hold the loop.
  expect(few.most).toBe(1);
  expect(few.turns).toBeGreaterThanOrEqual(ENTRIES / MOST_LOOKS);
});

kernelTest('what comes during a list is not in it, what goes is left out', [], async () => {
  await using desk = new Desk();
  desk.fill(2000, 1);
  const gone = desk.table.find(flowKey(flowOf(1999)).bytes);
  let pages = 0;
  let ending: Promise<void> | undefined;
  const { entries } = (await desk.ask('list', { page: 100 }, () => {
    if (++pages !== 1) return;
    desk.fill(500, 2, 3000);
    ending = desk.table.end(gone === undefined ? [] : [gone], 'asked');
  })) as { entries: number };
  await ending;
  expect(desk.ended).toEqual(['asked']);
  expect(entries).toBeGreaterThanOrEqual(1999);
  expect(entries).toBeLessThanOrEqual(2000);
  expect(desk.table.size).toBe(2499);
});

kernelTest('a new exception ends what it covers, in portions; nothing is left of it', [], async () => {
  await using desk = new Desk();
  desk.fill(ENTRIES, 1);
  const purge = await desk.watch(() => desk.ask('exception.add', { prefix: '10.1.0.0/20' }));
  expect(purge.result).toEqual({ ended: 4096 });
  expect(purge.most).toBeLessThanOrEqual(MOST_CALLS);
  expect(purge.turns).toBeGreaterThan(10);
  expect(desk.ended).toEqual(Array.from({ length: 4096 }, () => 'exception'));
  expect(desk.table.size).toBe(ENTRIES - 4096);
  expect(desk.owners.at(1)?.entries).toBe(ENTRIES - 4096);
  let left = 0;
  await desk.gate.client.sweep(4, () => left++);
  expect(left).toBe(ENTRIES - 4096);
  expect(await desk.ask('exception.add', { prefix: '10.1.16.1' })).toEqual({ ended: 1 });
  expect(await desk.ask('exception.add', { prefix: '10.2.0.0/16' })).toEqual({ ended: 0 });
});

kernelTest('an owner that goes takes its entries with it, in portions', [], async () => {
  await using desk = new Desk();
  desk.fill(ENTRIES / 2, 1);
  desk.fill(ENTRIES / 2, 2, ENTRIES);
  const going = await desk.watch(() => desk.ask('owner.unregister', { name: 'one' }));
  expect(going.result).toEqual({ ended: ENTRIES / 2 });
  expect(going.most).toBeLessThanOrEqual(MOST_CALLS);
  expect(going.turns).toBeGreaterThan(5);
  expect(desk.owners.at(1)).toBeUndefined();
  expect(desk.owners.at(2)?.entries).toBe(ENTRIES / 2);
});

kernelTest('a lease is not given up over entries without idle limit, which are counted', [], async () => {
  await using desk = new Desk();
  desk.fill(ENTRIES, 1);
  const options = { name: 'one', lease: 'off', idle: 300, maxEntries: ENTRIES };
  const unlimited: Wanted = {
    key: flowKey(flowOf(ENTRIES)),
    slot: 1,
    trigger: 'test',
    ttl: undefined,
    idle: undefined,
    seq: undefined,
    ack: undefined,
  };
  expect(desk.table.add([unlimited])).toEqual([0]);
  await expect(desk.ask('owner.register', options)).rejects.toMatchObject({ code: 'REFUSED' });
  const shunt = desk.table.find(unlimited.key.bytes);
  await desk.table.end(shunt === undefined ? [] : [shunt], 'asked');
  // Nor does it take a look at each.
  const freed = await desk.watch(() => desk.ask('owner.register', options));
  expect(freed).toMatchObject({ result: { entries: ENTRIES }, most: 0 });
});

kernelTest('a daemon that takes over a large table takes it in portions', [], async () => {
  await using desk = new Desk();
  desk.fill(ENTRIES, 1);
  const next = new ShuntTable(desk.gate.client, desk.owners, {
    started: () => {},
    ended: () => {},
    failed: (error) => {
      throw error;
    },
  });
  const start = await desk.watch(() => next.start());
  expect(next.size).toBe(ENTRIES);
  expect(start.most).toBeLessThanOrEqual(MOST_CALLS);
  expect(start.turns).toBeGreaterThan(10);
  await next.stop();
});

kernelTest('time limits by hand end together, in portions, and each once', [], async () => {
  await using desk = new Desk();
  await desk.table.start();
  const wanted = Array.from({ length: ENTRIES }, (_, n) => ({
    key: flowKey(flowOf(n)),
    slot: 0,
    trigger: 'manual',
    ttl: n < ENTRIES / 2 ? 1 : 600,
    idle: undefined,
    seq: undefined,
    ack: undefined,
  }));
  const over = await desk.watch(async () => {
    desk.table.add(wanted);
    const end = performance.now() + PATIENCE * 1000;
    while (desk.table.size > ENTRIES / 2 && performance.now() < end)
      await new Promise((resolve) => setTimeout(resolve, 20));
  });
  expect(desk.ended).toEqual(Array.from({ length: ENTRIES / 2 }, () => 'limit'));
  expect(desk.table.size).toBe(ENTRIES / 2);
  expect(over.most).toBeLessThanOrEqual(MOST_CALLS);
});

kernelTest('what somebody else has deleted and is added again is there once', [], async () => {
  await using desk = new Desk();
  desk.fill(1, 1);
  desk.gate.client.remove(4, flowKey(flowOf(0)).bytes);
  desk.fill(1, 2);
  expect(desk.ended).toEqual(['gone']);
  expect(desk.table.size).toBe(1);
  expect(desk.table.entries(4)).toBe(1);
  expect([desk.owners.at(1)?.entries, desk.owners.at(2)?.entries]).toEqual([0, 1]);
});
