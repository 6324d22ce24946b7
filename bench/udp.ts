import { type ChildProcessByStdio, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { cpus, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface, type Interface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { Worker } from 'node:worker_threads';
import { packageRoot } from '../src/kernel/index.ts';
import { type BenchIo, interleaved, median, paired, ratio, type Table } from './measure.ts';
import type { Received, ReceiverSetup } from './udp-receiver.ts';

const ADDRESS = '127.0.0.1';
/** As UdpReceiver takes them. */
const BATCH = 256;
const DATAGRAM_BYTES = 150;

export interface UdpBenchOptions {
  rounds: number;
  /** Datagrams per second. */
  rate: number;
  /** Of each measurement. */
  seconds: number;
}

/** What datagrams are sent to. */
interface Receiver {
  readonly name: string;
  readonly port: number;
  report(): Promise<Received>;
  stop(): Promise<void>;
}

class ThreadReceiver implements Receiver {
  readonly name: string;
  port = 0;
  readonly #worker: Worker;

  private constructor(setup: ReceiverSetup, name: string) {
    this.name = name;
    const body = import.meta.url.endsWith('.ts') ? './udp-receiver.ts' : './udp-receiver.js';
    this.#worker = new Worker(new URL(body, import.meta.url), { workerData: setup });
  }

  static async start(setup: ReceiverSetup, name: string): Promise<ThreadReceiver> {
    const receiver = new ThreadReceiver(setup, name);
    [receiver.port] = (await once(receiver.#worker, 'message')) as [number];
    return receiver;
  }

  async report(): Promise<Received> {
    this.#worker.postMessage('report');
    const [received] = (await once(this.#worker, 'message')) as [Received];
    return received;
  }

  async stop(): Promise<void> {
    await this.#worker.terminate();
  }
}

class ProcessReceiver implements Receiver {
  readonly name: string;
  port = 0;
  readonly #child: ChildProcessByStdio<Writable, Readable, null>;
  readonly #lines: Interface;

  private constructor(program: string, cpu: number, name: string) {
    this.name = name;
    this.#child = spawn(program, ['receive', ADDRESS, `${BATCH}`, `${cpu}`], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    this.#lines = createInterface(this.#child.stdout);
  }

  static async start(program: string, cpu: number, name: string): Promise<ProcessReceiver> {
    const receiver = new ProcessReceiver(program, cpu, name);
    [receiver.port = 0] = await receiver.#numbers();
    return receiver;
  }

  async #numbers(): Promise<number[]> {
    const [line] = (await once(this.#lines, 'line')) as [string];
    return line.split(' ').map(Number);
  }

  async report(): Promise<Received> {
    this.#child.stdin.write('\n');
    const [packets = 0, cpuNs = 0, sum = 0] = await this.#numbers();
    return { packets, cpuNs, sum };
  }

  async stop(): Promise<void> {
    const closed = once(this.#child, 'close');
    this.#child.stdin.end();
    await closed;
  }
}

/** The sender, and the receiver that ours is held against; undefined without a compiler. */
function compiled(directory: string): string | undefined {
  const program = join(directory, 'udp');
  const source = join(packageRoot(), 'bench', 'udp.c');
  for (const compiler of ['clang', 'cc'])
    if (spawnSync(compiler, ['-O2', '-o', program, source], { stdio: 'ignore' }).status === 0) return program;
  return undefined;
}

async function send(program: string, port: number, cpu: number, { rate, seconds }: UdpBenchOptions) {
  const count = Math.round(rate * seconds);
  const args = [ADDRESS, port, DATAGRAM_BYTES, rate, count, cpu].map(String);
  const child = spawn(program, ['send', ...args], { stdio: ['ignore', 'ignore', 'inherit'] });
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Error(`the sender ended with ${code}`);
  return count;
}

interface Way {
  receiver: Receiver;
  sent: number;
  received: number;
}

/** CPU nanoseconds for each datagram received. */
async function measure(way: Way, program: string, cpu: number, options: UdpBenchOptions): Promise<number> {
  const before = await way.receiver.report();
  const count = await send(program, way.receiver.port, cpu, options);
  // What is still in the socket; what is lost never comes.
  let after = await way.receiver.report();
  for (let turn = 0; turn < 50 && after.packets - before.packets < count; turn++) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    after = await way.receiver.report();
  }
  const received = after.packets - before.packets;
  way.sent += count;
  way.received += received;
  return (after.cpuNs - before.cpuNs) / received;
}

/** Adds them to `all` as they start. */
async function start(program: string, cpu: number, all: Receiver[]): Promise<string[]> {
  const thread = (kind: ReceiverSetup['kind'], name: string) =>
    ThreadReceiver.start({ kind, address: ADDRESS, cpu }, name);
  all.push(await thread('dgram', 'node:dgram'));
  all.push(await thread('recvmmsg', 'recvmmsg'));
  all.push(await ProcessReceiver.start(program, cpu, `C, recvmmsg of ${BATCH}`));
  try {
    all.push(await thread('io_uring', 'io_uring'));
  } catch (error) {
    return [`io_uring: ${error instanceof Error ? error.message : String(error)}: not measured`];
  }
  return [];
}

/**
 * A mirror's datagrams at a fixed rate over the loopback interface, into Node's own sockets, into ours, and into a receiver
 * in C: CPU time of the receiver, without what is done with the frames.
 */
export async function benchUdp(
  options: UdpBenchOptions,
  io: BenchIo,
): Promise<{ tables: Table[]; notes: string[] }> {
  const directory = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
  const all: Receiver[] = [];
  try {
    const program = compiled(directory);
    if (program === undefined)
      return { tables: [], notes: ['neither clang nor cc is installed: nothing to send with'] };
    // Sender and receiver on CPUs of their own, where there are two.
    const [from, to] = cpus().length > 1 ? [0, 1] : [-1, -1];
    const notes = await start(program, to, all);
    const ways = all.map((receiver) => ({ receiver, sent: 0, received: 0 }));
    const values = await interleaved(ways, options.rounds, io, (way) => measure(way, program, from, options));
    return { tables: tables(ways, values, options), notes: [...notes, ...losses(ways)] };
  } finally {
    await Promise.all(all.map((receiver) => receiver.stop()));
    rmSync(directory, { recursive: true });
  }
}

function losses(ways: readonly Way[]): string[] {
  return ways
    .filter(({ sent, received }) => received < sent)
    .map(
      ({ receiver, sent, received }) =>
        `${receiver.name} lost ${sent - received} of ${sent}: its figure is not one without loss`,
    );
}

function tables(ways: readonly Way[], values: readonly number[][], { rate }: UdpBenchOptions): Table[] {
  const [dgram = [], ours = [], c = []] = values;
  const held = (name: string, over: readonly number[], bar: number) => {
    const value = paired(ours, over, ratio);
    return { name, value, bar, kept: value <= bar ? 'yes' : 'no' };
  };
  return [
    {
      title: `CPU of a receiver, ns for each of ${rate.toLocaleString('en-US')} datagrams of ${DATAGRAM_BYTES} bytes a second`,
      columns: [
        { key: 'name', title: 'receiver' },
        { key: 'ns', title: 'ns' },
        { key: 'dgram', title: '× node:dgram', digits: 2 },
        { key: 'c', title: '× C', digits: 2 },
        { key: 'lost', title: 'lost' },
      ],
      rows: ways.map(({ receiver, sent, received }, at) => ({
        name: receiver.name,
        ns: median(values[at] ?? []),
        dgram: paired(values[at] ?? [], dgram, ratio),
        c: paired(values[at] ?? [], c, ratio),
        lost: sent - received,
      })),
    },
    {
      title: 'bars: recvmmsg',
      columns: [
        { key: 'name', title: 'over' },
        { key: 'value', title: '×', digits: 2 },
        { key: 'bar', title: 'bar', digits: 2 },
        { key: 'kept', title: 'kept' },
      ],
      rows: [held('node:dgram', dgram, 1 / 3), held('C, the same batch', c, 1.15)],
    },
  ];
}
