import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { afterEach, describe, expect, it, test } from 'vitest';
import { SluiceError } from '../../src/base/errors.ts';
import { FileSource } from '../../src/capture/file.ts';
import { PcapSender, type SenderOptions } from '../../src/capture/pcap-sender.ts';
import { parseStreamUrl, streamUrl } from '../../src/capture/tcp-stream.ts';
import { Packet } from '../../src/packet/packet.ts';
import { pcapFile } from '../../src/packet/pcap.ts';

const closing: { close(): unknown }[] = [];
afterEach(() => {
  for (const each of closing.splice(0)) each.close();
});

const frames = (...ids: number[]) => ids.map((id) => ({ ts: 1000 + id, bytes: Uint8Array.of(id, 1, 2, 3) }));

async function ids(source: FileSource): Promise<number[]> {
  const out: number[] = [];
  while (source.drain(({ u8, offset }) => out.push(u8[offset]), 100)) if (source.starved) await source.wait();
  return out;
}

function opened(url: string, onListening?: (url: string) => void): FileSource {
  const source = FileSource.open(url, onListening === undefined ? {} : { onListening });
  closing.push(source);
  return source;
}

/** A server that treats each connection so, and its port. */
async function serve(onSocket: (socket: Socket) => void): Promise<number> {
  const server: Server = createServer(onSocket).listen(0, '127.0.0.1');
  closing.push(server);
  await once(server, 'listening');
  return (server.address() as { port: number }).port;
}

describe('addresses', () => {
  it.each<[string, object]>([
    ['tcp://10.0.0.1:99', { listen: false, host: '10.0.0.1', port: 99 }],
    ['tcp://sensor.example', { listen: false, host: 'sensor.example', port: 57_012 }],
    ['tcp-listen://[::1]:0', { listen: true, host: '::1', port: 0 }],
    ['tcp-listen://[2001:db8::1]', { listen: true, host: '2001:db8::1', port: 57_012 }],
  ])('%s', (url, end) => {
    const parsed = parseStreamUrl(url);
    expect(parsed).toEqual(end);
    expect(parseStreamUrl(streamUrl(parsed.listen, parsed.host, parsed.port))).toEqual(end);
  });

  it.each([
    'tcp://',
    'tcp://host:0',
    'tcp://host:65536',
    'tcp://host:http',
    'tcp://[host]:1',
    'tcp://::1:80',
    'tcp://host/path',
    'tcp-listen://:80',
    'udp://host:1',
  ])('%s is refused', (url) => {
    expect(() => parseStreamUrl(url)).toThrow(expect.objectContaining({ code: 'USAGE' }));
  });
});

describe('PCAP-over-IP as a source', () => {
  test('from a server, in pieces of any size', async () => {
    const bytes = pcapFile(frames(1, 2, 3));
    const port = await serve((socket) => {
      void (async () => {
        for (let at = 0; at < bytes.length; at += 7) {
          socket.write(bytes.subarray(at, at + 7));
          await new Promise((resolve) => void setImmediate(resolve));
        }
        socket.end();
      })();
    });
    const source = opened(`tcp://127.0.0.1:${port}`);
    expect(await ids(source)).toEqual([1, 2, 3]);
    expect(source.problem).toBeUndefined();
  });

  test('from whoever connects, once', async () => {
    let url = '';
    const listening = new Promise<void>((resolve) => {
      opened('tcp-listen://127.0.0.1:0', (at) => {
        url = at;
        resolve();
      });
    });
    await listening;
    const { host, port } = parseStreamUrl(url);
    const source = closing[0] as FileSource;
    const socket = connect({ host, port });
    socket.end(pcapFile(frames(5, 6)));
    expect(await ids(source)).toEqual([5, 6]);
    const second = connect({ host, port });
    const [error] = (await once(second, 'error')) as [NodeJS.ErrnoException];
    expect(error.code).toBe('ECONNREFUSED');
  });

  test('a stream that breaks off within a packet gives what was whole', async () => {
    const bytes = pcapFile(frames(1, 2));
    const port = await serve((socket) => socket.end(bytes.subarray(0, bytes.length - 2)));
    const source = opened(`tcp://127.0.0.1:${port}`);
    expect(await ids(source)).toEqual([1]);
    expect(source.problem).toMatchObject({ code: 'FILE_FORMAT' });
    expect(source.problem?.message).toContain('after 1 packets');
  });

  test('a reset is told of', async () => {
    const port = await serve((socket) => {
      socket.write(pcapFile(frames(1)), () => socket.resetAndDestroy());
    });
    const source = opened(`tcp://127.0.0.1:${port}`);
    await ids(source);
    expect(source.problem).toMatchObject({ code: 'STREAM' });
    expect(source.problem?.message).toContain('broken the connection off');
  });

  test('nobody there, an address of somebody else, a port that is taken', async () => {
    const port = await serve(() => undefined);
    (closing.pop() as Server).close();
    const nobody = opened(`tcp://127.0.0.1:${port}`);
    expect(await ids(nobody)).toEqual([]);
    expect(nobody.problem).toMatchObject({ code: 'STREAM' });
    expect(nobody.problem?.message).toContain('nobody listens there');
    const elsewhere = opened('tcp-listen://192.0.2.1:7');
    await ids(elsewhere);
    expect(elsewhere.problem).toMatchObject({ code: 'ADDRESS_UNKNOWN' });
    const taken = await serve(() => undefined);
    const late = opened(`tcp-listen://127.0.0.1:${taken}`);
    await ids(late);
    expect(late.problem).toMatchObject({ code: 'ADDRESS_IN_USE' });
  });

  test('waiting ends when it is closed', async () => {
    const source = opened('tcp-listen://127.0.0.1:0');
    source.drain(() => undefined, 1);
    const waiting = source.wait();
    source.close();
    await waiting;
    expect(source.drain(() => expect.unreachable(), 1)).toBe(false);
  });
});

const never = new AbortController().signal;

/** A batch of packets of this size. */
function batch(count: number, bytes: number, linkType = 1): Packet[] {
  return Array.from({ length: count }, (_, i) =>
    Object.assign(new Packet(), {
      u8: new Uint8Array(bytes).fill(i),
      caplen: bytes,
      wirelen: bytes + 1,
      ts: 1000 + i,
      linkType,
    }),
  );
}

async function sender(options: Partial<SenderOptions> = {}): Promise<{ sender: PcapSender; port: number }> {
  return await new Promise((resolve) => {
    const made = new PcapSender(parseStreamUrl('tcp-listen://127.0.0.1:0'), {
      patience: 60,
      urgent: false,
      stop: never,
      ...options,
      onListening: (url) => resolve({ sender: made, port: parseStreamUrl(url).port }),
    });
    closing.push(made);
  });
}

async function receivers(of: PcapSender, count: number): Promise<void> {
  while (of.receivers !== count) await of.changed(20);
}

/** Everything that a receiver gets until the stream ends. */
async function received(port: number): Promise<FileSource> {
  const source = opened(`tcp://127.0.0.1:${port}`);
  await Promise.resolve();
  return source;
}

describe('PCAP-over-IP as a destination', () => {
  test('each receiver gets the header and what is sent from then on', async () => {
    const { sender: to, port } = await sender();
    const early = await received(port);
    await receivers(to, 1);
    to.send(batch(2, 10), 2);
    const late = await received(port);
    await receivers(to, 2);
    to.send(batch(3, 10), 3);
    const done = to.finish();
    expect(await ids(early)).toEqual([0, 1, 0, 1, 2]);
    expect(await ids(late)).toEqual([0, 1, 2]);
    await done;
    expect(early.problem).toBeUndefined();
    expect(to.counts).toEqual({ receivers: 2, slow: 0, left: 0, refused: 0, otherLinkType: 0 });
  });

  test('packets of another link type are left out and counted', async () => {
    const { sender: to, port } = await sender();
    const source = await received(port);
    await receivers(to, 1);
    to.send([...batch(1, 4, 12), ...batch(2, 4, 1)], 3);
    const done = to.finish();
    let linkType = 0;
    while (source.drain((packet) => (linkType = packet.linkType), 10))
      if (source.starved) await source.wait();
    await done;
    expect(linkType).toBe(12);
    expect(source.packets).toBe(1);
    expect(to.counts.otherLinkType).toBe(2);
  });

  test('who takes nothing of what cannot wait is dropped, with a bounded amount waiting; others go on', async () => {
    const { sender: to, port } = await sender({ urgent: true });
    const idle = connect({ host: '127.0.0.1', port });
    idle.pause();
    closing.push({ close: () => idle.destroy() });
    const quick = connect({ host: '127.0.0.1', port });
    let bytes = 0;
    quick.on('data', (data) => (bytes += data.length));
    closing.push({ close: () => quick.destroy() });
    await receivers(to, 2);
    const isBehind = (sentBytes: number) => bytes < sentBytes - 4 * 2 ** 20;
    const packets = batch(16, 65_536);
    let sent = 24;
    while (to.counts.slow === 0) {
      expect(to.blocked).toBe(false);
      to.send(packets, 16);
      sent += 16 * (65_536 + 16);
      // The quick one is given the time that it needs.
      while (isBehind(sent)) await new Promise((resolve) => void setImmediate(resolve));
      expect(sent).toBeLessThan(256 * 2 ** 20);
    }
    expect(to.receivers).toBe(1);
    const end = once(quick, 'end');
    await Promise.all([to.finish(), end]);
    expect(bytes).toBe(sent);
    expect(to.counts).toMatchObject({ receivers: 2, slow: 1, left: 0 });
  });

  test('what can wait waits for a receiver, and no longer than for so long', async () => {
    const { sender: to, port } = await sender({ patience: 0.05 });
    const idle = connect({ host: '127.0.0.1', port });
    idle.pause();
    closing.push({ close: () => idle.destroy() });
    await receivers(to, 1);
    const packets = batch(16, 65_536);
    // On a busy machine its time may be over as soon as it has begun.
    while (!to.blocked && to.receivers > 0) to.send(packets, 16);
    while (to.blocked) await to.changed(10);
    expect(to.counts).toMatchObject({ slow: 1, left: 0 });
    expect(to.receivers).toBe(0);
  });

  test('a receiver that leaves is counted; the one that was connected to is an error', async () => {
    const { sender: to, port } = await sender();
    const socket = connect({ host: '127.0.0.1', port });
    await receivers(to, 1);
    socket.destroy();
    await receivers(to, 0);
    expect(to.counts).toMatchObject({ receivers: 1, left: 1 });
    expect(to.problem).toBeUndefined();

    const peer = await serve((other) => void setImmediate(() => other.destroy()));
    const client = new PcapSender(parseStreamUrl(`tcp://127.0.0.1:${peer}`), {
      patience: 1,
      urgent: false,
      stop: never,
    });
    closing.push(client);
    while (client.problem === undefined) await client.changed(20);
    expect(client.problem).toBeInstanceOf(SluiceError);
    expect(client.problem.code).toBe('STREAM');
  });

  test('more than 64 at a time are turned away', async () => {
    const { sender: to, port } = await sender();
    for (let i = 0; i < 70; i++) {
      const socket = connect({ host: '127.0.0.1', port });
      socket.on('error', () => {});
      closing.push({ close: () => socket.destroy() });
    }
    while (to.counts.refused < 6) await to.changed(20);
    expect(to.receivers).toBe(64);
  });
});
