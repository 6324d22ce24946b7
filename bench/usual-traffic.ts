import { eth, type PacketBuilder } from '../src/packet/build.ts';
import { dnsQuery, linuxOptions, type Packets, Random } from './attack-traffic.ts';

/** What goes on besides: clients of some servers, both directions, as a tap sees it. And what looks like an attack and is none. */

export interface Usual {
  readonly servers: readonly string[];
  /** The next packet, after passing over this many. */
  readonly packet: (passOver: number) => Uint8Array;
}

type Made = () => Uint8Array;

const MACS = { src: '02:00:00:00:00:0c', dst: '02:00:00:00:00:0b' };

interface Client {
  readonly address: string;
  readonly ttl: number;
  readonly windows: boolean;
}

/** Usual traffic of web servers, a name server and time servers in one /24; the first server has most of it. */
export function usualTraffic(seed: number, net: string): Usual {
  const r = new Random(seed);
  const servers = Array.from({ length: 12 }, (_, i) => `${net}.${i + 7}`);
  const clients = Array.from({ length: 800 }, (): Client => {
    const windows = r.chance(0.5);
    return {
      address: `${r.int(11, 126)}.${r.int(0, 255)}.${r.int(0, 255)}.${r.int(1, 254)}`,
      ttl: (windows ? 128 : 64) - r.int(4, 22),
      windows,
    };
  });
  return { servers, packet: mixed(r, 60, () => exchange(r, r.pick(clients), serverOf(r, servers))) };
}

/** Packets of so many conversations at a time. */
function mixed(r: Random, conversations: number, begin: () => Made[]): (passOver: number) => Uint8Array {
  const open = Array.from({ length: conversations }, begin);
  const next = (): Made => {
    const at = r.int(0, open.length - 1);
    const made = open[at].shift();
    if (open[at].length === 0) open[at] = begin();
    return made ?? next();
  };
  return (passOver) => {
    for (let i = 0; i < passOver; i++) next();
    return next()();
  };
}

const serverOf = (r: Random, servers: readonly string[]): string =>
  r.chance(0.4) ? servers[0] : r.pick(servers);

function exchange(r: Random, client: Client, server: string): Made[] {
  const what = r.next();
  if (what < 0.7) return connection(r, client, server, r.int(2, 24));
  if (what < 0.8) return quic(r, client, server);
  const from = ends(r, client, server);
  if (what < 0.92) {
    const name = [3, 119, 119, 119, 5, ...new TextEncoder().encode(`site${r.int(0, 9)}`), 3, 99, 111, 109];
    const query = dnsQuery(r, name);
    const answer = Uint8Array.of(...query, ...r.bytes(r.int(16, 300)));
    answer[2] = 0x81;
    answer[3] = 0x80;
    const resolver = `9.9.9.${r.int(9, 12)}`;
    return [
      () =>
        eth(MACS)
          .ipv4({ src: server, dst: resolver, ttl: 64 })
          .udp({ sport: 40_000, dport: 53 })
          .payload(query)
          .bytes(),
      () =>
        eth(MACS)
          .ipv4({ src: resolver, dst: server, ttl: 57 })
          .udp({ sport: 53, dport: 40_000 })
          .payload(answer)
          .bytes(),
    ];
  }
  if (what < 0.96) {
    const time = new Uint8Array(48);
    time[0] = 0x24;
    const peer = `193.0.0.${r.int(1, 6)}`;
    return [
      () =>
        eth(MACS)
          .ipv4({ src: peer, dst: server, ttl: 52 })
          .udp({ sport: 123, dport: 123 })
          .payload(time)
          .bytes(),
    ];
  }
  return [
    () =>
      from(true)
        .icmp({ id: r.int(0, 65_535), seq: r.int(1, 9) })
        .payload(56)
        .bytes(),
  ];
}

const ends =
  (r: Random, client: Client, server: string) =>
  (in_: boolean): PacketBuilder =>
    eth(MACS).ipv4({
      src: in_ ? client.address : server,
      dst: in_ ? server : client.address,
      ttl: in_ ? client.ttl : 64,
      id: r.int(0, 65_535),
      dontFragment: true,
    });

/** A TCP connection with so many segments of data, most from the server. */
export function connection(r: Random, client: Client, server: string, segments: number): Made[] {
  const from = ends(r, client, server);
  const sport = r.int(1024, 65_535);
  const dport = r.pick([80, 443, 443, 443]);
  const options = client.windows ? Uint8Array.of(2, 4, 5, 0xb4, 1, 3, 3, 8, 1, 1, 4, 2) : linuxOptions(r);
  const seq = r.int(0, 2 ** 32 - 1);
  const window = client.windows ? r.pick([8192, 64_240]) : r.pick([29_200, 64_240, 65_535]);
  const one =
    (in_: boolean, flags: string, payload: number): Made =>
    () =>
      from(in_)
        .tcp({
          sport: in_ ? sport : dport,
          dport: in_ ? dport : sport,
          flags,
          seq: (seq + r.int(0, 100_000)) >>> 0,
          ack: flags === 'S' ? 0 : r.int(0, 2 ** 32 - 1),
          window: flags.includes('S') ? window : r.int(100, 2000),
          ...(flags.includes('S') ? { options: [{ raw: options }] } : {}),
        })
        .payload(payload)
        .bytes();
  const all = [one(true, 'S', 0), one(false, 'SA', 0), one(true, 'A', 0), one(true, 'PA', r.int(200, 700))];
  for (let i = 0; i < segments; i++) {
    all.push(one(false, 'A', 1448));
    if (i % 2 === 1) all.push(one(true, 'A', 0));
    if (r.chance(0.1)) all.push(one(true, 'PA', r.int(40, 1200)));
  }
  all.push(one(true, 'FA', 0), one(false, 'FA', 0), one(true, 'A', 0));
  return all;
}

function quic(r: Random, client: Client, server: string): Made[] {
  const from = ends(r, client, server);
  const sport = r.int(1024, 65_535);
  const initial = new Uint8Array(1200);
  initial.set([0xc0 | r.int(0, 3), 0, 0, 0, 1, 8, ...r.bytes(8), 0, 0, 0x44, 0x9e, ...r.bytes(16)]);
  const short = (size: number): Uint8Array => {
    const body = new Uint8Array(size);
    body.set(r.bytes(Math.min(size, 48)));
    body[0] = 0x40 | (body[0] & 0x3f);
    return body;
  };
  const all: Made[] = [() => from(true).udp({ sport, dport: 443 }).payload(initial).bytes()];
  for (let i = 0; i < 8; i++) {
    all.push(() => from(false).udp({ sport: 443, dport: sport }).payload(short(1252)).bytes());
    all.push(() =>
      from(true)
        .udp({ sport, dport: 443 })
        .payload(short(r.int(30, 90)))
        .bytes(),
    );
  }
  return all;
}

export const SURPRISES = ['flash-crowd', 'backup', 'scan', 'speed-test', 'udp-speed-test'] as const;
export type Surprise = (typeof SURPRISES)[number];

/** Much at once, and nothing bad; each packet after passing over so many of its conversation. */
export function surpriseOf(kind: Surprise, seed: number, server: string, passOver = 19): Packets {
  const r = new Random(seed);
  const client = (): Client => ({
    address: `${r.int(11, 126)}.${r.int(0, 255)}.${r.int(0, 255)}.${r.int(1, 254)}`,
    ttl: r.pick([64, 128]) - r.int(4, 22),
    windows: r.chance(0.5),
  });
  if (kind === 'flash-crowd') {
    const next = mixed(r, 200, () => connection(r, client(), server, r.int(2, 24)));
    return () => next(passOver);
  }
  const one = client();
  const from = ends(r, one, server);
  if (kind === 'scan') {
    const net = server.split('.').slice(0, 2).join('.');
    return () =>
      eth(MACS)
        .ipv4({ src: one.address, dst: `${net}.${r.int(0, 255)}.${r.int(1, 254)}`, ttl: one.ttl, id: 54_321 })
        .tcp({
          sport: r.int(32_768, 61_000),
          dport: r.pick([22, 23, 80, 443, 3389]),
          flags: 'S',
          seq: r.int(0, 2 ** 32 - 1),
          window: 65_535,
        })
        .bytes();
  }
  const ports = Array.from({ length: kind === 'backup' ? 1 : 6 }, () => r.int(1024, 65_535));
  const tcp = (in_: boolean, payload: number): Uint8Array => {
    const port = r.pick(ports);
    return from(in_)
      .tcp({
        sport: in_ ? port : 5201,
        dport: in_ ? 5201 : port,
        flags: 'A',
        seq: r.int(0, 2 ** 32 - 1),
        ack: r.int(0, 2 ** 32 - 1),
        window: 2000,
      })
      .payload(payload)
      .bytes();
  };
  if (kind !== 'udp-speed-test') return () => (r.chance(0.7) ? tcp(true, 1448) : tcp(false, 0));
  return () =>
    r.chance(0.02)
      ? tcp(r.chance(0.5), 20)
      : from(true).udp({ sport: ports[0], dport: 5201 }).payload(1400).bytes();
}

/**
 * SYNs that have nothing in any field that those of the usual clients do not have: of so many hosts, or of made-up addresses (0).
 * No attack that somebody has been seen to make, but the worst there can be.
 */
export function likeUsual(seed: number, server: string, hosts: number): Packets {
  const r = new Random(seed);
  const made = (): Client => {
    const windows = r.chance(0.5);
    const address = `${r.int(11, 126)}.${r.int(0, 255)}.${r.int(0, 255)}.${r.int(1, 254)}`;
    return { address, ttl: (windows ? 128 : 64) - r.int(4, 22), windows };
  };
  const clients = Array.from({ length: hosts }, made);
  return () => connection(r, hosts === 0 ? made() : r.pick(clients), server, 0)[0]();
}
