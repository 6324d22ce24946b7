import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as wait } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { NatsServer } from '../lab/fleet/nats-server.ts';
import { run } from '../lab/process.ts';
import { unshareNetns } from '../src/kernel/index.ts';
import { connSchema } from '../src/log/conn-log.ts';
import { LinkTarget } from '../src/log/log-link.ts';
import { LogThread } from '../src/log/log-thread.ts';
import { LogWriter } from '../src/log/log-writer.ts';
import { parseSink } from '../src/log/sinks/index.ts';
import { type BenchIo, median, type Table } from './measure.ts';
import type { SinkReceiverSetup } from './sink-receiver.ts';

/** Records a second that every sink has to take, and seconds of it. */
const RATE = 10_000;
const SECONDS = 3;
const TURN_MS = 5;
/** Records in one go, for the most that a sink takes; they fit into its queue. */
const BURST = 100_000;
const LONGEST_MS = 60_000;
const QUEUE = 'queue=256MiB';

/** Beside the files: nothing, or one sink. */
interface Way {
  readonly name: string;
  readonly url: string | undefined;
}

/** What one way has taken. */
interface Taken {
  lost: number;
  /** Processor time of the process for each record at RATE, in microseconds. */
  cpu: number;
  /** Records a second when all come at once. */
  most: number;
}

/** Lines of conn.log as a run writes them: TLS over IPv4 with a community id. */
class Records {
  readonly #target: LinkTarget;
  readonly #write: (from: number, count: number) => void;

  constructor(thread: LogThread) {
    this.#target = new LinkTarget(thread.link(), 1 << 30);
    const writer = new LogWriter(this.#target);
    const channel = writer.channel(connSchema({ shunts: true, communityId: true }));
    this.#write = (from, count) => {
      for (let n = from; n < from + count; n++) channel(recordOf(n));
      writer.flush();
    };
  }

  write(from: number, count: number): void {
    this.#write(from, count);
  }

  [Symbol.dispose](): void {
    this.#target.close();
  }
}

const recordOf = (n: number) => ({
  ts: 1_790_000_000 + n / RATE,
  uid: `C${String(n).padStart(17, 'x')}`,
  origHost: `10.9.${(n >> 8) & 255}.${n & 255}`,
  origPort: 1024 + (n % 60_000),
  respHost: '192.0.2.2',
  respPort: 443,
  proto: 'tcp' as const,
  ipProto: 6,
  service: 'ssl',
  duration: 12.345678,
  origBytes: 1234,
  respBytes: 1_234_567,
  connState: 'SF',
  localOrig: true,
  localResp: false,
  missedBytes: 0,
  history: 'ShADadFf',
  origPkts: 321,
  origIpBytes: 14_000,
  respPkts: 912,
  respIpBytes: 1_280_000,
  tunnelParents: undefined,
  vlan: undefined,
  innerVlan: undefined,
  communityId: '1:LQU9qZlK+B5F3KDmev6m5PMibrg=',
});

const cpuMicroseconds = (): number => {
  const { user, system } = process.cpuUsage();
  return user + system;
};

async function measure({ url }: Way, directory: string, signal: AbortSignal): Promise<Taken> {
  const dir = await mkdtemp(join(directory, 'logs-'));
  const thread = await LogThread.start({ dir, sinks: url === undefined ? [] : [parseSink(url)] });
  let lost: number;
  let [cpu, most] = [Number.NaN, Number.NaN];
  try {
    using records = new Records(thread);
    /** Until so many records are where they belong. */
    const settled = async (count: number): Promise<void> => {
      for (
        const end = performance.now() + LONGEST_MS;
        performance.now() < end && !signal.aborted;
        await wait(2)
      ) {
        const totals = await thread.flush();
        const [sink] = totals.sinks ?? [];
        if ((sink === undefined ? totals.lines : sink.sent + sink.lost) >= count) return;
      }
    };
    // Code that is compiled, and a connection that is there.
    records.write(0, BURST / 2);
    await settled(BURST / 2);
    const before = cpuMicroseconds();
    const began = performance.now();
    let written = 0;
    while (written < RATE * SECONDS && !signal.aborted) {
      const due = Math.min(RATE * SECONDS, Math.floor(((performance.now() - began) / 1000) * RATE));
      records.write(written, due - written);
      written = due;
      await wait(TURN_MS);
    }
    await settled(BURST / 2 + written);
    cpu = (cpuMicroseconds() - before) / written;
    const from = performance.now();
    records.write(0, BURST);
    await settled(BURST / 2 + written + BURST);
    most = BURST / ((performance.now() - from) / 1000);
  } finally {
    const totals = await thread.close();
    lost = totals.lost + (totals.sinks?.[0]?.lost ?? 0);
    await rm(dir, { recursive: true, force: true });
  }
  return { lost, cpu, most };
}

/** A receiver in a thread of its own, and the port that it listens on. */
async function receiver(setup: SinkReceiverSetup): Promise<{ worker: Worker; port: number }> {
  const body = import.meta.url.endsWith('.ts') ? './sink-receiver.ts' : './sink-receiver.js';
  const worker = new Worker(new URL(body, import.meta.url), { workerData: setup });
  const port = await new Promise<number>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  return { worker, port };
}

/**
 * What sending records on beside the files costs, and how many a second each kind of sink takes. In a network namespace of its own: needs
 * CAP_SYS_ADMIN, and nats-server.
 */
export async function benchSinks(rounds: number, io: BenchIo): Promise<{ tables: Table[]; notes: string[] }> {
  unshareNetns();
  await run(['ip', 'link', 'set', 'lo', 'up']);
  const directory = await mkdtemp(join(tmpdir(), `sluice-lab-${process.pid}-`));
  const nats = new NatsServer(directory);
  const workers: Worker[] = [];
  try {
    await nats.start();
    const path = join(directory, 'sink');
    const started = await Promise.all([
      receiver({ kind: 'stream', path }),
      receiver({ kind: 'stream' }),
      receiver({ kind: 'datagram' }),
    ]);
    workers.push(...started.map(({ worker }) => worker));
    const [, tcp, udp] = started;
    const ways: Way[] = [
      { name: 'files alone', url: undefined },
      { name: 'unix', url: `unix://${path}?${QUEUE}` },
      { name: 'tcp', url: `tcp://127.0.0.1:${tcp.port}?${QUEUE}` },
      { name: 'syslog (UDP)', url: `syslog://127.0.0.1:${udp.port}?${QUEUE}` },
      { name: 'syslog+tcp', url: `syslog+tcp://127.0.0.1:${tcp.port}?${QUEUE}` },
      { name: 'nats', url: `${nats.url('127.0.0.1')}?${QUEUE}` },
    ];
    const found = ways.map((): Taken[] => []);
    for (let round = 0; round < rounds && !io.stop.aborted; round++)
      for (const [at, way] of ways.entries()) {
        io.progress(`round ${round + 1} of ${rounds}: ${way.name}`);
        if (!io.stop.aborted) found[at].push(await measure(way, directory, io.stop));
      }
    const alone = median(found[0].map(({ cpu }) => cpu));
    return {
      tables: [
        {
          title: `conn.log of ${RATE.toLocaleString('en-US')} records/s for ${SECONDS} s beside the files, and ${BURST.toLocaleString('en-US')} records at once`,
          columns: [
            { key: 'name', title: 'sink' },
            { key: 'lost', title: 'lost' },
            { key: 'cpu', title: 'CPU µs a record', digits: 1 },
            { key: 'over', title: 'over files alone', digits: 1 },
            { key: 'most', title: 'most records/s' },
          ],
          rows: ways.map(({ name }, at) => {
            const cpu = median(found[at].map((taken) => taken.cpu));
            return {
              name,
              lost: found[at].reduce((sum, taken) => sum + taken.lost, 0),
              cpu,
              over: cpu - alone,
              most: Math.round(median(found[at].map((taken) => taken.most))),
            };
          }),
        },
      ],
      notes: [
        'CPU is that of the whole process: who makes the records, the log thread, and the receivers of all but NATS.',
        'NATS: a record counts when the server has answered behind it.',
      ],
    };
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
    await nats.kill();
    await rm(directory, { recursive: true, force: true });
  }
}
