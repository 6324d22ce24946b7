import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect } from 'vitest';
import { createLab } from '../../lab/lab.ts';
import { demoPlan } from '../../lab/plan.ts';
import { runTraffic } from '../../lab/traffic.ts';
import { interfaceInfo, xdpAttachment } from '../../src/kernel/index.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { pcapFile } from '../../src/packet/pcap.ts';
import type { RunSummary } from '../../src/sensor/report.ts';
import { sluice } from '../support/command.ts';
import { kernelTest, ownNetns, until, vethPair } from '../support/kernel.ts';
import { compare } from './compare.ts';
import {
  documentOf,
  Feed,
  LedgerReader,
  LogDir,
  mixed,
  pause,
  places,
  runOn,
  runOnTap,
  sumOf,
  suspend,
  tapLink,
} from './run.ts';

const XDP = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'] as const;

ownNetns();

/** Every packet that the ring counted or the gate dropped is in exactly one record. */
function expectWholeBooks(summary: RunSummary, logs: LogDir): void {
  const conn = logs.read('conn');
  const shunted = summary.ledger?.shunted.pkts ?? 0;
  expect(shunted).toBeGreaterThan(0);
  expect(sumOf(conn, 'orig_pkts', 'resp_pkts')).toBe(summary.ring.packets - summary.ring.drops + shunted);
  expect(sumOf(conn, 'orig_shunted_pkts', 'resp_shunted_pkts')).toBe(shunted);
  expect(conn.length).toBe(summary.connections);
  expect(new Set(conn.map((r) => r['uid'])).size).toBe(conn.length);
  expect(conn.filter((r) => r['is_shunted'] === true).length).toBe(summary.shuntedConnections);
  expect(summary).toMatchObject({ latePackets: 0, logLinesLost: 0 });
  const { length: starts } = logs.read('shunt').filter((r) => r['event'] === 'start');
  expect(logs.read('shunt').filter((r) => r['event'] === 'end').length).toBeGreaterThanOrEqual(starts);
  expect(['conn', 'shunt', 'stats', 'notice'].every((name) => logs.whole(name))).toBe(true);
}

describe('a stop', () => {
  kernelTest(
    'by SIGTERM or SIGINT, while traffic flows as fast as it can: nothing is lost or left',
    [...XDP, 'tcx'],
    async () => {
      await using lab = await createLab({ mbps: 0 });
      const traffic = new AbortController();
      // Until it is told to end.
      const driven = runTraffic(lab, { ...demoPlan(280), maxBytes: 1e12 }, { signal: traffic.signal });
      try {
        for (const [signal, code] of [
          ['SIGTERM', 0],
          ['SIGINT', 130],
        ] as const) {
          using logs = new LogDir();
          await using run = await runOnTap(lab, 'a', logs).ready();
          const { ifindex, xdp } = await tapLink(lab, 'a');
          expect(xdp).toBeDefined();
          const { pins, lock } = places(ifindex, lab.namespace('tapA').inode);
          expect(existsSync(pins) && existsSync(lock)).toBe(true);
          await until(() => logs.shunts('end') > 0 && logs.shunts('start') > 3, 'nothing is shunted');
          await pause(500);
          const ended = await run.stop(signal);
          expect(ended).toMatchObject({ code, signal: null });
          const summary = documentOf(ended);
          expectWholeBooks(summary, logs);
          expect((await tapLink(lab, 'a')).xdp).toBeUndefined();
          expect(existsSync(pins) || existsSync(lock)).toBe(false);
        }
      } finally {
        traffic.abort();
        await driven;
      }
    },
  );

  kernelTest('after --duration comes by itself, and open connections are written', [...XDP], async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    try {
      // Long enough for what is sent to be there in time, on a busy machine too.
      const policy = ['--policy', 'bulk=200kB', '--lease', '60s'];
      const run = await runOn(a, logs, '--duration', '8', '--retire', '300ms', ...policy).ready();
      const open = [4000, 4001, 4002].map((port) =>
        conversation({
          client: { address: '2001:db8::7', port },
          server: { address: '2001:db8::8', port: 80 },
          turns: [{ from: 'server', data: 3_000_000 }],
          mss: 1400,
          close: 'none',
        }),
      );
      const frames = mixed(open);
      await new Feed(b, frames, 12_000, {
        from: frames.length >> 1,
        to: frames.length - 1000,
        until: () => logs.shunts('start') > 0,
        what: 'nothing is shunted',
      }).done;
      const ended = await run.end();
      expect(ended).toMatchObject({ code: 0, signal: null });
      expectWholeBooks(documentOf(ended), logs);
      expect(logs.read('conn').map((r) => [r['conn_state'], r['resp_bytes']])).toEqual(
        open.map(() => ['S1', 3_000_000]),
      );
      expect(xdpAttachment(interfaceInfo(a).index)).toBeUndefined();
    } finally {
      remove();
    }
  });
});

describe('fail open', () => {
  kernelTest(
    'a sensor that hangs lets everything pass after its lease, and goes on where it was',
    [...XDP],
    async () => {
      // Longer than a busy machine keeps a sensor waiting.
      const LEASE_MS = 2000;
      const RATE = 6000;
      const { a, b, remove } = vethPair();
      using logs = new LogDir();
      using expected = new LogDir();
      try {
        const ring = ['--ring-bytes', '256MiB'];
        await using run = await runOn(a, logs, '--lease', `${LEASE_MS}ms`, ...ring).ready();
        const conversations = [false, true].flatMap((wide) =>
          [6001, 6002].map((port) =>
            conversation({
              client: { address: wide ? '2001:db8::1' : '192.0.2.1', port },
              server: { address: wide ? '2001:db8::2' : '192.0.2.2', port: 80 },
              turns: [{ from: port === 6001 ? 'server' : 'client', data: 12_000_000 }],
              mss: 1400,
              close: wide ? 'server-rst' : 'client-fin',
              retransmit: 0.002,
            }),
          ),
        );
        const frames = mixed(conversations);
        using ledger = new LedgerReader(a);
        const shunted = (): number => ledger.read().shunted.pkts;
        // Some wait until it goes on, and are dropped then.
        let again = Number.POSITIVE_INFINITY;
        const feed = new Feed(b, frames, RATE, {
          from: frames.length - 12_000,
          to: frames.length - 10_000,
          until: () => shunted() > again,
          what: 'it does not shunt again',
        });
        await until(() => shunted() > 5000, 'nothing is shunted');

        await suspend(run.process.pid as number);
        await pause(LEASE_MS + 150);
        const lapsed = ledger.read();
        await until(() => ledger.read().seen.pkts > lapsed.seen.pkts + 1000, 'nothing comes');
        const hung = ledger.read();
        expect(hung.shunted).toEqual(lapsed.shunted);
        expect(hung.passed.pkts - lapsed.passed.pkts).toBe(hung.seen.pkts - lapsed.seen.pkts);
        run.process.kill('SIGCONT');
        again = hung.shunted.pkts;
        await until(() => shunted() > hung.shunted.pkts + 5000, 'it does not shunt again');

        await feed.done;
        const ended = await run.stop();
        expect(ended).toMatchObject({ code: 0, signal: null });
        const summary = documentOf(ended);
        expect(summary.ledger?.seen.pkts).toBe(frames.length);
        expect(summary.ring.drops).toBe(0);
        expectWholeBooks(summary, logs);
        const reasons = logs.read('shunt').map((r) => r['reason']);
        expect(reasons.filter((reason) => reason === 'lease').length).toBe(conversations.length);

        // Against the same frames, read from a file.
        const file = join(expected.path, 'sent.pcap');
        writeFileSync(file, pcapFile(frames.map((bytes, i) => ({ ts: 1_700_000_000 + i / RATE, bytes }))));
        const read = await sluice('read', file, '--log-dir', expected.path);
        expect(read.code, read.stderr).toBe(0);
        const { differences, connections } = compare(logs.read('conn'), expected.read('conn'));
        expect(differences).toEqual([]);
        expect(connections).toBe(conversations.length);
      } finally {
        remove();
      }
    },
  );
});
