import { expect } from 'vitest';
import { AfPacketSource } from '../../src/capture/afpacket.ts';
import { interfaceInfo, openPacketRing, xdpAttachment } from '../../src/kernel/index.ts';
import { conversation } from '../../src/packet/conversation.ts';
import type { RunSummary } from '../../src/sensor/report.ts';
import { ip, kernelTest, ownNetns, until, untilOperational, vethPair } from '../support/kernel.ts';
import { documentOf, type ErrorDocument, Feed, LedgerReader, LogDir, mixed, runOn, sumOf } from './run.ts';

const FEATURES = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing', 'xdpSocket'] as const;
const CONNECTIONS = 20;
const OPTIONS = ['--capture', 'afxdp', '--policy', 'bulk=100kB'];

ownNetns();

const frames = mixed(
  Array.from({ length: CONNECTIONS }, (_, i) =>
    conversation({
      client: { address: i % 2 === 0 ? '192.0.2.1' : '2001:db8::1', port: 5000 + i },
      server: { address: i % 2 === 0 ? '192.0.2.2' : '2001:db8::2', port: 80 },
      turns: [{ from: 'server', data: 1_000_000 }],
      mss: 1400,
    }),
  ),
);

/** What the kernel's network stack gets of an interface. */
class Stack {
  readonly #source: AfPacketSource;
  #seen = 0;

  constructor(ifname: string) {
    const ring = openPacketRing({ interface: ifname, blockSize: 1 << 16, blocks: 32, retireMs: 5 });
    this.#source = new AfPacketSource(ring, ifname);
  }

  get seen(): number {
    this.#source.drain(() => this.#seen++, 1e6);
    return this.#seen;
  }

  [Symbol.dispose](): void {
    this.#source.close();
  }
}

/** Every packet that the interface got is in exactly one place. */
function expectBooks({ ledger, ring, latePackets }: RunSummary, logs: LogDir, sent: number): void {
  if (ledger === undefined) throw new Error('no ledger');
  expect(ledger.seen.pkts).toBe(sent);
  expect(ledger.passed.pkts + ledger.shunted.pkts).toBe(sent);
  expect(ring).toEqual({ packets: ledger.passed.pkts, drops: 0, freezes: 0 });
  expect(latePackets).toBe(0);
  const conn = logs.read('conn');
  expect(sumOf(conn, 'orig_pkts', 'resp_pkts')).toBe(sent);
  expect(sumOf(conn, 'orig_shunted_pkts', 'resp_shunted_pkts')).toBe(ledger.shunted.pkts);
  const stats = logs.read('stats').at(-1);
  expect(stats).toMatchObject({ pkts_dropped: 0, pkts_link: sent });
}

kernelTest(
  'a run takes frames from behind the gate; killed, it leaves them to the kernel',
  [...FEATURES],
  async () => {
    const { a, b, remove } = vethPair();
    try {
      using stack = new Stack(a);
      {
        using logs = new LogDir();
        await using run = await runOn(a, logs, ...OPTIONS).ready();
        expect(ip(`-d link show ${a}`)).toContain('promiscuity 2'); // and that of the stack's ring
        await new Feed(b, frames, 10_000, {
          from: frames.length >> 1,
          to: frames.length - 5000,
          until: () => logs.shunts('start') >= CONNECTIONS,
          what: 'not all are shunted',
        }).done;
        using ledger = new LedgerReader(a);
        await until(() => ledger.read().seen.pkts === frames.length, 'frames are missing');
        const summary = documentOf(await run.stop());
        expect(summary.interfaces).toEqual([
          { interface: a, mode: 'native', drop: 'xdp', capture: 'afxdp (copy)' },
        ]);
        expect(summary).toMatchObject({ connections: CONNECTIONS, shuntedConnections: CONNECTIONS });
        expectBooks(summary, logs, frames.length);
        expect(stack.seen).toBe(0);
      }
      expect(xdpAttachment(interfaceInfo(a).index)).toBeUndefined();
      {
        using logs = new LogDir();
        ip(`addr add 192.0.2.77/32 dev ${a}`);
        await using run = await runOn(a, logs, ...OPTIONS, '--tap').ready();
        expect(run.stderr).toMatch(/192\.0\.2\.77: with --capture afxdp this host cannot be reached/);
        ip(`addr del 192.0.2.77/32 dev ${a}`);
        await new Feed(b, frames.slice(0, 100)).done;
        using ledger = new LedgerReader(a);
        await until(() => ledger.read().passed.pkts === 100, 'frames are missing');
        expect(stack.seen).toBe(0);
        await run.stop('SIGKILL');
      }
      await until(() => xdpAttachment(interfaceInfo(a).index) === undefined, 'the gate stays');
      await new Feed(b, frames.slice(0, 100)).done;
      await until(() => stack.seen === 100, 'the kernel gets nothing');
      // The next run finds the queue free, and what the dead one has pinned.
      using logs = new LogDir();
      await using run = await runOn(a, logs, ...OPTIONS).ready();
      await new Feed(b, frames.slice(0, 100)).done;
      using ledger = new LedgerReader(a);
      await until(() => ledger.read().passed.pkts === 100, 'frames are missing');
      expectBooks(documentOf(await run.stop()), logs, 100);
      expect(stack.seen).toBe(100);
    } finally {
      remove();
    }
  },
);

kernelTest('each worker takes queues of its own, and all of them are taken', [...FEATURES], async () => {
  const queues = 'numtxqueues 3 numrxqueues 3';
  ip(`link add xa ${queues} type veth peer name xb ${queues}`);
  for (const name of ['xa', 'xb']) {
    ip(`link set ${name} addrgenmode none`);
    ip(`link set ${name} up`);
  }
  untilOperational('xa', 'xb');
  try {
    using stack = new Stack('xa');
    using logs = new LogDir();
    await using run = await runOn('xa', logs, ...OPTIONS, '--workers', '2').ready();
    const sent = frames.slice(0, 2000);
    await new Feed('xb', sent).done;
    using ledger = new LedgerReader('xa');
    await until(() => ledger.read().seen.pkts === sent.length, 'frames are missing');
    expectBooks(documentOf(await run.stop()), logs, sent.length);
    expect(stack.seen).toBe(0);
  } finally {
    ip('link del xa');
  }
});

kernelTest('what AF_XDP cannot do is refused with the next step', [...FEATURES], async () => {
  const { a, remove } = vethPair();
  try {
    using logs = new LogDir();
    for (const [options, message, help] of [
      [['--workers', '2'], /afxdp: \w+ has 1 receive queue,/, /ethtool -L \w+ combined 2/],
      [['--fanout', 'hash'], /--fanout does not go together with --capture/, /docs/],
      [['--snaplen', '256'], /--snaplen does not go together with --capture/, /docs/],
      [['--no-gate'], /--no-gate does not go .*gets what the gate passes on/, /docs/],
    ] as const) {
      const ended = await runOn(a, logs, '--capture', 'afxdp', ...options).ended;
      expect(ended.code).toBe(2);
      const { error } = JSON.parse(ended.stdout) as ErrorDocument;
      expect(error.code).toBe('USAGE');
      expect(error.message).toMatch(message);
      expect(error.help).toMatch(help);
    }
    expect(xdpAttachment(interfaceInfo(a).index)).toBeUndefined();
  } finally {
    remove();
  }
});
