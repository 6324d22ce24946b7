import { once } from 'node:events';
import { cpus } from 'node:os';
import { Worker } from 'node:worker_threads';
import { bpfObjectPath } from '../src/gate/index.ts';
import { readWatchCounts } from '../src/gate/watch.ts';
import { type BpfObject, loadObject, XdpAction } from '../src/kernel/index.ts';
import { eth } from '../src/packet/build.ts';
import type { FloodSetup } from './flood-worker.ts';
import { openWatching, watchedPacket } from './gate-alone.ts';
import { ack, B, type Case, packets, run } from './gate-case.ts';
import { type BenchIo, difference, median, paired, ratio, type Table } from './measure.ts';

/** Of one source address. */
const PORTS = 65_536;
const FLOOD = { addr: '172.16.0.0', port: 0 };

/** A thread on the second CPU through which new flows come, each with one packet of data. */
class Flood {
  readonly #worker: Worker;
  readonly #control = new SharedArrayBuffer(8);
  readonly #words = new Int32Array(this.#control);

  constructor(front: BpfObject) {
    const body = import.meta.url.endsWith('.ts') ? './flood-worker.ts' : './flood-worker.js';
    const frame = eth().ipv4({ src: FLOOD.addr, dst: B.addr }).tcp(ack(0, B.port)).payload(100).bytes();
    const control = this.#control;
    const program = front.program('bench_spread').fd;
    const workerData: FloodSetup = { program, frame, cpu: 1, repeat: PORTS, control };
    this.#worker = new Worker(new URL(body, import.meta.url), { workerData });
  }

  async running(): Promise<void> {
    const { value } = Atomics.waitAsync(this.#words, 1, 0);
    await value;
  }

  /** Nanoseconds for each of its packets, and how many there were. */
  async stop(): Promise<{ ns: number; sent: number }> {
    const message = once(this.#worker, 'message');
    Atomics.store(this.#words, 0, 1);
    const [ns] = (await message) as [number];
    await this.#worker.terminate();
    return { ns, sent: PORTS * this.#words[1] };
  }
}

/**
 * The gate that stands alone while a flood of new flows comes by another CPU: what the packets of all others cost, with and
 * without it in the same rounds, and whether a shunt is gone. Undefined on a machine with one CPU.
 */
export async function floodTable(
  path: string,
  bare: BpfObject,
  rounds: number,
  repeat: number,
  io: BenchIo,
): Promise<Table | undefined> {
  if (cpus().length < 2) return undefined;
  using stack = new DisposableStack();
  const tables = openWatching(path, true, stack);
  const program = tables.object.program('sluice_gate');
  const front = stack.use(
    loadObject(bpfObjectPath('bench_bare'), { constants: { cfg_first_port: 0, cfg_port_mask: PORTS - 1 } }),
  );
  front.map('next').set(new Uint8Array(4), new Uint8Array(Uint32Array.of(program.fd).buffer));
  const [hit, miss] = [packets(true), packets(false)];
  const drop = { program, action: XdpAction.drop, floor: undefined };
  const pass = { program, action: XdpAction.pass, floor: undefined };
  const cases: Case[] = [
    { ...drop, name: 'hit, IPv4 TCP', data: hit.ack },
    { ...drop, name: 'hit, IPv6 TCP', data: hit.ack6 },
    { ...pass, name: 'miss: acknowledgement', data: miss.ack },
    { ...pass, name: 'miss: data, watched', data: watchedPacket() },
    { ...pass, name: 'miss: data over UDP, watched', data: miss.udp },
  ];
  const shunts = tables.entries();
  const found = cases.map(() => ({ quiet: [] as number[], flood: [] as number[] }));
  const own: number[] = [];
  let sent = 0;
  for (let round = 0; round < rounds && !io.stop.aborted; round++) {
    io.progress(`flood, round ${round + 1} of ${rounds}`);
    const quiet = cases.map((one) => run(one, bare, repeat));
    const flood = new Flood(front);
    await flood.running();
    const flooded = cases.map((one) => run(one, bare, repeat));
    const outcome = await flood.stop();
    own.push(outcome.ns);
    sent += outcome.sent;
    for (const [at, { quiet: before, flood: during }] of found.entries()) {
      before.push(quiet[at] ?? Number.NaN);
      during.push(flooded[at] ?? Number.NaN);
    }
  }
  const counts = readWatchCounts(tables.object.map('watch_count'));
  return {
    title: `alone, while new flows come by another CPU (${sent.toLocaleString('en-US')} in all)`,
    columns: [
      { key: 'name', title: 'case' },
      { key: 'quiet', title: 'ns without', digits: 1 },
      { key: 'flood', title: 'ns with', digits: 1 },
      { key: 'over', title: 'over', digits: 1 },
      { key: 'ratio', title: '×', digits: 2 },
      { key: 'count', title: 'count' },
    ],
    rows: [
      ...cases.map(({ name }, at) => {
        const { quiet, flood } = found[at] ?? { quiet: [], flood: [] };
        return {
          name,
          quiet: median(quiet),
          flood: median(flood),
          over: paired(flood, quiet, difference),
          ratio: paired(flood, quiet, ratio),
        };
      }),
      { name: 'a packet of the flood', flood: median(own) },
      { name: 'shunts before', count: shunts },
      { name: 'shunts after', count: tables.entries() },
      { name: 'new flows watched', count: counts.begun },
      { name: 'new flows passed unwatched', count: counts.unwatched },
    ],
  };
}
