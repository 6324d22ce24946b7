import { createSocket } from 'node:dgram';
import { mkdtempSync, rmSync } from 'node:fs';
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { LinkTarget } from '../../src/log/log-link.ts';
import { LogThread } from '../../src/log/log-thread.ts';
import { syslogMessage } from '../../src/log/sinks/frame.ts';
import { openSink, parseSink } from '../../src/log/sinks/index.ts';
import { RecordQueue } from '../../src/log/sinks/queue.ts';
import { pauseAfter } from '../../src/log/sinks/sink.ts';
import { ownNetns, until } from '../support/kernel.ts';

// A port that nobody listens on stays free for who comes back to it.
ownNetns();

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'sluice-sink-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const utf8 = (text: string): Uint8Array => new TextEncoder().encode(text);
const line = (n: number): string => `{"ts":${n},"uid":"C${n}"}\n`;
const lines = (from: number, count: number): Uint8Array =>
  utf8(Array.from({ length: count }, (_, i) => line(from + i)).join(''));

/** Collects what connections bring; `text` is that of all, `sockets` are open ones. */
class Receiver implements AsyncDisposable {
  text = '';
  readonly sockets = new Set<Socket>();
  readonly #server: Server;

  constructor(answer?: (socket: Socket, text: string) => void) {
    this.#server = createServer((socket) => {
      this.sockets.add(socket);
      socket.on('close', () => this.sockets.delete(socket));
      socket.on('error', () => {});
      answer?.(socket, '');
      socket.on('data', (data: Buffer) => {
        this.text += data.toString();
        answer?.(socket, data.toString());
      });
    });
  }

  async listen(where: { path: string } | { port: number; host: string }): Promise<number> {
    await new Promise<void>((resolve) => this.#server.listen(where, resolve));
    const at = this.#server.address() as AddressInfo | string;
    return typeof at === 'string' ? 0 : at.port;
  }

  records(): Record<string, unknown>[] {
    const text = this.text.slice(0, this.text.lastIndexOf('\n') + 1);
    return text
      .split('\n')
      .filter((each) => each !== '')
      .map((each) => JSON.parse(each) as Record<string, unknown>);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
  }
}

const batch = (n: number) => ({ bytes: Buffer.alloc(10, n), records: 1 });
const LOOPBACK = { port: 0, host: '127.0.0.1' };

describe('sinks', () => {
  it('TCP: lines name their log; what comes while nobody listens waits, and comes when somebody does', async () => {
    const said: (string | undefined)[] = [];
    let port: number;
    {
      await using receiver = new Receiver();
      port = await receiver.listen(LOOPBACK);
    }
    const sink = await openSink(parseSink(`tcp://127.0.0.1:${port}`), (_, problem) => said.push(problem));
    sink.append('conn', lines(0, 3), 3);
    sink.append('notice', utf8('{"ts":9}\n'), 1);
    await until(() => said.length === 1, 'it does not say that it fails');
    expect(sink.totals()).toMatchObject({ sent: 0, lost: 0, waiting: 4 });
    await using receiver = new Receiver();
    await receiver.listen({ ...LOOPBACK, port });
    await until(() => receiver.records().length === 4, 'records are missing');
    expect(receiver.records()).toEqual([
      ...[0, 1, 2].map((n) => ({ _path: 'conn', ts: n, uid: `C${n}` })),
      { _path: 'notice', ts: 9 },
    ]);
    await until(() => said.length === 2, 'it does not say that it works again');
    expect(said).toEqual([expect.any(String), undefined]);
    await sink.close();
    expect(sink.totals()).toMatchObject({ sent: 4, lost: 0, waiting: 0 });
  });

  it('a connection that breaks loses no record', async () => {
    const path = join(dir, 'sink');
    await using receiver = new Receiver();
    await receiver.listen({ path });
    const sink = await openSink(parseSink(`unix://${path}`), () => {});
    for (let n = 0; n < 200; n++) {
      sink.append('conn', lines(n * 10, 10), 10);
      if (n % 50 !== 49) continue;
      await until(() => receiver.text.includes(line(n * 10 + 9).slice(1)), 'records are missing');
      for (const socket of receiver.sockets) socket.destroy();
    }
    await until(() => new Set(receiver.records().map(({ ts }) => ts)).size === 2000, 'records are missing');
    await sink.close();
    expect(sink.totals()).toMatchObject({ lost: 0, waiting: 0 });
    expect(sink.totals().failures).toBeGreaterThanOrEqual(3);
  });

  it('a receiver that does not read costs nobody anything, and what has no room is counted', async () => {
    await using receiver = new Receiver((socket) => socket.pause());
    const port = await receiver.listen(LOOPBACK);
    const sink = await openSink(parseSink(`tcp://127.0.0.1:${port}?queue=1MiB`), () => {});
    let given = 0;
    const block = lines(0, 1000);
    await until(() => {
      sink.append('conn', block, 1000);
      given += 1000;
      return sink.totals().lost > 0;
    }, 'nothing is lost');
    const { sent, waiting, lost } = sink.totals();
    expect(sent + waiting + lost).toBe(given);
    await sink.close();
    const end = sink.totals();
    expect(end.waiting).toBe(0);
    expect(end.sent + end.lost).toBe(given);
  });

  it('syslog over UDP and TCP', async () => {
    const udp = createSocket('udp4');
    await new Promise<void>((resolve) => udp.bind(0, '127.0.0.1', resolve));
    const messages: string[] = [];
    udp.on('message', (data) => messages.push(data.toString()));
    const sink = await openSink(
      parseSink(`syslog://127.0.0.1:${udp.address().port}?log=notice&log=conn`),
      () => {},
    );
    sink.append('conn', lines(1, 2), 2);
    sink.append('notice', utf8('{"ts":3}\n'), 1);
    sink.append('conn', utf8(`{"x":"${'y'.repeat(70_000)}"}\n`), 1);
    await until(() => messages.length === 3, 'messages are missing');
    const form = /^<(\d+)>1 \d{4}-\d\d-\d\dT[\d:.]+Z \S+ sluice \d+ (\w+) - (.*)$/;
    expect(messages.map((text) => form.exec(text)?.slice(1))).toEqual([
      ['134', 'conn', line(1).trim()],
      ['134', 'conn', line(2).trim()],
      ['133', 'notice', '{"ts":3}'],
    ]);
    await sink.close();
    expect(sink.totals()).toMatchObject({ sent: 3, lost: 1 });
    await new Promise<void>((resolve) => udp.close(() => resolve()));

    await using receiver = new Receiver();
    const port = await receiver.listen(LOOPBACK);
    const stream = await openSink(parseSink(`syslog+tcp://127.0.0.1:${port}`), () => {});
    stream.append('conn', lines(1, 2), 2);
    await stream.close();
    await until(() => receiver.text.endsWith('}'), 'messages are missing');
    let rest = receiver.text;
    const texts: string[] = [];
    while (rest !== '') {
      const [, length = ''] = /^(\d+) /.exec(rest) ?? [];
      texts.push(rest.slice(length.length + 1, length.length + 1 + Number(length)));
      rest = rest.slice(length.length + 1 + Number(length));
    }
    expect(texts.map((text) => form.exec(text)?.[3])).toEqual([line(1).trim(), line(2).trim()]);
  });

  it('header fields of syslog have no spaces', () => {
    const text = syslogMessage('conn', utf8('{}'), 'my host\n', new Date(0)).toString();
    expect(text).toBe(`<134>1 1970-01-01T00:00:00.000Z my?host? sluice ${process.pid} conn - {}`);
  });

  it('NATS: a subject for each log, and nothing counts as sent that the server has not answered', async () => {
    const published: [string, string][] = [];
    let answering = true;
    const buffered = new Map<Socket, string>();
    await using server = new Receiver((socket, text) => {
      if (text === '') {
        socket.write(
          'INFO {"server_id":"x","version":"2.9.10","headers":true,"max_payload":1048576,"proto":1}\r\n',
        );
        return;
      }
      let rest = (buffered.get(socket) ?? '') + text;
      for (;;) {
        const pub = /^PUB (\S+) (?:\S+ )?(\d+)\r\n/.exec(rest);
        if (pub !== null) {
          const [head, subject, length] = pub;
          if (rest.length < head.length + Number(length) + 2) break;
          published.push([subject, rest.slice(head.length, head.length + Number(length))]);
          rest = rest.slice(head.length + Number(length) + 2);
          continue;
        }
        const end = rest.indexOf('\r\n');
        if (end < 0) break;
        if (rest.startsWith('PING') && answering) socket.write('PONG\r\n');
        rest = rest.slice(end + 2);
      }
      buffered.set(socket, rest);
    });
    const port = await server.listen(LOOPBACK);
    const sink = await openSink(parseSink(`nats://me:secret@127.0.0.1:${port}/site.a`), () => {});
    sink.append('conn', lines(1, 2), 2);
    await until(() => sink.totals().sent === 2, 'nothing is sent');
    expect(published).toEqual([
      ['site.a.conn', line(1).trim()],
      ['site.a.conn', line(2).trim()],
    ]);
    answering = false;
    sink.append('ssl', lines(3, 1), 1);
    await until(() => published.length === 3, 'nothing is published');
    expect(sink.totals()).toMatchObject({ sent: 2, waiting: 1 });
    answering = true;
    for (const socket of server.sockets) socket.destroy();
    await until(() => sink.totals().sent === 3, 'it is not sent again');
    await sink.close();
    expect(sink.totals()).toMatchObject({ sent: 3, lost: 0, waiting: 0 });
  });

  it('the log thread feeds them beside the files, and says what became of the lines', async () => {
    await using receiver = new Receiver();
    const port = await receiver.listen(LOOPBACK);
    const sinks = [parseSink(`tcp://127.0.0.1:${port}?log=conn`), parseSink('tcp://127.0.0.1:1?log=conn')];
    const said: string[] = [];
    const thread = await LogThread.start({ dir, sinks }, undefined, (name) => said.push(name));
    const target = new LinkTarget(thread.link());
    target.append('conn', lines(0, 100), 100);
    target.append('notice', lines(0, 5), 5);
    await until(() => receiver.records().length === 100, 'records are missing');
    await until(() => said.length > 0, 'nobody says that the other one fails');
    expect(said[0]).toBe('tcp://127.0.0.1:1');
    target.close();
    const totals = await thread.close();
    expect(totals).toMatchObject({ lines: 105, lost: 0 });
    expect(totals.sinks).toMatchObject([
      { sent: 100, lost: 0, waiting: 0 },
      { sent: 0, lost: 100, waiting: 0 },
    ]);
  });

  it('a queue keeps its order and its bounds', () => {
    const queue = new RecordQueue(40);
    for (let n = 0; n < 6; n++) queue.push(batch(n));
    expect([queue.records, queue.lost]).toEqual([4, 2]);
    const taken = [queue.shift(), queue.shift()].map((each) => each?.bytes[0]);
    expect(taken).toEqual([0, 1]);
    queue.unshift([batch(0), batch(1)]);
    expect(Array.from({ length: 4 }, () => queue.shift()?.bytes[0])).toEqual([0, 1, 2, 3]);
    for (let round = 0; round < 5000; round++) {
      queue.push(batch(round % 251));
      expect(queue.shift()?.bytes[0]).toBe(round % 251);
    }
    queue.push(batch(1));
    queue.giveUp();
    expect([queue.isEmpty, queue.records, queue.lost]).toEqual([true, 0, 3]);
  });

  it('pauses grow and are no longer than half a minute', () => {
    expect(pauseAfter(1, 0)).toBe(0.25);
    expect(pauseAfter(1, 1)).toBe(0.5);
    expect(pauseAfter(3, 1)).toBe(2);
    expect(pauseAfter(99, 1)).toBe(30);
  });

  it.each([
    'nonsense',
    'http://host:1',
    'tcp://host',
    'tcp://host:1/path',
    'tcp://user@host:1',
    'unix://host/path',
    'unix:///',
    'syslog://',
    'nats://host/a b',
    'nats://host/a.*',
    'tcp://host:1?log=nothing',
    'tcp://host:1?queue=1',
    'tcp://host:1?queue=much',
    'tcp://host:1?what=1',
  ])('%s is refused', (text) => {
    expect(() => parseSink(text)).toThrow(expect.objectContaining({ code: 'USAGE' }));
  });

  it('what is secret is not in the name', () => {
    expect(parseSink('nats://me:secret@[::1]:4222/a.b')).toMatchObject({
      name: 'nats://[::1]:4222/a.b',
      host: '::1',
      user: 'me',
      password: 'secret',
      path: 'a.b',
    });
    expect(() => parseSink('tcp://me:secret@host:1')).toThrow(
      expect.objectContaining({ message: expect.not.stringContaining('secret') }),
    );
  });
});
