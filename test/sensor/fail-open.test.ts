import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import type { Ledger } from '../../src/gate/index.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { kernelTest, ownNetns, sh, until, vethPair } from '../support/kernel.ts';
import { documentOf, Feed, LedgerReader, LogDir, mixed, pause, Run, sumOf, suspend } from './run.ts';

const XDP = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'] as const;
/** Longer than a busy machine keeps a thread waiting. */
const LEASE_MS = 2000;
const RATE = 6000;
const BLOCKER = join(import.meta.dirname, '..', 'support', 'blocker.ts');
const STEP_CLOCK = join(import.meta.dirname, '..', 'support', 'step-clock.c');

ownNetns();

/** Long transfers between many ports: several workers share them. */
function transfers(count: number, bytes: number): Uint8Array[] {
  return mixed(
    Array.from({ length: count }, (_, i) =>
      conversation({
        client: { address: '192.0.2.1', port: 6100 + i },
        server: { address: '192.0.2.2', port: 80 },
        turns: [{ from: 'server', data: bytes }],
        mss: 1400,
      }),
    ),
  );
}

/** `sluice run` with something put into its process. */
function runWith(ifname: string, logs: LogDir, environment: readonly string[], ...more: string[]): Run {
  const options = ['--lease', `${LEASE_MS}ms`, '--policy', 'bulk=100kB', '--ring-bytes', '256MiB', ...more];
  return new Run(
    ['run', '-i', ifname, '--json', '--log-dir', logs.path, ...options],
    ['env', ...environment],
  );
}

const blocking = (logs: LogDir): string[] => [
  `NODE_OPTIONS=--import=${BLOCKER}`,
  `SLUICE_TEST_BLOCK=${logs.path}`,
];

/** Blocks a thread, or lets it go on. */
async function block(logs: LogDir, thread: string, blocked: boolean): Promise<void> {
  const file = join(logs.path, thread);
  if (blocked) writeFileSync(file, '');
  else rmSync(file);
  await until(() => existsSync(`${file}.still`) === blocked, `${thread} is not as it is told`);
}

/** What the gate does with the next packets. */
async function meanwhile(ledger: LedgerReader, packets = 1000): Promise<[Ledger, Ledger]> {
  const before = ledger.read();
  await until(() => since(ledger.read(), before, 'seen') >= packets, 'nothing comes');
  return [ledger.read(), before];
}

const since = (now: Ledger, before: Ledger, what: 'seen' | 'shunted' | 'passed'): number =>
  now[what].pkts - before[what].pkts;

const reasons = (logs: LogDir): unknown[] =>
  logs.read('shunt').flatMap((r) => (r['event'] === 'end' ? [r['reason']] : []));

kernelTest(
  'a blocked main thread: the workers go on, no shunt ends, no packet is lost',
  [...XDP],
  async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    try {
      await using run = await runWith(a, logs, blocking(logs)).ready();
      const frames = transfers(4, 10_000_000);
      const feed = new Feed(b, frames, RATE);
      using ledger = new LedgerReader(a);
      await until(() => ledger.read().shunted.pkts > 1000, 'nothing is shunted');
      await block(logs, 'main', true);
      await pause(2 * LEASE_MS);
      const [after, before] = await meanwhile(ledger);
      await block(logs, 'main', false);
      expect(since(after, before, 'shunted')).toBeGreaterThan(since(after, before, 'seen') / 2);
      await feed.done;
      const summary = documentOf(await run.stop());
      expect(summary).toMatchObject({ connections: 4, latePackets: 0, ring: { drops: 0 } });
      expect(reasons(logs)).toEqual(['fin', 'fin', 'fin', 'fin']);
    } finally {
      remove();
    }
  },
);

kernelTest(
  'a worker that hangs while all others go on: its shunts lapse, theirs do not',
  [...XDP],
  async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    try {
      const count = 24;
      await using run = await runWith(a, logs, blocking(logs), '--workers', '2').ready();
      const frames = transfers(count, 2_000_000);
      const feed = new Feed(b, frames, RATE);
      using ledger = new LedgerReader(a);
      await until(() => logs.shunts('start') === count, 'nothing is shunted');
      await block(logs, 'worker-1', true);
      await pause(LEASE_MS + 300);
      const [after, before] = await meanwhile(ledger, 3000);
      await block(logs, 'worker-1', false);
      const [seen, passed] = [since(after, before, 'seen'), since(after, before, 'passed')];
      expect(since(after, before, 'shunted')).toBeGreaterThan(0);
      expect(passed).toBeGreaterThan(seen / count);
      expect(passed).toBeLessThan(seen);
      await feed.done;
      const summary = documentOf(await run.stop());
      expect(summary.connections).toBe(count);
      expect(summary.ring.drops).toBe(0);
      const lapsed = reasons(logs).filter((reason) => reason === 'lease').length;
      expect(lapsed).toBeGreaterThan(0);
      expect(lapsed).toBeLessThan(count);
      expect(summary.ledger?.reasons.passLease?.pkts).toBe(lapsed);
    } finally {
      remove();
    }
  },
);

kernelTest('the time of day is set by an hour, forth and back: no shunt ends by it', [...XDP], async () => {
  const { a, b, remove } = vethPair();
  using logs = new LogDir();
  try {
    const library = join(logs.path, 'step-clock.so');
    sh('cc', '-shared', '-fPIC', '-O1', '-o', library, STEP_CLOCK, '-ldl');
    const file = join(logs.path, 'step');
    const set = (seconds: number): void => {
      const bytes = Buffer.alloc(8);
      bytes.writeBigInt64LE(BigInt(seconds));
      // In place: the process has the file in its memory.
      writeFileSync(file, bytes, { flag: 'r+' });
    };
    writeFileSync(file, Buffer.alloc(8));
    const environment = [`LD_PRELOAD=${library}`, `STEP_CLOCK=${file}`];
    await using run = await runWith(a, logs, environment).ready();
    const frames = transfers(4, 12_000_000);
    const feed = new Feed(b, frames, RATE);
    using ledger = new LedgerReader(a);
    await until(() => logs.shunts('start') === 4, 'nothing is shunted');
    for (const seconds of [3600, -3600, 0]) {
      set(seconds);
      await pause(LEASE_MS);
      const [after, before] = await meanwhile(ledger);
      expect(since(after, before, 'shunted'), `${seconds}`).toBe(since(after, before, 'seen'));
    }
    expect(reasons(logs)).toEqual([]);
    await feed.done;
    await until(() => reasons(logs).length >= 4, 'not all have ended');
    expect(reasons(logs)).toEqual(['fin', 'fin', 'fin', 'fin']);
    expect(documentOf(await run.stop())).toMatchObject({ connections: 4, latePackets: 0 });
  } finally {
    remove();
  }
});

/** Longer than a busy machine keeps this process waiting. */
const IDLE_MS = 3000;

kernelTest(
  'without a lease the idle limit lets go: told, counted, and the record is whole',
  [...XDP],
  async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    try {
      const args = ['run', '-i', a, '--json', '--log-dir', logs.path, '--policy', 'bulk=100kB'];
      await using run = await new Run([...args, '--lease', 'off', '--shunt-idle', `${IDLE_MS}ms`]).ready();
      const frames = transfers(2, 3_000_000);
      const half = frames.length >> 1;
      using ledger = new LedgerReader(a);
      await new Feed(b, frames.slice(0, half), 3000, {
        from: half >> 1,
        to: half - 200,
        until: () => logs.shunts('start') >= 2,
        what: 'not all are shunted',
      }).done;
      expect(logs.shunts('start')).toBe(2);
      // It hangs, and nothing but silence ends a shunt.
      await suspend(run.process.pid as number);
      const hung = ledger.read();
      await new Feed(b, frames.slice(half, half + 300), 3000).done;
      expect(ledger.read().shunted.pkts - hung.shunted.pkts).toBe(300);
      await pause(IDLE_MS + 200);
      await new Feed(b, frames.slice(half + 300, half + 400), 3000).done;
      const { reasons: verdicts, shunted } = ledger.read();
      expect(shunted.pkts).toBe(hung.shunted.pkts + 300);
      expect(verdicts.passIdle?.pkts).toBe(2);
      run.process.kill('SIGCONT');
      const rest = frames.slice(half + 400);
      await new Feed(b, rest, 3000, {
        from: 0,
        to: rest.length >> 1,
        until: () => logs.shunts('start') >= 4,
        what: 'not all are shunted again',
      }).done;
      const summary = documentOf(await run.stop());
      expect(summary).toMatchObject({ connections: 2, latePackets: 0, ring: { drops: 0 } });
      expect(reasons(logs).filter((reason) => reason === 'idle').length).toBe(2);
      expect(logs.shunts('start')).toBe(4);
      const conn = logs.read('conn');
      expect(conn.map((r) => [r['resp_bytes'], r['conn_state'], r['missed_bytes']])).toEqual(
        conn.map(() => [3_000_000, 'SF', 0]),
      );
      expect(sumOf(conn, 'orig_pkts', 'resp_pkts')).toBe(frames.length);
    } finally {
      remove();
    }
  },
);
