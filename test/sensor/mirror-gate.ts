import { expect } from 'vitest';
import type { PacketBuilder } from '../../src/packet/build.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { ip, vethPair } from '../support/kernel.ts';
import { compare } from './compare.ts';
import { documentOf, Feed, LogDir, Run, sumOf } from './run.ts';

const MAC = '02:00:00:00:77:01';
/** Datagrams a second, to both. */
const RATE = 8000;
/** With a gate before it, and the witness. */
const [GATED, PLAIN] = [4789, 4790];
const LONG = 8;
const SHORT = 60;

/** Frames of long and short connections, in the order of their times. */
function frames(): Uint8Array[] {
  const closes = ['client-fin', 'server-fin', 'client-rst', 'none'] as const;
  return Array.from({ length: LONG + SHORT }, (_, i) =>
    conversation({
      client: { address: i % 3 === 0 ? `2001:db8::${i + 16}` : `10.1.0.${i + 16}`, port: 10_000 + i },
      server: { address: i % 3 === 0 ? '2001:db8::1' : '10.2.0.1', port: 80 },
      mss: 1300,
      turns: [
        { from: 'client', data: 300 },
        { from: 'server', data: i < LONG ? 1_000_000 : 5000 },
        { from: 'client', data: 100 },
        { from: 'server', data: 3000 },
      ],
      close: closes[i % closes.length],
      retransmit: (i % 4) * 0.01,
      seed: i,
      start: i < LONG ? i * 0.02 : i * 0.01,
      gap: 0.001,
    }),
  )
    .flat()
    .sort((a, b) => a.ts - b.ts)
    .map(({ bytes }) => bytes);
}

/** The host that mirrors end at. */
export interface MirroredHost {
  /** Its address, as `ip addr add` takes it. */
  address: string;
  options: readonly string[];
  /** Ethernet to this address and IP to the host. */
  outer: (mac: string) => PacketBuilder;
}

/** What a mirror sends, and how it is listened to. */
export interface Mirror {
  source: (port: number) => string;
  /** The datagram with a frame in it, which has this number. */
  wrap: (outer: PacketBuilder, number: number, dport: number, frame: Uint8Array) => PacketBuilder;
  /** Network identifiers that its connections have in conn.log. */
  vni: Record<string, number>;
}

const idsOf = (line: Record<string, unknown>): string =>
  JSON.stringify([line['id.ctx.vxlan_vni'], line['id.ctx.geneve_vni']]);

/**
 * Sends frames to a run with a gate before its sockets, and the same to one without: the records have to be the same, the
 * books exact, and the host's own traffic not looked at. Several mirrors bring the same connections.
 */
export async function checkMirrorGate(host: MirroredHost, ...mirrors: readonly Mirror[]): Promise<void> {
  const pair = vethPair();
  using _ = { [Symbol.dispose]: () => pair.remove() };
  ip(`addr add ${host.address} dev ${pair.a}`);
  ip(`link set ${pair.a} address ${MAC}`);
  using gatedLogs = new LogDir();
  using plainLogs = new LogDir();
  const args = (first: number, logs: LogDir, ...more: string[]): string[] => [
    'run',
    ...mirrors.map(({ source }, i) => source(first + 2 * i)),
    '--policy',
    'bulk=100kB',
    '--tunnel-key',
    ...host.options,
    '--json',
    '--log-dir',
    logs.path,
    ...more,
  ];
  await using gated = await new Run(args(GATED, gatedLogs, '--mirror-gate', pair.a)).ready();
  await using plain = await new Run(args(PLAIN, plainLogs, '--no-gate')).ready();
  const all = frames();
  // And some of the host's own traffic.
  const knock = host.outer(MAC).tcp({ dport: 22, flags: 'S' }).bytes();
  const sent = all.flatMap((frame, i) => [
    ...mirrors.flatMap(({ wrap }, mirror) =>
      [GATED, PLAIN].map((port) => wrap(host.outer(MAC), i, port + 2 * mirror, frame).bytes()),
    ),
    ...(i % 100 === 0 ? [knock] : []),
  ]);
  await new Feed(pair.b, sent, RATE, {
    from: sent.length >> 2,
    to: sent.length >> 1,
    until: () => gatedLogs.shunts('start') >= mirrors.length * (LONG / 2),
    what: 'not enough is shunted',
  }).done;
  const [first, second] = await Promise.all([gated.stop(), plain.stop()]);
  const { ledger, udp } = documentOf(first);
  expect(udp).toMatchObject(mirrors.map(() => ({ mode: 'native', drop: 'xdp', dropped: 0 })));
  expect(second.code).toBe(0);
  const conn = gatedLogs.read('conn');
  const { differences, connections, shunted } = compare(conn, plainLogs.read('conn'));
  expect(differences).toEqual([]);
  expect(connections).toBe(mirrors.length * (LONG + SHORT));
  expect(shunted).toBeGreaterThanOrEqual(LONG / 2);
  const perMirror = mirrors.flatMap(({ vni }) => Array.from({ length: LONG + SHORT }, () => idsOf(vni)));
  expect(conn.map(idsOf).sort()).toEqual(perMirror.sort());
  expect(ledger?.shunted.pkts).toBe(sumOf(conn, 'orig_shunted_pkts', 'resp_shunted_pkts'));
  expect(ledger?.shunted.pkts).toBeGreaterThan(500);
  // The host's own, and the other mirrors, of which nothing was named.
  expect(ledger?.reasons.passHost?.pkts).toBeGreaterThanOrEqual(mirrors.length * all.length);
  // Each datagram was dropped by the gate, or the socket had it.
  const datagrams = udp.reduce((sum, books) => sum + books.datagrams, 0);
  expect(datagrams + (ledger?.shunted.pkts ?? 0)).toBe(mirrors.length * all.length);
}
