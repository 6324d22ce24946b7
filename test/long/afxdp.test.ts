import { expect } from 'vitest';
import { createLab } from '../../lab/lab.ts';
import { demoPlan } from '../../lab/plan.ts';
import { runTraffic } from '../../lab/traffic.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { lossless } from '../sensor/lossless.ts';
import {
  documentOf,
  Feed,
  LedgerReader,
  LogDir,
  mixed,
  pause,
  runOn,
  runOnTap,
  sumOf,
  suspend,
} from '../sensor/run.ts';
import { ip, kernelTest, ownNetns, until, vethPair } from '../support/kernel.ts';

const FEATURES = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing', 'xdpSocket', 'tcx'] as const;
const GATED = ['--capture', 'afxdp'];
const CONNECTIONS = 20;
/** Frames are copied: slow enough for a busy machine to shunt most of what is long before it ends. */
const MBPS = 100;

ownNetns();

const frames = mixed(
  Array.from({ length: CONNECTIONS }, (_, i) =>
    conversation({
      client: { address: '192.0.2.1', port: 5000 + i },
      server: { address: '192.0.2.2', port: 80 },
      turns: [{ from: 'server', data: 1_000_000 }],
      mss: 1400,
    }),
  ),
);

kernelTest(
  'frames taken by AF_XDP: records are the same with the gate and without, on a bad link',
  [...FEATURES],
  async () => {
    const result = await lossless(
      { mbps: MBPS, impair: { seed: 4321, drop: 0.005, duplicate: 0.004, reorder: 0.006 } },
      { gated: GATED },
    );
    expect(result.summary.interfaces[0].capture).toBe('afxdp (copy)');
    expect(result.shunted).toBeGreaterThan(100);
  },
);

kernelTest('frames taken by AF_XDP: so they are with VLAN tags', [...FEATURES], async () => {
  const result = await lossless({ mbps: MBPS, vlan: { inner: 100, outer: 200 } }, { gated: GATED });
  expect(result.shunted).toBeGreaterThan(100);
});

kernelTest(
  'frames taken by AF_XDP: a stop while traffic flows as fast as it can loses nothing',
  [...FEATURES],
  async () => {
    await using lab = await createLab({ mbps: 0 });
    const traffic = new AbortController();
    const driven = runTraffic(lab, demoPlan(300), { signal: traffic.signal });
    try {
      using logs = new LogDir();
      await using run = await runOnTap(lab, 'a', logs, ...GATED).ready();
      await until(() => logs.shunts('end') > 0 && logs.shunts('start') > 3, 'nothing is shunted');
      await pause(500);
      const ended = await run.stop();
      expect(ended).toMatchObject({ code: 0, signal: null });
      const { ring, ledger, latePackets, connections } = documentOf(ended);
      const conn = logs.read('conn');
      const shunted = ledger?.shunted.pkts ?? 0;
      expect(shunted).toBeGreaterThan(0);
      expect(latePackets).toBe(0);
      expect(conn.length).toBe(connections);
      expect(ring.packets).toBe(ledger?.passed.pkts);
      expect(sumOf(conn, 'orig_pkts', 'resp_pkts')).toBe(ring.packets - ring.drops + shunted);
      expect(sumOf(conn, 'orig_shunted_pkts', 'resp_shunted_pkts')).toBe(shunted);
    } finally {
      traffic.abort();
      await driven;
    }
  },
);

kernelTest('frames taken by AF_XDP: an interface goes down, comes up, goes away', [...FEATURES], async () => {
  const { a, b } = vethPair();
  using logs = new LogDir();
  await using run = await runOn(a, logs, ...GATED, '--policy', 'none').ready();
  const noted = (note: string) => logs.read('notice').some((record) => record['note'] === note);
  using ledger = new LedgerReader(a);
  await new Feed(b, frames.slice(0, 500)).done;
  await until(() => ledger.read().passed.pkts === 500, 'frames are missing');
  ip(`link set ${a} down`);
  await until(() => noted('Sluice::Interface_Down'), 'nobody says that it is down');
  ip(`link set ${a} up`);
  await until(() => noted('Sluice::Interface_Up'), 'nobody says that it is up');
  // A cable takes frames a little later than it says.
  const before = ledger.read().passed.pkts;
  await until(() => {
    ip(`link set ${b} up`);
    void new Feed(b, frames.slice(500, 510)).done;
    return ledger.read().passed.pkts > before;
  }, 'nothing comes any more');
  ip(`link del ${a}`);
  const ended = await run.end();
  expect(ended.code).toBe(1);
  // Only now is it certain that nothing more comes.
  const { pkts } = ledger.read().passed;
  const summary = documentOf(ended);
  expect(summary.error?.code).toBe('INTERFACE_GONE');
  expect(summary.ring.packets).toBe(pkts);
  expect(sumOf(logs.read('conn'), 'orig_pkts', 'resp_pkts')).toBe(pkts - summary.ring.drops);
});

kernelTest('frames taken by AF_XDP in generic mode', [...FEATURES], async () => {
  const { a, b, remove } = vethPair();
  try {
    using logs = new LogDir();
    const options = [...GATED, '--mode', 'generic', '--policy', 'bulk=100kB'];
    await using run = await runOn(a, logs, ...options).ready();
    await new Feed(b, frames, 10_000, {
      from: frames.length >> 1,
      to: frames.length - 5000,
      until: () => logs.shunts('start') >= CONNECTIONS,
      what: 'not all are shunted',
    }).done;
    using ledger = new LedgerReader(a);
    await until(() => ledger.read().seen.pkts === frames.length, 'frames are missing');
    const summary = documentOf(await run.stop());
    expect(summary.interfaces[0]).toMatchObject({ mode: 'generic', capture: 'afxdp (copy)' });
    expect(summary).toMatchObject({ connections: CONNECTIONS, shuntedConnections: CONNECTIONS });
    expect(summary.ring.packets).toBe(summary.ledger?.passed.pkts);
    expect(sumOf(logs.read('conn'), 'orig_pkts', 'resp_pkts')).toBe(frames.length);
  } finally {
    remove();
  }
});

kernelTest(
  'frames taken by AF_XDP: those for which a sensor that stands still has no room are in the books',
  [...FEATURES],
  async () => {
    const { a, b, remove } = vethPair();
    try {
      using logs = new LogDir();
      const options = [...GATED, '--policy', 'none', '--ring-bytes', '1MiB'];
      await using run = await runOn(a, logs, ...options).ready();
      using ledger = new LedgerReader(a);
      await suspend(run.process.pid as number);
      await new Feed(b, frames.slice(0, 2000)).done;
      await until(() => ledger.read().passed.pkts === 2000, 'frames are missing');
      run.process.kill('SIGCONT');
      await pause(100);
      const { ring, ledger: books } = documentOf(await run.stop());
      expect(ring.drops).toBeGreaterThan(1000);
      expect(ring.drops).toBeLessThan(2000);
      expect(ring.packets).toBe(books?.passed.pkts);
      expect(sumOf(logs.read('conn'), 'orig_pkts', 'resp_pkts')).toBe(2000 - ring.drops);
      expect(logs.read('stats').at(-1)).toMatchObject({ pkts_dropped: ring.drops, pkts_link: 2000 });
    } finally {
      remove();
    }
  },
);
