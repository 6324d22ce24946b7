import { expect } from 'vitest';
import { interfaceCounters } from '../../src/kernel/index.ts';
import { conversation, type Turn } from '../../src/packet/conversation.ts';
import { capture } from '../flow/tls-capture.ts';
import { kernelTest, ownNetns, until, vethPair } from '../support/kernel.ts';
import { documentOf, Feed, LogDir, mixed, runOn } from './run.ts';

ownNetns();

const text = (from: Turn['from'], data: string): Turn => ({ from, data: Buffer.from(data) });

const ends = (i: number, port: number) => ({
  client: { address: i % 3 === 0 ? '2001:db8::1' : '192.0.2.1', port: 20_000 + i },
  server: { address: i % 3 === 0 ? '2001:db8::2' : '192.0.2.2', port },
});

/** Lines of a log, uids left out, and times: a ring may give a frame a time that is a microsecond later than another's. */
const without = (log: LogDir, name: string): string[] =>
  log
    .read(name)
    .map((line) => JSON.stringify({ ...line, uid: undefined, ts: undefined, duration: undefined }))
    .toSorted((x, y) => x.localeCompare(y));
const durations = (log: LogDir): number =>
  log.read('conn').reduce((sum, line) => sum + Number(line['duration']), 0);

kernelTest(
  '--snaplen auto: the records are those of whole frames, and connections were cut',
  ['packetRing'],
  async () => {
    const tls = await capture({ servername: 'cut.test.example' }, {}, 60_000);
    const kinds: ((i: number) => ReturnType<typeof conversation>)[] = [
      (i) =>
        conversation({
          ...ends(i, 443),
          turns: tls.pieces.map(({ from, bytes }) => ({
            from: from === 0 ? 'client' : 'server',
            data: bytes,
          })),
          mss: 1200,
        }),
      (i) =>
        conversation({
          ...ends(i, 80),
          turns: [
            text('client', 'GET / HTTP/1.1\r\nHost: cut.test\r\n\r\n'),
            text('server', 'HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n'),
            { from: 'server', data: 100_000 },
          ],
          mss: 1200,
        }),
      (i) =>
        conversation({
          ...ends(i, 9999),
          turns: [
            { from: 'client', data: 500 },
            { from: 'server', data: 80_000 },
            { from: 'client', data: 30_000 },
          ],
          mss: 1200,
          retransmit: 0.05,
          reorder: 0.05,
          seed: i + 1,
          close: 'server-rst',
        }),
    ];
    const rounds = Array.from({ length: 24 }, (_, i) => kinds[i % kinds.length](i));
    // The same ports once more, for another service: its first bytes have to be there.
    const frames = [...mixed(rounds), ...mixed(rounds.map((_, i) => kinds[(i + 1) % kinds.length](i)))];
    const { a, b, remove } = vethPair();
    using whole = new LogDir();
    using cut = new LogDir();
    using filtered = new LogDir();
    try {
      const options = ['--no-gate', '--policy', 'none', '--ring-bytes', '256MiB', '--timeout-tcp', '1h'];
      await using one = await runOn(b, whole, ...options).ready();
      await using other = await runOn(b, cut, ...options, '--snaplen', 'auto').ready();
      const socket = ['--mode', 'socket', ...options.filter((option) => option !== '--no-gate')];
      await using third = await runOn(b, filtered, ...socket, '--snaplen', 'auto').ready();
      await new Feed(a, frames, 4000).done;
      await until(() => interfaceCounters(b).rxPackets >= frames.length, 'frames are missing');
      const summaries = [one, other, third].map(async (run) => documentOf(await run.stop()));
      for (const { ring } of await Promise.all(summaries))
        expect(ring).toMatchObject({ packets: frames.length, drops: 0 });
      for (const log of [cut, filtered]) {
        expect(without(log, 'conn')).toEqual(without(whole, 'conn'));
        expect(without(log, 'ssl')).toEqual(without(whole, 'ssl'));
        expect(durations(log)).toBeCloseTo(durations(whole), 2);
        expect(Number(log.read('stats').at(-1)?.['cut_conns'])).toBeGreaterThan(30);
      }
      expect(whole.read('conn')).toHaveLength(48);
      const services = (name: string) => whole.read('conn').filter((r) => r['service'] === name);
      expect([services('ssl').length, services('http').length]).toEqual([16, 16]);
      expect(whole.read('stats').at(-1)?.['cut_conns']).toBe(0);
    } finally {
      remove();
    }
  },
);
