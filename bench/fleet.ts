import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type KV, Kvm } from '@nats-io/kv';
import type { NatsConnection } from '@nats-io/transport-node';
import { NatsServer } from '../lab/fleet/nats-server.ts';
import { run } from '../lab/process.ts';
import { compileFilterText } from '../src/filter/index.ts';
import { generateKeys, keysById, readSigningKey, readTrustedKeys } from '../src/fleet/keys.ts';
import { connectOnce, natsPlace } from '../src/fleet/nats-place.ts';
import { signBundle, verifyBundle } from '../src/fleet/program-bundle.ts';
import { RuleBook } from '../src/fleet/rule-book.ts';
import { signStatement } from '../src/fleet/statement.ts';
import { SlPacket } from '../src/gate/layout.gen.ts';
import { BpfMap, MapType, unshareNetns } from '../src/kernel/index.ts';
import { SlRuleMatches } from '../src/rules/layout.gen.ts';
import { type MadePrograms, makePrograms } from '../src/rules/make-programs.ts';
import { compilerAbi, compileSet } from '../src/rules/taken/program-set.ts';
import { sampleBatches } from './fleet-samples.ts';
import { type BenchIo, cpuSeconds, median, type Table } from './measure.ts';
import { rulesOf } from './rules.ts';

const STATEMENTS = 2000;
const WATCHERS = [50, 200, 800];
/** Messages that watchers get together, in one measurement. */
const DELIVERIES = 40_000;
const KEYS = 10_000;
const SETS = [1, 10, 100, 1000, 10_000];

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
const now = (): number => Math.floor(Date.now() / 1000);

/** A desk with a key, and statements of the kind that it signs. */
function desk() {
  const made = generateKeys('desk');
  const key = readSigningKey(made.privatePem, 'desk');
  const trust = keysById(readTrustedKeys(made.publicLine, 'desk.pub'));
  const sign = (n: number, revision = 1): string =>
    signStatement(
      {
        version: 1,
        id: `a${n}`,
        revision,
        author: 'desk',
        issued: now(),
        expires: now() + 3600,
        rule: {
          expr: `dst host 10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255} and udp src port 123 and greater 400`,
          action: { kind: 'drop' },
          scope: { sites: ['fra1'] },
        },
      },
      key,
    );
  return { trust, sign, key };
}

async function signatures(rounds: number, io: BenchIo): Promise<Table> {
  const { trust, sign } = desk();
  const found = { sign: [] as number[], verify: [] as number[], known: [] as number[], save: [] as number[] };
  let bytes = 0;
  for (let round = 0; round < rounds && !io.stop.aborted; round++) {
    io.progress(`signatures: round ${round + 1}`);
    const rate = (list: number[], work: () => void): void => {
      const began = cpuSeconds();
      work();
      list.push(STATEMENTS / (cpuSeconds() - began));
    };
    let lines: string[] = [];
    rate(found.sign, () => (lines = Array.from({ length: STATEMENTS }, (_, n) => sign(n))));
    bytes = lines.reduce((sum, line) => sum + line.length, 0) / STATEMENTS;
    const book = new RuleBook(trust);
    const offer = (): void => {
      for (const line of lines) book.offer(line, now());
    };
    rate(found.verify, offer);
    rate(found.known, offer);
    rate(found.save, () => book.save(null));
    await turn();
  }
  return {
    title: 'Signed rules on one CPU, statements/s',
    columns: [
      { key: 'bytes', title: 'bytes each' },
      { key: 'sign', title: 'signed' },
      { key: 'verify', title: 'new: verified, taken' },
      { key: 'known', title: 'known: compared' },
      { key: 'save', title: 'written down (without the disk)' },
    ],
    rows: [
      {
        bytes,
        sign: median(found.sign),
        verify: median(found.verify),
        known: median(found.known),
        save: median(found.save),
      },
    ],
  };
}

/** Reads a watch up to a revision of the bucket. */
class Watcher {
  readonly connection: NatsConnection;
  #seen = 0;
  #wake: () => void = () => {};

  private constructor(connection: NatsConnection) {
    this.connection = connection;
  }

  static async open(url: string): Promise<Watcher> {
    const place = natsPlace(url);
    const watcher = new Watcher(await connectOnce(place));
    const bucket = await new Kvm(watcher.connection).open(place.rules);
    const watch = await bucket.watch();
    void (async () => {
      for await (const entry of watch) {
        if (entry.operation !== 'PUT') continue;
        watcher.#seen = entry.revision;
        watcher.#wake();
      }
    })().catch(() => {});
    return watcher;
  }

  async until(revision: number): Promise<void> {
    while (this.#seen < revision) await new Promise<void>((resolve) => (this.#wake = resolve));
  }
}

const all = (watchers: readonly Watcher[], revision: number): Promise<unknown> =>
  Promise.all(watchers.map((watcher) => watcher.until(revision)));

async function fanOut(server: NatsServer, bucket: KV, io: BenchIo): Promise<Table> {
  const { sign } = desk();
  const url = server.url('127.0.0.1');
  const rows: Table['rows'] = [];
  const watchers: Watcher[] = [];
  const alone = server.memory();
  let last = await bucket.put('w', sign(0));
  for (const count of WATCHERS) {
    if (io.stop.aborted) break;
    io.progress(`${count} edges watch`);
    while (watchers.length < count) watchers.push(await Watcher.open(url));
    const puts = Math.ceil(DELIVERIES / count);
    await all(watchers, last);
    const cpu = server.cpuSeconds();
    const began = performance.now();
    // Each a rule of its own: of one that is written again and again only the last is sure to arrive.
    for (let n = 0; n < puts; n++) last = await bucket.put(`w${last}`, sign(last));
    await all(watchers, last);
    const used = server.cpuSeconds() - cpu;
    rows.push({
      watchers: count,
      puts,
      used: (1e6 * used) / (puts * count),
      rate: (puts * count) / used,
      wall: (performance.now() - began) / puts,
      memory: (server.memory() - alone) / count / 1024,
    });
  }
  await Promise.all(watchers.map(({ connection }) => connection.close()));
  return {
    title: 'One rule to all who watch the bucket: what nats-server needs',
    columns: [
      { key: 'watchers', title: 'edges' },
      { key: 'puts', title: 'rules' },
      { key: 'used', title: 'µs of its CPU for each arrival', digits: 1 },
      { key: 'rate', title: 'arrivals/s of one CPU' },
      { key: 'wall', title: 'ms for each rule, clients in one thread', digits: 1 },
      { key: 'memory', title: 'KiB for each edge', digits: 0 },
    ],
    rows,
  };
}

/** What an edge that comes back makes the server do, and what a bucket takes. */
async function wholeBooks(server: NatsServer, bucket: KV, io: BenchIo): Promise<Table> {
  const { sign } = desk();
  io.progress(`${KEYS} rules in the bucket`);
  const put = { cpu: server.cpuSeconds(), at: performance.now() };
  const lines = Array.from({ length: KEYS }, (_, n) => sign(n));
  const size = lines.reduce((sum, line) => sum + line.length, 0);
  put.at = performance.now();
  for (let n = 0; n < KEYS; n += 100)
    await Promise.all(lines.slice(n, n + 100).map((line, at) => bucket.put(`a${n + at}`, line)));
  const putCpu = server.cpuSeconds() - put.cpu;
  const last = await bucket.put('a0', sign(0, 2));
  const status = await bucket.status();
  const read = { cpu: server.cpuSeconds(), at: performance.now() };
  const rounds = 5;
  for (let round = 0; round < rounds; round++) {
    const watcher = await Watcher.open(server.url('127.0.0.1'));
    await watcher.until(last);
    await watcher.connection.close();
  }
  return {
    title: `A bucket of ${KEYS} rules`,
    columns: [
      { key: 'put', title: 'put: µs of the server’s CPU', digits: 1 },
      { key: 'read', title: 'read by an edge that comes back: µs a rule', digits: 1 },
      { key: 'whole', title: 'ms for the whole book', digits: 0 },
      { key: 'stored', title: 'bytes a rule in the store', digits: 0 },
      { key: 'said', title: 'of which the rule', digits: 0 },
    ],
    rows: [
      {
        put: (1e6 * putCpu) / KEYS,
        read: (1e6 * (server.cpuSeconds() - read.cpu)) / KEYS / rounds,
        whole: (performance.now() - read.at) / rounds,
        stored: status.size / KEYS,
        said: size / KEYS,
      },
    ],
  };
}

/** Adds the milliseconds of CPU that it takes. */
function timed<T>(list: number[], work: () => T): T {
  const began = cpuSeconds();
  const made = work();
  list.push(1000 * (cpuSeconds() - began));
  return made;
}

function closed({ programs }: MadePrograms): void {
  for (const { program } of programs) program.close();
}

/** Of making a set live: compiled at the edge, and taken as a desk has compiled it. */
async function compileOnce(rounds: number, io: BenchIo): Promise<Table> {
  using array = BpfMap.create({
    type: MapType.progArray,
    keySize: 4,
    valueSize: 4,
    maxEntries: 64,
    name: 'rules',
  });
  using scratch = BpfMap.create({
    type: MapType.percpuArray,
    keySize: 4,
    valueSize: SlPacket.size,
    maxEntries: 1,
    name: 'scratch',
  });
  using matches = BpfMap.create({
    type: MapType.percpuArray,
    keySize: 4,
    valueSize: SlRuleMatches.size,
    maxEntries: 1,
    name: 'matches',
  });
  const frameLength = SlPacket.members.frame_len;
  const options = {
    maps: { rules: array.fd, scratch: scratch.fd, matches: matches.fd },
    slots: { shunt: 1, act: 4, first: 8, count: 28 },
    frameLength,
  };
  const { trust, key } = desk();
  const rows: Table['rows'] = [];
  for (const size of SETS) {
    const rules = rulesOf(size).map(({ rule }, row) => ({ rule, row, off: false }));
    const line = signBundle(
      compileSet(
        rules.map(({ rule }) => ({ ...rule, revision: 1 })),
        frameLength,
      ),
      { revision: 1, author: 'desk', issued: now(), abi: compilerAbi(frameLength) },
      key,
    );
    const times = {
      texts: [] as number[],
      here: [] as number[],
      check: [] as number[],
      taken: [] as number[],
    };
    let bytes = 0;
    for (let round = -1; round < (size > 1000 ? 2 : rounds) && !io.stop.aborted; round++) {
      io.progress(`${size} rules: compiled, and taken`);
      timed(times.texts, () => {
        for (const { rule } of rules) compileFilterText(rule.expr, rule.lang);
      });
      closed(timed(times.here, () => makePrograms(rules, options)));
      const bundle = timed(times.check, () => verifyBundle(line, trust, now(), frameLength));
      if ('refused' in bundle) throw new Error(bundle.why);
      closed(timed(times.taken, () => makePrograms(rules, options, bundle.set)));
      bytes = bundle.bytes.program.length;
      await turn();
      // The first round is for code that is not compiled yet.
      if (round < 0) for (const list of Object.values(times)) list.length = 0;
    }
    const [texts, made, check, taken] = [times.texts, times.here, times.check, times.taken].map(median);
    // A gate looks at the texts of new rules before it hands them on.
    const here = texts + made;
    rows.push({
      rules: size,
      here,
      check,
      taken,
      saved: (100 * (here - taken)) / here,
      bytes: bytes / 1024,
      line: line.length / 1024,
    });
  }
  return {
    title: 'A set of rules on its way into a gate: compiled there, and taken as a desk has compiled it',
    columns: [
      { key: 'rules', title: 'rules' },
      { key: 'here', title: 'compiled, verified, loaded: ms of CPU', digits: 1 },
      { key: 'check', title: 'programs of a desk: checked, once', digits: 1 },
      { key: 'taken', title: 'put in, verified, loaded: each time', digits: 1 },
      { key: 'saved', title: 'saved each time, %', digits: 0 },
      { key: 'bytes', title: 'program, KiB', digits: 1 },
      { key: 'line', title: 'on the wire, KiB', digits: 1 },
    ],
    rows,
  };
}

/** What the parts of a fleet cost, for docs/fleet-scaling.md. Needs nats-server and the rights to load programs. */
export async function benchFleet(rounds: number, io: BenchIo): Promise<{ tables: Table[]; notes: string[] }> {
  const tables = [await signatures(rounds, io), sampleBatches(rounds, io), await compileOnce(rounds, io)];
  unshareNetns();
  await run(['ip', 'link', 'set', 'lo', 'up']);
  const directory = await mkdtemp(join(tmpdir(), `sluice-lab-${process.pid}-`));
  const server = new NatsServer(directory);
  try {
    await server.start();
    const place = natsPlace(server.url('127.0.0.1'));
    const connection = await connectOnce(place);
    const kvm = new Kvm(connection);
    tables.push(await wholeBooks(server, await kvm.create(place.rules, { history: 1 }), io));
    await (await kvm.open(place.rules)).destroy();
    tables.push(await fanOut(server, await kvm.create(place.rules, { history: 1 }), io));
    await connection.close();
  } finally {
    await server.kill();
    await rm(directory, { recursive: true, force: true });
  }
  return {
    tables,
    notes: ['nats-server runs on the same machine as its clients; its CPU time is its own.'],
  };
}
