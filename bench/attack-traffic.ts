import { REFLECTORS } from '../src/mitigation/index.ts';
import { eth, type PacketBuilder } from '../src/packet/build.ts';

/** Attacks with random parameters, usual traffic and things that look like attacks, for tests and measurements of mitigation. */

/** Numbers of one seed (mulberry32). */
export class Random {
  #state: number;
  constructor(seed: number) {
    this.#state = seed >>> 0;
  }
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }
  /** From `low` to `high`, both included. */
  int(low: number, high: number): number {
    return low + Math.floor(this.next() * (high - low + 1));
  }
  pick<T>(list: readonly T[]): T {
    return list[this.int(0, list.length - 1)];
  }
  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.int(0, 255));
  }
  chance(share: number): boolean {
    return this.next() < share;
  }
}

/** One packet of it at a time; `at` is how far the attack is, in seconds. */
export type Packets = (at: number) => Uint8Array;

export interface Attacking {
  /** As the detector calls it. */
  readonly kind: string;
  readonly target: string;
  readonly packet: Packets;
}

const MACS = { src: '02:00:00:00:00:0a', dst: '02:00:00:00:00:0b' };
const address = (r: Random): string => {
  const first = r.pick([r.int(1, 9), r.int(11, 126), r.int(128, 223)]);
  return `${first}.${r.int(0, 255)}.${r.int(0, 255)}.${r.int(1, 254)}`;
};
const any = (r: Random): string => `${r.int(0, 255)}.${r.int(0, 255)}.${r.int(0, 255)}.${r.int(0, 255)}`;

/** Sources of an attack: made up for each packet, or hosts that were told to. */
function sourcesOf(r: Random): () => string {
  if (r.chance(0.5)) return r.chance(0.5) ? () => any(r) : () => address(r);
  const hosts = Array.from({ length: r.int(20, 3000) }, () => address(r));
  return () => r.pick(hosts);
}

function ttlOf(r: Random): () => number {
  const base = r.pick([64, 128, 255]) - r.int(2, 25);
  if (r.chance(0.4)) return () => base;
  const spread = r.int(1, 12);
  return r.chance(0.2) ? () => r.int(30, 250) : () => base - r.int(0, spread);
}

const portOf = (r: Random): (() => number) => {
  const fixed = r.int(1024, 65_535);
  return r.chance(0.25) ? () => fixed : () => r.int(1024, 65_535);
};

const MSS = Uint8Array.of(2, 4, 5, 0xb4);

/** As Linux has them: MSS, SACK, time stamps, no-op, window scale (RFC 9293, 7323). */
export function linuxOptions(r: Random): Uint8Array {
  return Uint8Array.of(2, 4, 5, 0xb4, 4, 2, 8, 10, ...r.bytes(4), 0, 0, 0, 0, 1, 3, 3, 7);
}

const ip = (src: string, dst: string, ttl: number, extra: object = {}): PacketBuilder =>
  eth(MACS).ipv4({ src, dst, ttl, ...extra });

function tcpAttack(r: Random, kind: string, flags: string, dst: string): Attacking {
  const src = sourcesOf(r);
  const ttl = ttlOf(r);
  const sport = kind === 'syn-ack-flood' ? () => r.pick([80, 443]) : portOf(r);
  const dport =
    kind === 'syn-ack-flood' || r.chance(0.3) ? () => r.int(1024, 65_535) : () => r.pick([80, 443]);
  const window = r.chance(0.7) ? [r.pick([512, 1024, 2048, 8192, 16_384, 64_240, r.int(1, 65_535)])] : [];
  const seqFixed = r.chance(0.2) ? r.int(0, 2 ** 32 - 1) : undefined;
  const options = flags.includes('S') && r.chance(0.4) ? MSS : undefined;
  const payload = kind === 'ack-flood' && r.chance(0.5) ? r.int(1, 1000) : 0;
  return {
    kind,
    target: dst,
    packet: () =>
      ip(src(), dst, ttl(), { id: r.int(0, 65_535) })
        .tcp({
          sport: sport(),
          dport: dport(),
          flags,
          seq: seqFixed ?? r.int(0, 2 ** 32 - 1),
          ack: flags.includes('A') ? r.int(0, 2 ** 32 - 1) : 0,
          window: window[0] ?? r.int(0, 65_535),
          ...(options === undefined ? {} : { options: [{ raw: options }] }),
        })
        .payload(payload > 0 ? r.bytes(payload) : new Uint8Array(0))
        .bytes(),
  };
}

const HEADS: Record<string, (r: Random) => Uint8Array> = {
  dns: (r) =>
    Uint8Array.of(
      r.int(0, 255),
      r.int(0, 255),
      0x84,
      0,
      0,
      1,
      0,
      r.int(8, 30),
      0,
      0,
      0,
      0,
      1,
      0x78,
      3,
      99,
      111,
      109,
      0,
    ),
  ntp: () => Uint8Array.of(0xd7, 0, 3, 0x2a, 0, 6, 0, 0x48),
  memcached: () => Uint8Array.of(0, 0, 0, 0, 0, 1, 0, 0, 0x56, 0x41, 0x4c, 0x55, 0x45),
  ssdp: () => new TextEncoder().encode('HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\n'),
};

function amplification(r: Random, name: string, port: number, dst: string): Attacking {
  const hosts = Array.from({ length: r.int(30, 2000) }, () => address(r));
  const ttls = new Map(hosts.map((host) => [host, r.int(35, 250)]));
  const low = r.int(300, 1000);
  const high = r.chance(0.4) ? low : r.int(low, 1400);
  const dport = portOf(r);
  return {
    kind: `${name}-amplification`,
    target: dst,
    packet: () => {
      const src = r.pick(hosts);
      const head = HEADS[name]?.(r) ?? new Uint8Array(0);
      const rest = r.bytes(64);
      const payload = new Uint8Array(r.int(low, high));
      payload.set(rest, Math.min(head.length, payload.length - 64));
      payload.set(head);
      return ip(src, dst, ttls.get(src) ?? 64, { id: r.int(0, 65_535) })
        .udp({ sport: port, dport: dport(), checksum: 0 })
        .payload(payload)
        .bytes();
    },
  };
}

const label = (r: Random, least: number, most: number): Uint8Array => {
  const size = r.int(least, most);
  const letters = 'abcdefghijklmnopqrstuvwxyz0123456789';
  return Uint8Array.of(size, ...Array.from({ length: size }, () => letters.charCodeAt(r.int(0, 35))));
};
const nameBytes = (name: string): number[] =>
  name.split('.').flatMap((part) => [part.length, ...new TextEncoder().encode(part)]);

export function dnsQuery(r: Random, name: Uint8Array | readonly number[]): Uint8Array {
  return Uint8Array.of(r.int(0, 255), r.int(0, 255), 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...name, 0, 0, 1, 0, 1);
}

/** All kinds of attack that there are generators for. */
export const ATTACK_KINDS: readonly string[] = [
  'syn-flood',
  'syn-ack-flood',
  'ack-flood',
  'rst-flood',
  'quic-initial-flood',
  'udp-flood',
  'icmp-flood',
  'gre-flood',
  'fragment-flood',
  'dns-water-torture',
  'carpet-udp',
  'carpet-syn',
  ...['dns', 'ntp', 'memcached', 'ssdp', 'cldap', 'snmp', 'chargen'].map((name) => `${name}-amplification`),
];

const TCP_FLAGS: Record<string, string> = {
  'syn-flood': 'S',
  'syn-ack-flood': 'SA',
  'ack-flood': 'A',
  'rst-flood': 'R',
};

/** An attack of a kind, with parameters of this seed. */
export function attackOf(kind: string, seed: number, target: string): Attacking {
  const r = new Random(seed);
  const [name] = kind.split('-amplification');
  const reflector = REFLECTORS.find(([it]) => it === name && kind !== name);
  if (reflector !== undefined) return amplification(r, reflector[0], reflector[1], target);
  const flags = TCP_FLAGS[kind];
  if (flags !== undefined) return tcpAttack(r, kind, flags, target);
  if (kind === 'carpet-udp' || kind === 'carpet-syn') return carpet(r, kind, target);
  return otherAttack(r, kind, target);
}

function carpet(r: Random, kind: string, target: string): Attacking {
  const base = target.split('.').slice(0, 3).join('.');
  const inner = attackOf(kind === 'carpet-udp' ? 'udp-flood' : 'syn-flood', r.int(1, 2 ** 31), target);
  const packet: Packets = (at) => {
    const bytes = inner.packet(at);
    bytes[33] = r.int(0, 255);
    return bytes;
  };
  return { kind: inner.kind, target: `${base}.0/24`, packet };
}

function otherAttack(r: Random, kind: string, dst: string): Attacking {
  const src = sourcesOf(r);
  const ttl = ttlOf(r);
  const sport = portOf(r);
  const low = r.int(20, 700);
  const high = r.chance(0.4) ? low : r.int(low, 1400);
  const constant = r.chance(0.5) ? r.bytes(high) : undefined;
  const payload = (): Uint8Array => {
    const size = r.int(low, high);
    if (constant !== undefined) return constant.subarray(0, size);
    const made = new Uint8Array(size);
    made.set(r.bytes(Math.min(size, 64)));
    return made;
  };
  const head = (): PacketBuilder => ip(src(), dst, ttl(), { id: r.int(0, 65_535) });
  if (kind === 'icmp-flood') {
    const id = r.chance(0.5) ? r.int(0, 65_535) : undefined;
    return {
      kind,
      target: dst,
      packet: () =>
        head()
          .icmp({ id: id ?? r.int(0, 65_535), seq: r.int(0, 65_535) })
          .payload(payload())
          .bytes(),
    };
  }
  if (kind === 'gre-flood') {
    return { kind, target: dst, packet: () => head().gre({ protocol: 0x0800 }).payload(payload()).bytes() };
  }
  if (kind === 'fragment-flood') {
    return {
      kind,
      target: dst,
      packet: () =>
        ip(src(), dst, ttl(), {
          id: r.int(0, 65_535),
          protocol: 17,
          fragment: { offset: 8 * r.int(1, 180), more: r.chance(0.5) },
        })
          .payload(payload())
          .bytes(),
    };
  }
  if (kind === 'quic-initial-flood') {
    return {
      kind,
      target: dst,
      packet: () => {
        const body = new Uint8Array(1200);
        body.set([0xc0 | r.int(0, 3), 0, 0, 0, 1, 8, ...r.bytes(8), 0, 0, 0x44, 0x9e, ...r.bytes(16)]);
        return head().udp({ sport: sport(), dport: 443, checksum: 0 }).payload(body).bytes();
      },
    };
  }
  if (kind === 'dns-water-torture') {
    const name = `${r.pick(['victim', 'shop', 'bank'])}${r.int(1, 999)}.${r.pick(['com', 'example', 'org'])}`;
    const least = r.int(6, 14);
    const most = least + r.int(0, 6);
    return {
      kind,
      target: name,
      packet: () =>
        head()
          .udp({ sport: r.int(1024, 65_535), dport: 53 })
          .payload(dnsQuery(r, [...label(r, least, most), ...nameBytes(name)]))
          .bytes(),
    };
  }
  const dport = r.chance(0.5) ? () => r.int(1, 65_535) : portOf(r);
  return {
    kind: 'udp-flood',
    target: dst,
    packet: () => head().udp({ sport: sport(), dport: dport(), checksum: 0 }).payload(payload()).bytes(),
  };
}
