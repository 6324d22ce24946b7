import { expect } from 'vitest';
import { conversation } from '../../src/packet/conversation.ts';
import { kernelTest, ownNetns, vethPair } from '../support/kernel.ts';
import { documentOf, Feed, LogDir, mixed, runOn, sumOf } from './run.ts';

const XDP = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'] as const;
const CONNECTIONS = 40;

ownNetns();

kernelTest(
  'workers that start under traffic: each connection is in one of them, and has one record',
  [...XDP],
  async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    try {
      const frames = mixed(
        Array.from({ length: CONNECTIONS }, (_, i) =>
          conversation({
            client: { address: i % 2 === 0 ? '192.0.2.1' : '2001:db8::1', port: 5000 + i },
            server: { address: i % 2 === 0 ? '192.0.2.2' : '2001:db8::2', port: 80 },
            turns: [{ from: i % 4 < 2 ? 'server' : 'client', data: 1_000_000 }],
            mss: 1400,
          }),
        ),
      );
      // All of them have begun, and go on slowly while the workers start, however long that takes.
      const begun = CONNECTIONS * 40;
      await new Feed(b, frames.slice(0, begun), 9000).done;
      const slow = new Feed(b, frames.slice(begun, Math.floor(frames.length / 2)), 500);
      await using run = await runOn(a, logs, '--workers', '3', '--policy', 'bulk=100kB').ready();
      await slow.stop();
      const missed = begun + slow.sent;
      const rest = frames.slice(missed);
      await new Feed(b, rest, 9000, {
        from: rest.length >> 2,
        to: rest.length >> 1,
        until: () => logs.shunts('start') >= CONNECTIONS,
        what: 'not all are shunted',
      }).done;
      const summary = documentOf(await run.stop());
      expect(summary).toMatchObject({
        connections: CONNECTIONS,
        shuntedConnections: CONNECTIONS,
        latePackets: 0,
      });
      const conn = logs.read('conn');
      expect(new Set(conn.map((r) => r['id.orig_p'])).size).toBe(CONNECTIONS);
      // What the rings were given after the last of them was there is in the records, and no other packet.
      const counted = sumOf(conn, 'orig_pkts', 'resp_pkts');
      expect(counted).toBe(summary.ring.packets - summary.ring.drops + (summary.ledger?.shunted.pkts ?? 0));
      expect(counted).toBeGreaterThanOrEqual(frames.length - missed);
      expect(counted).toBeLessThan(frames.length);
    } finally {
      remove();
    }
  },
);
