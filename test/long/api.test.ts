import { get } from 'node:http';
import { join } from 'node:path';
import { expect } from 'vitest';
import { type Status, statusShape } from '../../src/api/shapes.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { documentOf, Feed, LogDir, mixed, runOn } from '../sensor/run.ts';
import { kernelTest, ownNetns, until, vethPair } from '../support/kernel.ts';

ownNetns();

/** Clients that come again and again while it runs. */
const CLIENTS = 100;

async function asked(socketPath: string, path: string): Promise<string> {
  return await new Promise((resolve, reject) => {
    get({ socketPath, path }, (response) => {
      let text = '';
      response.on('data', (data: Buffer) => (text += data.toString()));
      response.on('end', () => resolve(text));
      response.on('error', reject);
    }).on('error', reject);
  });
}

kernelTest(
  'what a run answers is what it ends with, and whoever asks costs no packet',
  ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'],
  async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    const socket = join(logs.path, 'api.sock');
    try {
      await using run = await runOn(a, logs, '--policy', 'bulk=100kB', '--api', `unix:${socket}`).ready();
      const frames = mixed([
        conversation({
          client: { address: '192.0.2.8', port: 8001 },
          server: { address: '192.0.2.9', port: 80 },
          turns: [{ from: 'server', data: 3_000_000 }],
          mss: 1400,
          close: 'server-fin',
        }),
      ]);
      const status = async (): Promise<Status> =>
        statusShape.parse(JSON.parse(await asked(socket, '/v1/status')));
      const feed = new Feed(b, frames, 2500);
      const over = new AbortController();
      const flood = Promise.all(
        Array.from({ length: CLIENTS }, async (_, i) => {
          while (!over.signal.aborted) await asked(socket, i % 2 === 0 ? '/v1/status' : '/metrics');
        }),
      );
      await feed.done;
      await until(() => logs.shunts('end') === 1, 'the shunt does not end');
      over.abort();
      await flood;
      const now = await status();
      const metrics = await asked(socket, '/metrics');
      const ended = await run.stop();
      const summary = documentOf(ended);
      expect(ended.stderr).toContain('API: unix:');
      expect(summary.ring.drops).toBe(0);
      expect(summary.ledger?.seen.pkts).toBe(frames.length);
      expect(summary.ledger?.shunted.pkts).toBeGreaterThan(0);
      expect(now.ledger).toEqual(summary.ledger);
      expect(now).toMatchObject({ healthy: true, packets: summary.ledger?.passed.pkts, losses: { ring: 0 } });
      expect(metrics).toContain(
        `sluice_gate_packets_total{verdict="shunted"} ${summary.ledger?.shunted.pkts}\n`,
      );
      expect(metrics).toContain(
        `sluice_capture_packets_total{source="${a}",worker="0"} ${summary.ring.packets}\n`,
      );
    } finally {
      remove();
    }
  },
);
