import { type ClientRequest, get } from 'node:http';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { expect } from 'vitest';
import { type Status, statusShape } from '../../src/api/shapes.ts';
import { conversation } from '../../src/packet/conversation.ts';
import type { FrameToWrite } from '../../src/packet/pcap.ts';
import { documentOf, Feed, LogDir, mixed, runOn } from '../sensor/run.ts';
import { asked } from '../support/ask.ts';
import { kernelTest, ownNetns, until, vethPair } from '../support/kernel.ts';

ownNetns();

/** Clients that come again and again while it runs. */
const CLIENTS = 100;

const download = (port: number, bytes: number): FrameToWrite[] =>
  conversation({
    client: { address: '192.0.2.8', port },
    server: { address: '192.0.2.9', port: 80 },
    turns: [{ from: 'server', data: bytes }],
    mss: 1400,
    close: 'server-fin',
  });

kernelTest(
  'what a run answers is what it ends with, and whoever asks costs no packet',
  ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'],
  async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    const socket = join(logs.path, 'api.sock');
    try {
      await using run = await runOn(a, logs, '--policy', 'bulk=100kB', '--api', `unix:${socket}`).ready();
      const frames = mixed([download(8001, 3_000_000)]);
      const status = async (): Promise<Status> =>
        statusShape.parse(JSON.parse(await asked(socket, '/v1/status')));
      const over = new AbortController();
      const flood = Promise.all(
        Array.from({ length: CLIENTS }, async (_, i) => {
          while (!over.signal.aborted) await asked(socket, i % 2 === 0 ? '/v1/status' : '/metrics');
        }),
      );
      await new Feed(b, frames, 2500, {
        from: frames.length >> 1,
        to: frames.length - 500,
        until: () => logs.shunts('start') === 1,
        what: 'it is not shunted',
      }).done;
      await until(() => logs.shunts('end') === 1, 'the shunt does not end');
      over.abort();
      await flood;
      // The worker may still have packets of the ring before it that the gate has counted.
      let now = await status();
      const end = performance.now() + 60_000;
      const isWhole = (): boolean =>
        now.ledger?.seen.pkts === frames.length && now.packets === now.ledger.passed.pkts;
      while (!isWhole() && performance.now() < end) {
        await setTimeout(20);
        now = await status();
      }
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

/** An onlooker of the stream: what it was told of, or (`reads` false) one that takes nothing after the first line. */
class StreamClient {
  ended = false;
  #text = '';
  readonly #request: ClientRequest;

  constructor(socketPath: string, reads = true) {
    this.#request = get({ socketPath, path: '/v1/stream?with=flows,shunts,attacks' }, (response) => {
      response.on('error', () => {});
      response.on('close', () => {
        this.ended = true;
      });
      response.on('data', (data: Buffer) => (this.#text += data.toString()));
      if (!reads) response.once('data', () => response.pause());
    });
    this.#request.on('error', () => {});
  }

  get isOn(): boolean {
    return this.#text !== '';
  }

  /** The events of this name, each parsed. */
  of(wanted: string): unknown[] {
    return [...this.#text.matchAll(/^event: (.*)\ndata: (.*)\n\n/gm)]
      .filter(([, name]) => name === wanted)
      .map(([, , data]) => JSON.parse(data) as unknown);
  }

  close(): void {
    this.#request.destroy();
  }
}

kernelTest(
  'the stream tells of every flow and shunt, and onlookers that read nothing cost no packet',
  ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'],
  async () => {
    const { a, b, remove } = vethPair();
    using logs = new LogDir();
    const socket = join(logs.path, 'api.sock');
    const clients: StreamClient[] = [];
    try {
      await using run = await runOn(a, logs, '--policy', 'bulk=20kB', '--api', `unix:${socket}`).ready();
      const heard = new StreamClient(socket);
      clients.push(heard);
      for (let n = 0; n < CLIENTS; n++) clients.push(new StreamClient(socket, false));
      await until(() => clients.every(({ isOn }) => isOn), 'an onlooker is not let in', 60);
      const long = mixed(Array.from({ length: 20 }, (_, n) => download(2000 + n, 100_000)));
      const short = mixed(Array.from({ length: 2500 }, (_, n) => download(3000 + n, 100)));
      await new Feed(b, long, 6000, {
        from: long.length >> 1,
        to: long.length - 300,
        until: () => logs.shunts('start') === 20,
        what: 'not all are shunted',
      }).done;
      await new Feed(b, short, 6000).done;
      await until(() => logs.shunts('end') === 20, 'the shunts do not end');
      const summary = documentOf(await run.stop());
      await until(() => heard.ended, 'the stream does not end', 60);
      expect(summary.ledger?.seen.pkts).toBe(long.length + short.length);
      expect(summary.ring.drops).toBe(0);
      const conn = logs.read('conn');
      expect(conn).toHaveLength(2520);
      // What a second had no room for is told of by its number.
      const skipped = (heard.of('skipped') as { records: number }[]).reduce(
        (sum, { records }) => sum + records,
        0,
      );
      const flows = heard.of('flows').flat() as Record<string, unknown>[];
      const shunts = heard.of('shunts').flat() as Record<string, unknown>[];
      expect(flows.length + shunts.length + skipped).toBe(conn.length + logs.read('shunt').length);
      expect(flows.length).toBeGreaterThan(0);
      expect(shunts.length).toBeGreaterThan(0);
      const written = new Map(conn.map((line) => [line['uid'], line]));
      for (const flow of flows) expect(flow).toEqual(written.get(flow['uid']));
      expect(heard.of('end')).toHaveLength(1);
    } finally {
      for (const client of clients) client.close();
      remove();
    }
  },
);
