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

/** What a mirror sends, and how it is listened to. */
export interface Mirror {
  /** The address that it is sent to, as `ip addr add` takes it. */
  address: string;
  source: (port: number) => string;
  options: readonly string[];
  /** Ethernet to this address and IP to the host. */
  outer: (mac: string) => PacketBuilder;
  /** Of the packet with this number, which has network identifier 5. */
  wrap: (outer: PacketBuilder, number: number, dport: number) => PacketBuilder;
  vni: 'id.ctx.vxlan_vni' | 'id.ctx.geneve_vni';
}

/**
 * Sends frames to a run with a gate before its sockets, and the same to one without: the records have to be the same, the
 * books exact, and the host's own traffic not looked at.
 */
export async function checkMirrorGate(mirror: Mirror): Promise<void> {
  const pair = vethPair();
  using _ = { [Symbol.dispose]: () => pair.remove() };
  ip(`addr add ${mirror.address} dev ${pair.a}`);
  ip(`link set ${pair.a} address ${MAC}`);
  using gatedLogs = new LogDir();
  using plainLogs = new LogDir();
  const args = (port: number, logs: LogDir, ...more: string[]): string[] => [
    'run',
    mirror.source(port),
    '--policy',
    'bulk=100kB',
    '--tunnel-key',
    ...mirror.options,
    '--json',
    '--log-dir',
    logs.path,
    ...more,
  ];
  const gated = await new Run(args(GATED, gatedLogs, '--mirror-gate', pair.a)).ready();
  const plain = await new Run(args(PLAIN, plainLogs, '--no-gate')).ready();
  const all = frames();
  // And some of the host's own traffic.
  const knock = mirror.outer(MAC).tcp({ dport: 22, flags: 'S' }).bytes();
  const sent = all.flatMap((frame, i) => [
    ...[GATED, PLAIN].map((port) => mirror.wrap(mirror.outer(MAC), i, port).payload(frame).bytes()),
    ...(i % 100 === 0 ? [knock] : []),
  ]);
  await new Feed(pair.b, sent, RATE).done;
  const [first, second] = await Promise.all([gated.stop(), plain.stop()]);
  const { ledger, udp } = documentOf(first);
  expect(udp).toMatchObject([{ mode: 'native', drop: 'xdp', dropped: 0 }]);
  expect(second.code).toBe(0);
  const conn = gatedLogs.read('conn');
  const { differences, connections, shunted } = compare(conn, plainLogs.read('conn'));
  expect(differences).toEqual([]);
  expect(connections).toBe(LONG + SHORT);
  expect(shunted).toBeGreaterThanOrEqual(LONG / 2);
  expect(conn.every((line) => line[mirror.vni] === 5)).toBe(true);
  expect(ledger?.shunted.pkts).toBe(sumOf(conn, 'orig_shunted_pkts', 'resp_shunted_pkts'));
  expect(ledger?.shunted.pkts).toBeGreaterThan(500);
  // The host's own, and the other mirror, of which nothing was named.
  expect(ledger?.reasons.passHost?.pkts).toBeGreaterThanOrEqual(sent.length - all.length);
}
