import { createSocket, type Socket } from 'node:dgram';
import { chownSync, existsSync, readFileSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { packageRoot } from '../../src/kernel/index.ts';
import { eth, ipv4, ipv6, raw } from '../../src/packet/build.ts';
import type { RunSummary } from '../../src/sensor/report.ts';
import { until } from '../support/kernel.ts';
import type { ConnLine } from './compare.ts';
import { EXACT } from './compare.ts';
import { type LogDir, Run } from './run.ts';

const NOBODY_ID = 65_534;
/** A process of nobody's, without any capability, as far as this process may make one. */
const NOBODY =
  process.getuid?.() === 0
    ? [
        'setpriv',
        `--reuid=${NOBODY_ID}`,
        `--regid=${NOBODY_ID}`,
        '--clear-groups',
        '--inh-caps=-all',
        '--bounding-set=-all',
      ]
    : [];

/** Why nobody cannot run the program: the checkout lies where others may not look. */
export function hiddenFromNobody(): string | undefined {
  if (NOBODY.length === 0) return undefined;
  for (let path = join(packageRoot(), 'bin'); path !== '/'; path = dirname(path))
    if ((statSync(path).mode & 0o001) === 0) return `${path} is closed to others`;
  return undefined;
}

const EMPTY = raw(new Uint8Array(0));
const BRIDGED = 0x6558;

/** What a mirror makes of a frame; `vni` where it has one. */
export type Wrap = (frame: Uint8Array, vni: number) => Uint8Array;

const vxlan: Wrap = (frame, vni) => EMPTY.vxlan({ vni }).payload(frame).bytes();
const VERSION_6 = 6;

/** The option of AWS' Gateway Load Balancer that names its endpoint. */
const GWLB = [{ class: 0x0108, type: 1, data: Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8) }];

export const WRAPS = {
  vxlan,
  geneve: (frame, vni) => EMPTY.geneve({ vni, protocol: BRIDGED }).payload(frame).bytes(),
  /** Around IP packets, as a load balancer does. */
  geneveIp: (packet, vni) =>
    EMPTY.geneve({ vni, protocol: packet[0] >>> 4 === VERSION_6 ? 0x86dd : 0x0800, options: GWLB })
      .payload(packet)
      .bytes(),
  geneveVxlan4: (frame, vni) => between(ipv4({ src: '10.1.0.1', dst: '10.1.0.2' }), 0x0800, frame, vni),
  geneveVxlan6: (frame, vni) =>
    between(ipv6({ src: '2001:db8:1::1', dst: '2001:db8:1::2' }), 0x86dd, frame, vni),
  raw: (frame) => frame,
  behind8: (frame) => Buffer.concat([Buffer.alloc(8, 0x5a), frame]),
} as const satisfies Record<string, Wrap>;

function between(ip: ReturnType<typeof ipv4>, protocol: number, frame: Uint8Array, vni: number): Uint8Array {
  const inner = ip.udp({ sport: 50_000, dport: 4789 }).vxlan({ vni }).payload(frame).bytes();
  return EMPTY.geneve({ vni: vni ^ 0x800000, protocol, options: GWLB })
    .payload(inner)
    .bytes();
}

/** The kernel may choose the same port again. */
const given = new Set<number>();

/** A UDP port of this host that nobody uses just now, of either family; another one each time. */
export async function freePort(): Promise<number> {
  for (;;) {
    const socket = createSocket('udp6');
    await new Promise<void>((resolve) => socket.bind(0, '::', resolve));
    const { port } = socket.address();
    socket.close();
    if (given.has(port)) continue;
    given.add(port);
    return port;
  }
}

/** Datagrams that are sent at a time. */
const BURST = 64;
/** What the kernel charges a socket for a datagram beside twice its bytes, rather too much. */
const OVERHEAD = 1500;
const PROBES_NET = '198.51.100.';
let senders = 0;
/** So many that each of a few workers gets some. */
const PROBES = 16;

/** Bytes that may be on the way to the receiver: half of what the kernel grants it. */
const AHEAD = Math.min(Number(readFileSync('/proc/sys/net/core/rmem_max', 'latin1')), 2 ** 24);

/** A connection attempt with this sequence number; each ends the one before, which is a line of conn.log then. */
function probe(src: string, nth: number, round: number): Uint8Array {
  return eth()
    .ipv4({ src, dst: `${PROBES_NET}254` })
    .tcp({ sport: 1000 + nth, dport: 9, seq: 1000 * round, flags: 'S' })
    .bytes();
}

/** An Ethernet frame around IPv4 in another kind of frame. */
const LINKS = {
  ethernet: (frame: Uint8Array) => frame,
  ip: (frame: Uint8Array) => frame.subarray(14),
  ppp: (frame: Uint8Array) => Buffer.concat([Uint8Array.of(0xff, 0x03, 0x00, 0x21), frame.subarray(14)]),
} as const;

/** Of conn.log, without the probes. */
export const connOf = (logs: LogDir): ConnLine[] =>
  logs.read('conn').filter((r) => r['id.resp_h'] !== `${PROBES_NET}254`);

/** What a sender sends to. */
export interface MirrorTarget {
  port: number;
  /** Default 127.0.0.1. */
  address?: string;
  wrap: Wrap;
  /** What the frames are. Default Ethernet. */
  link?: keyof typeof LINKS;
  /** Source ports, taken by turns. Default 1. */
  ports?: number;
}

/**
 * Sends frames to a UDP port of this host, never further ahead than the receiver has room for, whatever else the machine does:
 * probes that have become lines of conn.log tell how far it has come.
 */
export class MirrorSender {
  /** Datagrams, probes among them. */
  sent = 0;
  readonly #logs: LogDir;
  readonly #target: MirrorTarget;
  readonly #sockets: Socket[];
  readonly #probe = `${PROBES_NET}${++senders}`;
  #ahead = 0;
  #round = 0;

  constructor(logs: LogDir, target: MirrorTarget) {
    this.#logs = logs;
    this.#target = target;
    const family = target.address?.includes(':') === true ? 'udp6' : 'udp4';
    this.#sockets = Array.from({ length: target.ports ?? 1 }, () => createSocket(family));
  }

  async send(frames: readonly Uint8Array[], vni = 1): Promise<void> {
    await this.datagrams(frames.map((frame) => this.#wrapped(frame, vni)));
  }

  /** These as they are. */
  async datagrams(datagrams: readonly Uint8Array[]): Promise<void> {
    let burst: Promise<void>[] = [];
    for (const datagram of datagrams) {
      this.#ahead += 2 * datagram.length + OVERHEAD;
      if (this.#ahead > AHEAD) {
        await Promise.all(burst);
        burst = [];
        await this.taken();
      }
      burst.push(this.#one(datagram));
      if (burst.length < BURST) continue;
      await Promise.all(burst);
      burst = [];
    }
    await Promise.all(burst);
  }

  /** Sends without a look at the receiver. */
  async flood(frame: Uint8Array, times: number): Promise<void> {
    const datagram = this.#wrapped(frame, 1);
    for (let left = times; left > 0; left -= BURST)
      await Promise.all(Array.from({ length: Math.min(left, BURST) }, () => this.#one(datagram)));
  }

  /** Resolves when all that was sent has been handled. */
  async taken(): Promise<void> {
    for (let i = 0; i < 2; i++) {
      this.#round++;
      await Promise.all(
        Array.from({ length: PROBES }, (_, nth) =>
          this.#one(
            this.#wrapped(LINKS[this.#target.link ?? 'ethernet'](probe(this.#probe, nth, this.#round)), 1),
          ),
        ),
      );
    }
    const lines = (this.#round - 1) * PROBES;
    const ended = (): boolean => connLines(this.#logs).split(`"${this.#probe}"`).length > lines;
    await until(ended, `nobody reads UDP port ${this.#target.port}`);
    this.#ahead = 0;
  }

  #wrapped(frame: Uint8Array, vni: number): Uint8Array {
    return this.#target.wrap(frame, vni);
  }

  async #one(datagram: Uint8Array): Promise<void> {
    const socket = this.#sockets[this.sent++ % this.#sockets.length];
    await new Promise<void>((resolve, reject) => {
      socket.send(datagram, this.#target.port, this.#target.address ?? '127.0.0.1', (error) =>
        error === null ? resolve() : reject(error),
      );
    });
  }

  [Symbol.dispose](): void {
    for (const socket of this.#sockets) socket.close();
  }
}

function connLines(logs: LogDir): string {
  const path = join(logs.path, 'conn.log');
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}

/** `sluice run udp://… --json` of nobody. */
export function runMirror(sources: readonly string[], logs: LogDir, ...more: string[]): Run {
  if (NOBODY.length > 0) chownSync(logs.path, NOBODY_ID, NOBODY_ID);
  return new Run(['run', ...sources, '--json', '--log-dir', logs.path, ...more], NOBODY);
}

/** The books of the only listener, which add up. */
export function booksOf(summary: RunSummary): RunSummary['udp'][number] {
  const [books] = summary.udp;
  const bad = Object.values(books.bad).reduce((sum, n) => sum + n, 0);
  if (books.frames + books.early + books.dropped + bad !== books.datagrams)
    throw new Error(`the books do not add up: ${JSON.stringify(books)}`);
  return books;
}

/** Connections as texts that can be compared, in an order of their own. */
export const timeless = (records: readonly Readonly<Record<string, unknown>>[]): string[] =>
  records.map((record) => JSON.stringify(EXACT.map((field) => record[field] ?? null))).sort();
