/** Attacks as known tools and services make them, with what a seed leaves open: another generator than attack-traffic.ts, of other habits. */
import { eth, type PacketBuilder } from '../src/packet/build.ts';
import { type Attacking, attackOf, dnsQuery, linuxOptions, type Packets, Random } from './attack-traffic.ts';

const MACS = { src: '02:00:00:00:00:0a', dst: '02:00:00:00:00:0b' };
const text = (value: string): Uint8Array => new TextEncoder().encode(value);

interface Host {
  readonly address: string;
  /** As it arrives. */
  readonly ttl: number;
}

type Make = (
  r: Random,
  target: string,
) => {
  readonly kind: string;
  /** Unless it is the target: of queries the name. */
  readonly name?: string;
  readonly packet: Packets;
};

const address = (r: Random): string =>
  `${r.pick([r.int(1, 9), r.int(11, 126), r.int(128, 223)])}.${r.int(0, 255)}.${r.int(0, 255)}.${r.int(1, 254)}`;

/** Hosts of one system: devices and servers with 64, Windows with 128. */
const hosts = (r: Random, count: number, ttl: () => number): Host[] =>
  Array.from({ length: count }, () => ({ address: address(r), ttl: ttl() - r.int(5, 24) }));

/** Ports one after the other, at the pace of one sender of several or of the only one. */
function counting(r: Random): (at: number) => number {
  const begin = r.int(0, 64_511);
  const pace = r.pick([300, 3000, 20_000]);
  return (at) => 1024 + ((begin + Math.floor(at * pace)) % 64_512);
}

/** hping3 --flood --rand-source: one machine, so one TTL; ports that count up; window 512. */
function hping(kind: string, flags: string): Make {
  return (r, target) => {
    const ttl = 64 - r.int(4, 20);
    const dport = r.pick([80, 443, 22, 53, r.int(1, 65_535)]);
    const port = counting(r);
    return {
      kind,
      packet: (at) => {
        const sport = port(at);
        return eth(MACS)
          .ipv4({ src: address(r), dst: target, ttl, id: r.int(0, 65_535) })
          .tcp({ sport, dport, flags, seq: r.int(0, 2 ** 32 - 1), ack: r.int(0, 2 ** 32 - 1), window: 512 })
          .bytes();
      },
    };
  };
}

/** hping3 --udp or --icmp: a payload of X. */
function hpingData(kind: 'udp-flood' | 'icmp-flood'): Make {
  return (r, target) => {
    const ttl = 64 - r.int(4, 20);
    const dport = r.pick([0, 53, 80, 443]);
    const payload = new Uint8Array(r.pick([0, 64, 120, 512, 1400])).fill(0x58);
    const port = counting(r);
    return {
      kind,
      packet: (at) => {
        const sport = port(at);
        const head = eth(MACS).ipv4({ src: address(r), dst: target, ttl, id: r.int(0, 65_535) });
        const data =
          kind === 'udp-flood' ? head.udp({ sport, dport }) : head.icmp({ id: 0x1234, seq: sport & 0xff });
        return data.payload(payload).bytes();
      },
    };
  };
}

/** Bots on devices (Mirai's source as published): their own addresses, everything of a packet by chance that can be. */
function mirai(kind: string, make: (r: Random, from: PacketBuilder) => PacketBuilder): Make {
  return (r, target) => {
    const bots = hosts(r, r.int(100, 4000), () => 64);
    return {
      kind,
      packet: () => {
        const bot = r.pick(bots);
        return make(
          r,
          eth(MACS).ipv4({ src: bot.address, dst: target, ttl: bot.ttl, id: r.int(0, 65_535) }),
        ).bytes();
      },
    };
  };
}

const miraiSyn = mirai('syn-flood', (r, from) => {
  const options = linuxOptions(r);
  options.set([5, 0x78 + r.int(0, 15)], 2);
  options[options.length - 1] = 6;
  return from.tcp({
    sport: r.int(1, 65_535),
    dport: r.int(1, 65_535),
    flags: 'S',
    seq: r.int(0, 2 ** 32 - 1),
    window: r.int(0, 65_535),
    options: [{ raw: options }],
  });
});
const miraiAck = mirai('ack-flood', (r, from) =>
  from
    .tcp({
      sport: r.int(1, 65_535),
      dport: r.int(1, 65_535),
      flags: 'A',
      seq: r.int(0, 2 ** 32 - 1),
      ack: r.int(0, 2 ** 32 - 1),
      window: r.int(0, 65_535),
    })
    .payload(r.bytes(512)),
);
/** Ports below 1024 and those of reflectors would be other kinds. */
const miraiUdp = mirai('udp-flood', (r, from) =>
  from.udp({ sport: r.int(40_000, 65_535), dport: r.int(1, 65_535) }).payload(r.bytes(512)),
);
const miraiVse = mirai('udp-flood', (r, from) =>
  from
    .udp({ sport: r.int(40_000, 65_535), dport: 27_015 })
    .payload(Uint8Array.of(0xff, 0xff, 0xff, 0xff, ...text('TSource Engine Query'), 0)),
);
const miraiGre = mirai('gre-flood', (r, from) =>
  from
    .gre({ protocol: 0x0800 })
    .ipv4({ src: address(r), dst: address(r), ttl: 64, id: r.int(0, 65_535) })
    .udp({ sport: r.int(1, 65_535), dport: r.int(1, 65_535) })
    .payload(r.bytes(512)),
);

/** Mirai's DNS: twelve random letters before a name, by way of resolvers at random. */
const miraiDns: Make = (r) => {
  const name = `site${r.int(100, 9999)}.${r.pick(['com', 'net', 'org'])}`;
  const resolvers = hosts(r, r.int(50, 500), () => r.pick([64, 255]));
  const labels = name.split('.').flatMap((part) => [part.length, ...text(part)]);
  const server = `203.0.113.${r.int(1, 254)}`;
  return {
    kind: 'dns-water-torture',
    name,
    packet: () => {
      const { address: src, ttl } = r.pick(resolvers);
      const label = Array.from({ length: 12 }, () => r.int(97, 122));
      return eth(MACS)
        .ipv4({ src, dst: server, ttl, id: r.int(0, 65_535) })
        .udp({ sport: r.int(1024, 65_535), dport: 53 })
        .payload(dnsQuery(r, [12, ...label, ...labels]))
        .bytes();
    },
  };
};

/** LOIC: some people's Windows machines, connected sockets, a message. */
const loic: Make = (r, target) => {
  const users = hosts(r, r.int(12, 200), () => 128).map((host) => ({
    ...host,
    sport: r.int(49_152, 65_535),
  }));
  const message = text(r.pick(['A cat is fine too. Desudesudesu~', 'U dun goofed', 'test']));
  const dport = r.pick([80, 443, 53, 6667]);
  let id = 0;
  return {
    kind: 'udp-flood',
    packet: () => {
      const { address: src, ttl, sport } = r.pick(users);
      id = (id + 1) & 0xffff;
      return eth(MACS).ipv4({ src, dst: target, ttl, id }).udp({ sport, dport }).payload(message).bytes();
    },
  };
};

/** A service for hire: open servers that answer a made-up question, each as its system does. */
function booter(name: string, port: number, answer: (r: Random) => () => Uint8Array): Make {
  return (r, target) => {
    const servers = hosts(r, r.int(100, 5000), () => r.pick([64, 64, 128, 255]));
    const dport = r.chance(0.5) ? r.pick([80, 443]) : r.int(1024, 65_535);
    const made = answer(r);
    return {
      kind: `${name}-amplification`,
      packet: () => {
        const { address: src, ttl } = r.pick(servers);
        return eth(MACS)
          .ipv4({ src, dst: target, ttl, id: r.int(0, 65_535), dontFragment: r.chance(0.5) })
          .udp({ sport: port, dport })
          .payload(made())
          .bytes();
      },
    };
  };
}

const sized = (bytes: Uint8Array, length: number): Uint8Array => {
  const all = new Uint8Array(length);
  all.set(bytes.subarray(0, length));
  return all;
};
/** ANY of one name, with as many records as the server has. */
const dnsAnswer = (r: Random) => {
  const question = dnsQuery(r, [4, ...text(r.pick(['isc1', 'doj2', 'cpsc'])), 3, ...text('gov'), 0, 0, 255]);
  return () => {
    const bytes = sized(Uint8Array.of(...question, ...r.bytes(64)), r.int(900, 1452));
    bytes.set([r.int(0, 255), r.int(0, 255), 0x81, 0x80]);
    bytes[7] = r.int(10, 28);
    return bytes;
  };
};
/** monlist: six entries of 72 bytes. */
const ntpAnswer = (r: Random) => () =>
  sized(Uint8Array.of(0xd7, r.int(0, 99), 3, 0x2a, 0, 6, 0, 0x48, ...r.bytes(64)), 440);
const memcachedAnswer = (r: Random) => {
  const parts = r.int(5, 700);
  return () =>
    sized(
      Uint8Array.of(0, 0, 0, r.int(0, 255), parts >> 8, parts & 255, 0, 0, ...r.bytes(64)),
      r.chance(0.98) ? 1400 : r.int(100, 1400),
    );
};
const ssdpAnswer = (r: Random) => () =>
  text(
    `HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=${r.pick([100, 120, 1800])}\r\nST: ${r.pick(['upnp:rootdevice', 'uuid:4d696e69-444c-164e-9d41', 'urn:schemas-upnp-org:service:Layer3Forwarding:1'])}\r\nSERVER: Linux/${r.int(2, 3)}.${r.int(0, 20)} UPnP/1.0\r\n\r\n`,
  );
const cldapAnswer = (r: Random) => () =>
  sized(
    Uint8Array.of(0x30, 0x84, 0, 0, r.int(4, 11), r.int(0, 255), 2, 1, 7, 0x64, ...r.bytes(64)),
    r.int(1200, 1472),
  );
const snmpAnswer = (r: Random) => () =>
  sized(
    Uint8Array.of(
      0x30,
      0x82,
      r.int(1, 5),
      r.int(0, 255),
      2,
      1,
      1,
      4,
      6,
      ...text('public'),
      0xa2,
      ...r.bytes(48),
    ),
    r.int(400, 1450),
  );
const chargenAnswer = (r: Random) => () => {
  const begin = r.int(0, 94);
  return Uint8Array.from({ length: r.pick([74, 148, 512, 1022]) }, (_, at) => 0x20 + ((begin + at) % 95));
};

/** Servers that answer SYNs in the target's name: their own options, ports of services, and each of its system. */
const synAcks: Make = (r, target) => {
  const servers = hosts(r, r.int(200, 5000), () => r.pick([64, 64, 128]));
  const dport = r.chance(0.5) ? r.pick([80, 443]) : undefined;
  return {
    kind: 'syn-ack-flood',
    packet: () => {
      const { address: src, ttl } = r.pick(servers);
      return eth(MACS)
        .ipv4({ src, dst: target, ttl, id: 0, dontFragment: true })
        .tcp({
          sport: r.pick([21, 22, 80, 443]),
          dport: dport ?? r.int(1024, 65_535),
          flags: 'SA',
          seq: r.int(0, 2 ** 32 - 1),
          ack: r.int(0, 2 ** 32 - 1),
          window: r.pick([14_600, 29_200, 65_535, 8192]),
          options: [{ raw: Uint8Array.of(2, 4, 5, 0xb4) }],
        })
        .bytes();
    },
  };
};

const MAKES: Readonly<Record<string, Make>> = {
  'hping3-syn': hping('syn-flood', 'S'),
  'hping3-syn-ack': hping('syn-ack-flood', 'SA'),
  'hping3-ack': hping('ack-flood', 'A'),
  'hping3-rst': hping('rst-flood', 'R'),
  'hping3-udp': hpingData('udp-flood'),
  'hping3-icmp': hpingData('icmp-flood'),
  'mirai-syn': miraiSyn,
  'mirai-ack': miraiAck,
  'mirai-udp': miraiUdp,
  'mirai-vse': miraiVse,
  'mirai-gre': miraiGre,
  'mirai-dns': miraiDns,
  'loic-udp': loic,
  'booter-dns': booter('dns', 53, dnsAnswer),
  'booter-ntp': booter('ntp', 123, ntpAnswer),
  'booter-memcached': booter('memcached', 11_211, memcachedAnswer),
  'booter-ssdp': booter('ssdp', 1900, ssdpAnswer),
  'booter-cldap': booter('cldap', 389, cldapAnswer),
  'booter-snmp': booter('snmp', 161, snmpAnswer),
  'booter-chargen': booter('chargen', 19, chargenAnswer),
  'syn-ack-reflection': synAcks,
};

/** Tools that attacks are made after. */
export const TOOLS: readonly string[] = Object.keys(MAKES);

/** An attack of a kind (ATTACK_KINDS), or as a tool makes it (TOOLS); what that leaves open is of the seed. */
export function madeAttack(what: string, seed: number, target: string): Attacking {
  const make = MAKES[what];
  if (make === undefined) return attackOf(what, seed, target);
  const { kind, name = target, packet } = make(new Random(seed), target);
  return { kind, target: name, packet };
}
