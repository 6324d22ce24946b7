import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { eth, type PacketBuilder } from '../../src/packet/build.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { pcapFile } from '../../src/packet/pcap.ts';
import { sluice } from '../support/command.ts';
import { kernelTest, ownNetns, vethPair } from '../support/kernel.ts';
import { compare } from './compare.ts';
import { documentOf, Feed, LedgerReader, LogDir, mixed, runOn } from './run.ts';

const XDP = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'] as const;
const RATE = 8000;
const CLIENT_SEQ = 1_000_000;
const SERVER_SEQ = 2_000_000;

ownNetns();

/** What somebody who knows addresses and ports, and not where the sequence is, sends in the client's name. */
const SPOOFED: Record<string, (port: number, n: number) => PacketBuilder> = {
  'repeated SYN': (port) => from().tcp({ sport: port, dport: 80, seq: CLIENT_SEQ, flags: 'S' }),
};
const from = (): PacketBuilder => eth().ipv4({ src: '192.0.2.1', dst: '192.0.2.2' });

for (const [what, packet] of Object.entries(SPOOFED)) {
  kernelTest(`a flood of spoofed packets ends shunts for a while only: ${what}`, [...XDP], async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    using expected = new LogDir();
    try {
      const ports = [9001, 9002, 9003];
      const transfers = mixed(
        ports.map((port) =>
          conversation({
            client: { address: '192.0.2.1', port },
            server: { address: '192.0.2.2', port: 80 },
            clientSeq: CLIENT_SEQ,
            serverSeq: SERVER_SEQ,
            turns: [{ from: 'server', data: 9_000_000 }],
            mss: 1400,
            close: 'client-fin',
          }),
        ),
      );
      // From the second to the third fifth of the transfers: one spoofed packet for every other one.
      const fifth = Math.floor(transfers.length / 5);
      const frames = transfers.flatMap((frame, i) =>
        i < fifth || i >= 2 * fifth ? [frame] : [frame, packet(ports[i % ports.length], i).bytes()],
      );
      const flood = { begin: fifth, end: 3 * fifth };
      await using run = await runOn(a, logs, '--policy', 'bulk=200kB', '--lease', '60s').ready();
      using ledger = new LedgerReader(a);
      // It finds them shunted.
      await new Feed(b, frames.slice(0, flood.end), RATE, {
        from: flood.begin >> 1,
        to: flood.begin,
        until: () => logs.shunts('start') === ports.length,
        what: 'not all are shunted',
      }).done;
      // They are shunted again, all of them, which takes the longer the longer it went on: of packets by turns none passes.
      const rest = frames.slice(flood.end);
      let [passed, since, after] = [-1, 0, 0];
      await new Feed(b, rest, RATE, {
        from: 0,
        to: rest.length >> 1,
        until: () => {
          const now = ledger.read();
          after = now.shunted.pkts;
          if (now.passed.pkts !== passed) [passed, since] = [now.passed.pkts, after];
          return after - since >= 20 * ports.length;
        },
        what: 'not all are shunted again',
      }).done;
      expect(ledger.read().shunted.pkts - after).toBeGreaterThan(rest.length / 2 - 100);
      const ended = await run.stop();
      const summary = documentOf(ended);
      expect(summary).toMatchObject({ latePackets: 0 });
      expect(summary.ring.drops).toBe(0);
      expect(summary.ledger?.seen.pkts).toBe(frames.length);
      // The work that a flood makes is bounded: a shunt ends at most about once a second, and ever less often.
      expect(logs.shunts('start')).toBeLessThan(ports.length * 8);

      const file = join(expected.path, 'sent.pcap');
      writeFileSync(file, pcapFile(frames.map((bytes, i) => ({ ts: 1_700_000_000 + i / RATE, bytes }))));
      const read = await sluice('read', file, '--log-dir', expected.path);
      expect(read.code, read.stderr).toBe(0);
      const { differences } = compare(logs.read('conn'), expected.read('conn'));
      expect(differences).toEqual([]);
    } finally {
      remove();
    }
  });
}
