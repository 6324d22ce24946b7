import { createSocket } from 'node:dgram';
import { createServer } from 'node:net';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { conversation } from '../../src/packet/conversation.ts';
import {
  booksOf,
  connOf,
  freePort,
  hiddenFromNobody,
  MirrorSender,
  runMirror,
  timeless,
  WRAPS,
} from '../sensor/mirror.ts';
import {
  documentOf,
  type Ended,
  type ErrorDocument,
  LogDir,
  mixed,
  Run,
  sumOf,
  suspend,
} from '../sensor/run.ts';
import { ownNetns, until } from '../support/kernel.ts';

ownNetns();

const hidden = hiddenFromNobody();
/** Everything here runs as nobody, without a capability. */
const mirrorTest = test.skipIf(hidden !== undefined);

const talk = (n: number, bytes = 5000) =>
  Array.from({ length: n }, (_, i) =>
    conversation({
      client: { address: i % 2 === 0 ? '192.0.2.1' : '2001:db8::1', port: 5000 + i },
      server: { address: i % 2 === 0 ? '192.0.2.2' : '2001:db8::2', port: 80 },
      turns: [
        { from: 'client', data: 300 },
        { from: 'server', data: bytes },
      ],
      mss: 1300,
    }),
  );

/** Frames of 30 connections; of those that are not `whole` the packets of the client only. */
const sent = (from: number, whole: (i: number) => boolean) =>
  Array.from({ length: 30 }, (_, i) =>
    conversation({
      client: { address: '192.0.2.1', port: from + i },
      server: { address: '192.0.2.2', port: 443 },
      turns: [{ from: 'server', data: 8000 }],
    })
      .filter(({ bytes }) => whole(i) || bytes[14 + 15] === 1)
      .map(({ bytes }) => bytes),
  ).flat();

const expectRefusal = (ended: Ended, code: string, exit: number, text: RegExp): void => {
  expect(ended).toMatchObject({ code: exit, signal: null });
  const { error } = JSON.parse(ended.stdout) as ErrorDocument;
  expect(error.code).toBe(code);
  expect(error.message).toMatch(text);
  expect(error.help).toBeTruthy();
  expect(ended.stderr).not.toMatch(/^ready$/m);
};

describe('a mirror over UDP, as nobody and without a capability', () => {
  mirrorTest('from start to end: every datagram in the books, every connection in the log', async () => {
    using logs = new LogDir();
    const port = await freePort();
    await using run = await runMirror([`udp://127.0.0.1:${port}`], logs, '--vni').ready();
    const frames = mixed(talk(20));
    using sender = new MirrorSender(logs, { port, wrap: WRAPS.vxlan });
    await sender.send(frames, 77);
    const good = WRAPS.vxlan(frames[0], 1);
    const bad = [
      new Uint8Array(0),
      good.subarray(0, 7),
      good.subarray(0, 8),
      Uint8Array.from(good, (byte, i) => (i === 0 ? 0 : byte)),
      Uint8Array.from(good, (byte, i) => (i === 0 ? 0 : byte)),
    ];
    await sender.datagrams(bad);
    const ended = await run.stop();
    expect(ended).toMatchObject({ code: 0, signal: null });
    const summary = documentOf(ended);
    const books = booksOf(summary);
    expect(books).toMatchObject({
      source: `udp://127.0.0.1:${port}`,
      drop: 'none',
      datagrams: sender.sent,
      frames: frames.length,
      dropped: 0,
      early: 0,
      cut: 0,
      bad: { truncated: 1, empty: 2, flags: 2 },
    });
    expect(summary).toMatchObject({ shuntedConnections: 0, interfaces: [] });
    expect(summary.directions).toEqual({ judged: 20, oneWay: 0 });
    const conn = connOf(logs);
    expect(conn).toHaveLength(20);
    expect(sumOf(conn, 'orig_pkts', 'resp_pkts')).toBe(frames.length);
    expect(conn.every((r) => r['conn_state'] === 'SF' && r['id.ctx.vxlan_vni'] === 77)).toBe(true);
    const stats = logs.read('stats');
    expect(stats.at(-2)).toMatchObject({
      worker: 0,
      peer: `udp://127.0.0.1:${port}`,
      'udp.frames': frames.length,
    });
    expect(stats.at(-1)).toMatchObject({
      pkts_link: sender.sent,
      pkts_dropped: 0,
      'udp.bad.flags': 2,
      tcp_judged: 20,
      tcp_one_way: 0,
      one_way_share: 0,
    });
    expect(stats.at(-1)).not.toHaveProperty('worker');
  });

  mirrorTest('IPv4 and IPv6 listeners, several at once, addresses as in Zeek; the health port', async () => {
    using logs = new LogDir();
    const [a, b, health] = [await freePort(), await freePort(), await freePort()];
    const sources = [`udp://127.0.0.1:${a}?encap=raw`, `udp::[::1]:${b}:geneve:dlt=raw`];
    await using run = await runMirror(sources, logs, '--health-port', String(health)).ready();
    const answer = await fetch(`http://127.0.0.1:${health}/`);
    expect([answer.status, await answer.text()]).toEqual([200, 'ok\n']);
    const conversations = talk(10);
    const frames = mixed(conversations);
    using first = new MirrorSender(logs, { port: a, wrap: WRAPS.raw });
    using second = new MirrorSender(logs, { port: b, address: '::1', wrap: WRAPS.geneveIp, link: 'ip' });
    await first.send(frames.slice(0, 100));
    await second.send(
      mixed(talk(4)).map((frame) => frame.subarray(14)),
      5,
    );
    await first.send(frames.slice(100));
    const ended = await run.stop('SIGINT');
    expect(ended.code).toBe(130);
    const { udp } = documentOf(ended);
    expect(udp).toMatchObject([
      { source: sources[0], frames: first.sent, dropped: 0 },
      { source: sources[1], frames: second.sent, dropped: 0 },
    ]);
    // Each source has a flow table of its own.
    expect(connOf(logs)).toHaveLength(14);
    await expect(fetch(`http://127.0.0.1:${health}/`)).rejects.toThrow();
  });

  mirrorTest('what the socket has no room for is known, to the datagram', async () => {
    using logs = new LogDir();
    const port = await freePort();
    await using run = await runMirror([`udp://127.0.0.1:${port}?encap=raw`], logs).ready();
    const frame = mixed(talk(1))[0];
    await suspend(run.process.pid as number);
    using sender = new MirrorSender(logs, { port, wrap: WRAPS.raw });
    // Each takes 768 bytes of the socket's room at least, which is 2 × 16 MiB at most.
    await sender.flood(frame, 50_000);
    run.process.kill('SIGCONT');
    const books = booksOf(documentOf(await run.stop()));
    expect(books.datagrams).toBe(sender.sent);
    expect(books.dropped).toBeGreaterThan(0);
    expect(books.frames).toBeGreaterThan(0);
    expect(logs.read('stats').at(-1)).toMatchObject({
      pkts_dropped: books.dropped,
      'udp.dropped': books.dropped,
    });
  });

  mirrorTest(
    'a mirror that leaves out one direction is named, and named again when it is whole',
    async () => {
      using logs = new LogDir();
      const port = await freePort();
      await using run = await runMirror([`udp://127.0.0.1:${port}?encap=raw`], logs).ready();
      using sender = new MirrorSender(logs, { port, wrap: WRAPS.raw });
      const noted = (note: string) => () => logs.read('notice').some((r) => r['note'] === note);
      await sender.send(sent(10_000, (i) => i >= 10));
      // One-way connections have no end of their own, unless the same ports begin anew.
      await sender.send(sent(10_000, () => true));
      await until(noted('Sluice::One_Way'), 'nobody names the mirror');
      await sender.send(sent(10_000, () => true));
      await until(noted('Sluice::Both_Ways'), 'nobody says that it is whole');
      const { directions } = documentOf(await run.stop());
      expect(directions).toEqual({ judged: 90, oneWay: 10 });
    },
  );

  mirrorTest('local bypass: counted and not analysed, and the records are the same', async () => {
    const conversations = talk(8, 400_000);
    const port = await freePort();
    const logged: string[][] = [];
    const counted: unknown[] = [];
    for (const policy of ['bulk=50kB', 'none']) {
      using logs = new LogDir();
      await using run = await runMirror([`udp://127.0.0.1:${port}`], logs, '--policy', policy).ready();
      using sender = new MirrorSender(logs, { port, wrap: WRAPS.vxlan });
      await sender.send(mixed(conversations));
      const summary = documentOf(await run.stop());
      expect(booksOf(summary)).toMatchObject({ frames: sender.sent, dropped: 0 });
      logged.push(timeless(connOf(logs)));
      counted.push(summary.localBypass);
      const { localBypass } = summary;
      expect(logs.read('stats').at(-1)).toMatchObject({
        'bypass.conns': localBypass.connections,
        'bypass.pkts': localBypass.pkts,
        'bypass.bytes': localBypass.bytes,
      });
    }
    expect(logged[0]).toHaveLength(8);
    expect(logged[0]).toEqual(logged[1]);
    // From the packet that takes a connection beyond the limit on, which is the last one that is analysed.
    let pkts = 0;
    let bytes = 0;
    for (const frames of conversations) {
      const sums = [0, 0];
      let bypassed = false;
      for (const [i, frame] of frames.entries()) {
        const six = frame.bytes[12] === 0x86;
        const ipBytes = frame.bytes.length - 14;
        if (bypassed) {
          pkts++;
          bytes += ipBytes;
        }
        const side = frame.bytes[14 + (six ? 23 : 15)] === 1 ? 0 : 1;
        sums[side] += ipBytes;
        bypassed ||= i >= 9 && Math.max(...sums) >= 50_000;
      }
    }
    expect(counted).toEqual([
      { connections: 8, pkts, bytes },
      { connections: 0, pkts: 0, bytes: 0 },
    ]);
  });

  mirrorTest(
    'a run that is killed: the port is free, and the next one goes on with whole lines',
    async () => {
      using logs = new LogDir();
      const port = await freePort();
      const source = `udp://127.0.0.1:${port}`;
      await using first = await runMirror([source], logs, '--workers', '2').ready();
      using sender = new MirrorSender(logs, { port, wrap: WRAPS.vxlan });
      await sender.send(mixed(talk(10)));
      await first.stop('SIGKILL');
      await using second = await runMirror([source], logs, '--workers', '2').ready();
      const sent = sender.sent;
      await sender.send(mixed(talk(10)));
      const summary = documentOf(await second.stop());
      expect(booksOf(summary)).toMatchObject({ datagrams: sender.sent - sent, dropped: 0 });
      expect(connOf(logs).length).toBeGreaterThanOrEqual(10);
      expect(summary.connections).toBeGreaterThanOrEqual(10);
      expect(logs.whole('conn')).toBe(true);
    },
  );
});

describe('refused, with the exit code of the command line', () => {
  let holder: ReturnType<typeof createSocket>;
  const tcp = createServer();
  let taken = 0;
  beforeAll(async () => {
    holder = createSocket({ type: 'udp4' });
    await new Promise<void>((resolve) => holder.bind(0, '127.0.0.1', resolve));
    taken = holder.address().port;
    await new Promise<void>((resolve) => tcp.listen(taken, resolve));
  });
  afterAll(async () => {
    holder.close();
    await new Promise((resolve) => tcp.close(resolve));
  });

  mirrorTest.each<[string, (port: number) => string[], string, number, RegExp]>([
    ['an unknown encapsulation', () => ['udp://127.0.0.1:9999?encap=gre'], 'USAGE', 2, /encap/],
    ['an address that is none', () => ['udp://localhost:4789'], 'USAGE', 2, /localhost/],
    ['an address of another host', () => ['udp://192.0.2.99:9999'], 'ADDRESS_UNKNOWN', 2, /192\.0\.2\.99/],
    ['a port in use', (port) => [`udp://127.0.0.1:${port}`], 'ADDRESS_IN_USE', 1, /127\.0\.0\.1/],
    [
      'a port in use, several workers',
      (port) => [`udp://127.0.0.1:${port}`, '--workers', '2'],
      'ADDRESS_IN_USE',
      1,
      /127/,
    ],
    [
      'a health port in use',
      (port) => ['udp://127.0.0.1:9999', '--health-port', String(port)],
      'ADDRESS_IN_USE',
      1,
      /TCP/,
    ],
    ['one port twice', () => ['udp://127.0.0.1:9999', 'udp::127.0.0.1:9999:geneve'], 'USAGE', 2, /same port/],
    ['a tap without an interface', () => ['udp://127.0.0.1:9999', '--tap'], 'USAGE', 2, /interface/],
  ])('%s', async (_name, args, code, exit, text) => {
    using logs = new LogDir();
    expectRefusal(await runMirror(args(taken), logs).ended, code, exit, text);
  });

  mirrorTest('the port of another run, which would share it', async () => {
    using logs = new LogDir();
    using others = new LogDir();
    const port = await freePort();
    const source = `udp://127.0.0.1:${port}`;
    await using first = await runMirror([source], logs, '--workers', '2').ready();
    expectRefusal(await runMirror([source], others, '--workers', '2').ended, 'ADDRESS_IN_USE', 1, /127/);
    expect(first.running).toBe(true);
  });

  mirrorTest('an interface beside the mirror still needs privilege', async () => {
    using logs = new LogDir();
    const run = runMirror(['udp://127.0.0.1:9999'], logs, '-i', 'lo', '--tap');
    expectRefusal(await run.ended, 'PRIVILEGE', 3, /CAP_NET_RAW/);
  });
});

test('sluice run --help has examples of mirrors', async () => {
  const { stdout } = await new Run(['run', '--help']).ended;
  expect(stdout).toMatch(/sluice run udp:\/\//);
});
