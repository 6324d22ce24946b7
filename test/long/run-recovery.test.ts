import { existsSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { LAYOUT_VERSION } from '../../src/gate/layout.ts';
import { BpfMap, interfaceInfo, xdpAttachment } from '../../src/kernel/index.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { pcapFile } from '../../src/packet/pcap.ts';
import { type Comparison, type ConnLine, compare } from '../sensor/compare.ts';
import {
  documentOf,
  Feed,
  LedgerReader,
  LogDir,
  mixed,
  noted,
  places,
  type Run,
  runOn,
  sumOf,
  untilSeen,
} from '../sensor/run.ts';
import { sluice } from '../support/command.ts';
import { kernelTest, ownNetns, until, vethPair } from '../support/kernel.ts';

const XDP = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'] as const;
const RATE = 8000;
const POLICY = ['--policy', 'bulk=200kB'];

ownNetns();

/** Transfers that are longer than anything that happens to their sensors. */
function transfers(count: number, bytes: number, seed: number): Uint8Array[] {
  return mixed(
    Array.from({ length: count }, (_, i) => {
      const wide = i % 2 === 1;
      return conversation({
        client: { address: wide ? '2001:db8::1' : '192.0.2.1', port: 7000 + i },
        server: { address: wide ? '2001:db8::2' : '192.0.2.2', port: 80 },
        turns: [
          { from: 'client', data: 300 },
          { from: 'server', data: bytes },
          { from: 'client', data: 2000 },
        ],
        mss: 1400,
        close: (['client-fin', 'server-rst', 'server-fin', 'none'] as const)[i % 4],
        retransmit: 0.003,
        seed: seed + i,
      });
    }),
  );
}

/** What `sluice read` makes of these frames. */
async function readBack(frames: readonly Uint8Array[], logs: LogDir): Promise<ConnLine[]> {
  const file = join(logs.path, 'sent.pcap');
  writeFileSync(file, pcapFile(frames.map((bytes, i) => ({ ts: 1_700_000_000 + i / RATE, bytes }))));
  const read = await sluice('read', file, '--log-dir', logs.path);
  expect(read.code, read.stderr).toBe(0);
  return logs.read('conn');
}

interface Ends {
  /** The run is on `a`, frames come in by `b`. */
  a: string;
  b: string;
}

/**
 * Sends a part, in the course of which shunt.log comes to `starts` shunts that have begun, and waits until the run may be killed:
 * what passed before the last `count` of them is in their notes.
 */
async function sendAndSettle(
  { a, b }: Ends,
  logs: LogDir,
  frames: readonly Uint8Array[],
  { starts, count }: { starts: number; count: number },
): Promise<void> {
  await new Feed(b, frames, RATE, {
    from: frames.length >> 1,
    to: frames.length,
    until: () => logs.shunts('start') >= starts,
    what: 'not all are shunted',
  }).done;
  await until(() => noted(interfaceInfo(a).index) === count, 'not all that was shunted is noted');
  await untilSeen(a, frames.length);
}

/** Sends a part to a run that is not killed: it handles all that came before it ends. */
async function send(ifname: string, frames: readonly Uint8Array[]): Promise<void> {
  await new Feed(ifname, frames, RATE).done;
}

const expectSame = ({ differences, connections }: Comparison, count: number): void => {
  expect(differences).toEqual([]);
  expect(connections).toBe(count);
};

const uids = (records: readonly ConnLine[]): unknown[] =>
  records.map((r) => String(r['uid'])).toSorted((x, y) => x.localeCompare(y));

/** Kills a run, and looks whether anything of it acts any more. */
async function kill(run: Run, ifname: string): Promise<void> {
  expect((await run.stop('SIGKILL')).signal).toBe('SIGKILL');
  expect(xdpAttachment(interfaceInfo(ifname).index)).toBeUndefined();
}

kernelTest(
  'a connection goes on where a killed run has left it: one record, with its uid',
  [...XDP],
  async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    using expected = new LogDir();
    try {
      const frames = transfers(4, 3_000_000, 1);
      const part = Math.ceil(frames.length / 3);
      await using first = await runOn(a, logs, ...POLICY).ready();
      await sendAndSettle({ a, b }, logs, frames.slice(0, part), { starts: 4, count: 4 });
      const started = logs.read('shunt').filter((r) => r['event'] === 'start');
      expect(started.length).toBe(4);
      await kill(first, a);
      // The one that goes on with them is killed too.
      await using second = await runOn(a, logs, ...POLICY).ready();
      expect(second.stderr).toContain('goes on with 4 connections');
      await sendAndSettle({ a, b }, logs, frames.slice(part, 2 * part), { starts: 8, count: 4 });
      await kill(second, a);
      await using third = await runOn(a, logs, ...POLICY).ready();
      await send(b, frames.slice(2 * part));
      await untilSeen(a, frames.length - 2 * part);
      const ended = await third.stop();
      expect(ended).toMatchObject({ code: 0, signal: null });
      const summary = documentOf(ended);
      expect(summary).toMatchObject({ recovered: 4, connections: 4, shuntedConnections: 4, latePackets: 0 });

      const conn = logs.read('conn');
      expectSame(compare(conn, await readBack(frames, expected)), 4);
      expect(conn.every((r) => r['recovered'] === true && r['is_shunted'] === true)).toBe(true);
      expect(uids(conn)).toEqual(uids(started));
      const shunts = logs.read('shunt');
      expect(shunts.filter((r) => r['event'] === 'recovered').length).toBe(8);
      expect(logs.shunts('orphaned')).toBe(0);
      // Every dropped packet is in one line of shunt.log and in the record.
      const told = shunts.filter((r) => r['event'] === 'end' || r['event'] === 'recovered');
      const dropped = sumOf(conn, 'orig_shunted_pkts', 'resp_shunted_pkts');
      expect(dropped).toBeGreaterThan(frames.length / 4);
      expect(sumOf(told, 'orig_shunted_pkts', 'resp_shunted_pkts')).toBe(dropped);
      expect(existsSync(places(interfaceInfo(a).index).pins)).toBe(false);
    } finally {
      remove();
    }
  },
);

kernelTest('what passes while there is no sensor is missing, and nothing else', [...XDP], async () => {
  const { a, b, remove } = vethPair();
  using logs = new LogDir();
  using expected = new LogDir();
  try {
    const frames = transfers(4, 3_000_000, 50);
    const part = Math.ceil(frames.length / 3);
    await using first = await runOn(a, logs, ...POLICY).ready();
    await sendAndSettle({ a, b }, logs, frames.slice(0, part), { starts: 4, count: 4 });
    await kill(first, a);
    await send(b, frames.slice(part, 2 * part));
    // Several workers, where there was one: each connection is found by the one that gets its packets.
    await using second = await runOn(a, logs, ...POLICY, '--workers', '2').ready();
    await send(b, frames.slice(2 * part));
    await untilSeen(a, frames.length - 2 * part);
    expect(documentOf(await second.stop())).toMatchObject({ recovered: 4, connections: 4, latePackets: 0 });
    const seen = [...frames.slice(0, part), ...frames.slice(2 * part)];
    const conn = logs.read('conn');
    const reference = await readBack(seen, expected);
    const { differences, apart, connections } = compare(conn, reference);
    expect({ differences, connections }).toEqual({ differences: [], connections: 4 });
    expect(apart).toBe(0);
    expect(sumOf(conn, 'missed_bytes')).toBeGreaterThan(2_000_000);
    expect(sumOf(conn, 'orig_pkts', 'resp_pkts')).toBe(seen.length);
    expect(conn.every((r) => r['recovered'] === true)).toBe(true);
  } finally {
    remove();
  }
});

kernelTest(
  'a connection that is silent after the kill gets its record all the same, a new one on its tuple its own',
  [...XDP],
  async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    try {
      const [silent, again] = [7100, 7101].map((port) =>
        conversation({
          client: { address: '192.0.2.1', port },
          server: { address: '192.0.2.2', port: 80 },
          turns: [{ from: 'server', data: 3_000_000 }],
          mss: 1400,
          close: 'none',
        }),
      );
      const anew = conversation({
        client: { address: '192.0.2.1', port: 7101 },
        server: { address: '192.0.2.2', port: 80 },
        turns: [{ from: 'server', data: 5000 }],
        clientSeq: 5_000_000,
        serverSeq: 9_000_000,
      }).map(({ bytes }) => bytes);
      await using first = await runOn(a, logs, ...POLICY).ready();
      await sendAndSettle({ a, b }, logs, mixed([silent, again]), { starts: 2, count: 2 });
      await kill(first, a);
      await using second = await runOn(a, logs, ...POLICY).ready();
      await send(b, anew);
      await untilSeen(a, anew.length);
      expect(documentOf(await second.stop())).toMatchObject({ recovered: 2, connections: 3, latePackets: 0 });
      const conn = logs.read('conn').toSorted((x, y) => x.ts - y.ts);
      expect(conn.map((r) => [r['id.orig_p'], r['resp_bytes'], r['recovered']])).toEqual([
        ...[7100, 7101].map((port) => [port, 3_000_000, true]),
        [7101, 5000, undefined],
      ]);
      expect(sumOf(conn, 'orig_pkts', 'resp_pkts')).toBe(silent.length + again.length + anew.length);
    } finally {
      remove();
    }
  },
);

kernelTest('what cannot be used is logged with its counts, and removed', [...XDP], async () => {
  const { a, b, remove } = vethPair();
  using logs = new LogDir();
  try {
    const open = transfers(4, 2_000_000, 80).slice(0, 5000);
    for (const [why, ...options] of [['another key', '--vlan-key'], ['a damaged note']]) {
      const before = logs.read('shunt').length;
      const starts = logs.shunts('start') + 4;
      await using run = await runOn(a, logs, ...POLICY).ready();
      await sendAndSettle({ a, b }, logs, open, { starts, count: 4 });
      using ledger = new LedgerReader(a);
      const { pkts } = ledger.read().shunted;
      expect(pkts, why).toBeGreaterThan(1000);
      await kill(run, a);
      if (options.length === 0) damageNotes(a);
      await using next = await runOn(a, logs, ...POLICY, ...options).ready();
      expect(next.stderr).toContain('removed 4 shunts that an earlier run had left');
      expect(documentOf(await next.stop())).toMatchObject({ recovered: 0, connections: 0 });
      const orphans = logs
        .read('shunt')
        .slice(before)
        .filter((r) => r['event'] === 'orphaned');
      expect(sumOf(orphans, 'orig_shunted_pkts'), why).toBe(pkts);
      expect(existsSync(places(interfaceInfo(a).index).pins)).toBe(false);
    }
  } finally {
    remove();
  }
});

kernelTest(
  'a run of another layout starts beside what the killed one has pinned, at full load',
  [...XDP],
  async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    const { pins, lock } = places(interfaceInfo(a).index);
    const others = join(pins, 'v999');
    try {
      const frames = transfers(4, 8_000_000, 90);
      await using first = await runOn(a, logs, ...POLICY).ready();
      const feed = new Feed(b, frames, RATE);
      await until(() => logs.shunts('start') > 0, 'nothing is shunted');
      await kill(first, a);
      renameSync(join(pins, `v${LAYOUT_VERSION}`), others);
      const left = readdirSync(others).toSorted((x, y) => x.localeCompare(y));
      await using second = await runOn(a, logs, ...POLICY).ready();
      expect(second.stderr).not.toMatch(/goes on with|removed/);
      await feed.done;
      const summary = documentOf(await second.stop());
      expect(summary).toMatchObject({ recovered: 0, latePackets: 0 });
      expect(summary.ring.drops).toBe(0);
      expect(readdirSync(pins)).toEqual(['v999']);
      expect(readdirSync(others).toSorted((x, y) => x.localeCompare(y))).toEqual(left);
    } finally {
      rmSync(pins, { recursive: true, force: true });
      rmSync(lock, { force: true });
      remove();
    }
  },
);

/** Writes something else over the notes of a run that is dead. */
function damageNotes(ifname: string): void {
  using map = BpfMap.openPinned(join(places(interfaceInfo(ifname).index).pins, `v${LAYOUT_VERSION}`, 'side'));
  const key = new Uint8Array(map.keySize);
  const note = new Uint8Array(map.valueSize);
  for (let more = map.nextKey(undefined, key); more; more = map.nextKey(key.slice(), key)) {
    expect(map.get(key, note)).toBe(true);
    note.fill(0x5a, note.length / 2);
    note.fill(0x5a, 0, 8);
    map.set(key, note);
  }
}
