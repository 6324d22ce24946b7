import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { conversation } from '../../src/packet/conversation.ts';
import { pcapFile } from '../../src/packet/pcap.ts';
import { sluice } from '../support/command.ts';
import { kernelTest, ownNetns, until, vethPair } from '../support/kernel.ts';
import { compare } from './compare.ts';
import { documentOf, Feed, LogDir, pause, Run } from './run.ts';

const XDP = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'] as const;
const RATE = 8000;
const MSS = 1400;
const BLOCKER = join(import.meta.dirname, '..', 'support', 'blocker.ts');
/** Longer than a block of the ring stays open. */
const WHILE_MS = 60;

ownNetns();

/** By the last byte of the source address. */
const ofClient = (frame: Uint8Array): boolean => frame[29] === 1;

kernelTest(
  'a direction that falls silent just as its connection is armed does not hold it up',
  [...XDP],
  async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    using expected = new LogDir();
    try {
      const whole = conversation({
        client: { address: '192.0.2.1', port: 9401 },
        server: { address: '192.0.2.2', port: 80 },
        turns: [
          { from: 'server', data: 201_600 },
          { from: 'client', data: 1000 },
          // Half of it takes half a second: enough for a busy machine, and less than a hundred blocks of the ring.
          { from: 'server', data: 12_000_000 },
        ],
        mss: MSS,
        close: 'none',
      }).map(({ bytes }) => bytes);
      const last = whole.findIndex((frame) => ofClient(frame) && frame.length > 1000);
      const frames = whole.filter((frame, i) => i <= last || !ofClient(frame));
      expect(frames.length - last).toBeGreaterThan(8500);
      const environment = [`NODE_OPTIONS=--import=${BLOCKER}`, `SLUICE_TEST_BLOCK=${logs.path}`];
      // A lease that is over would be another shunt.
      const more = ['--policy', 'bulk=200kB', '--lease', '60s', '--ring-bytes', '256MiB'];
      const args = ['run', '-i', a, '--json', '--log-dir', logs.path, ...more];
      await using run = await new Run(args, ['env', ...environment]).ready();
      const send = (from: number, to?: number): Promise<void> =>
        new Feed(b, frames.slice(from, to), RATE).done;
      await send(0, last - 30);
      // The worker stands still: what triggers the shunt is in one block of the ring, the client's last packet in the next.
      const still = join(logs.path, 'worker-0');
      writeFileSync(still, '');
      await until(() => existsSync(`${still}.still`), 'the worker does not stand still');
      await send(last - 30, last);
      await pause(WHILE_MS);
      await send(last, last + 1);
      await pause(WHILE_MS);
      rmSync(still);
      await until(() => !existsSync(`${still}.still`), 'the worker does not go on');
      await send(last + 1);
      const summary = documentOf(await run.stop());
      expect(summary).toMatchObject({ connections: 1, shuntedConnections: 1, latePackets: 0 });
      expect(logs.shunts('start')).toBe(1);
      expect(summary.ledger?.shunted.pkts).toBeGreaterThan((frames.length - last) / 2);

      const file = join(expected.path, 'sent.pcap');
      writeFileSync(file, pcapFile(frames.map((bytes, i) => ({ ts: 1_700_000_000 + i / RATE, bytes }))));
      expect((await sluice('read', file, '--log-dir', expected.path)).code).toBe(0);
      expect(compare(logs.read('conn'), expected.read('conn'))).toMatchObject({
        differences: [],
        connections: 1,
      });
    } finally {
      remove();
    }
  },
);
