import { eth, ipv4, ipv6, type PacketBuilder, pattern } from '../src/packet/build.ts';

/** Small, fast and the same every time (mulberry32). */
export function randomOf(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

export interface Ends {
  family: 4 | 6;
  /** Addresses as text, and ports, of the client and the server. */
  client: [string, number];
  server: [string, number];
  protocol: 'tcp' | 'udp';
}

export function randomEnds(random: (below: number) => number): Ends {
  const family = random(3) === 0 ? 6 : 4;
  const host = (): string =>
    family === 4
      ? `10.${random(256)}.${random(256)}.${1 + random(254)}`
      : `2001:db8::${random(65_536).toString(16)}:${(1 + random(65_535)).toString(16)}`;
  const client = host();
  return {
    family,
    client: [client, 1024 + random(60_000)],
    // Now and then a host talks to itself.
    server: [random(20) === 0 ? client : host(), 1 + random(1023)],
    protocol: random(2) === 0 ? 'tcp' : 'udp',
  };
}

export const back = (ends: Ends): Ends => ({ ...ends, client: ends.server, server: ends.client });

/** A packet of a flow behind what has been built so far. */
export function packetOf(before: PacketBuilder, { family, client, server, protocol }: Ends, bytes = 20) {
  const addresses = { src: client[0], dst: server[0] };
  const ip = family === 4 ? before.ipv4(addresses) : before.ipv6(addresses);
  const ports = { sport: client[1], dport: server[1] };
  return (protocol === 'tcp' ? ip.tcp({ ...ports, flags: 'A' }) : ip.udp(ports)).payload(bytes);
}

/** A UDP datagram of a flow in fragments, of which the first has so many bytes. */
export function fragmentsOf(
  before: PacketBuilder,
  { family, client, server }: Ends,
  id: number,
  bytes: number,
): Uint8Array[] {
  const addresses = { src: client[0], dst: server[0] };
  const ip = family === 4 ? ipv4(addresses) : ipv6(addresses);
  const whole = ip.udp({ sport: client[1], dport: server[1] }).payload(pattern(bytes)).bytes();
  const datagram = whole.subarray(family === 4 ? 20 : 40);
  const frames: Uint8Array[] = [];
  const part = 512;
  for (let offset = 0; offset < datagram.length; offset += part) {
    const fragment = { offset, more: offset + part < datagram.length };
    const data = datagram.slice(offset, offset + part);
    frames.push(
      (family === 4
        ? before.ipv4({ ...addresses, id: id & 0xffff, fragment, protocol: 17 })
        : before.ipv6(addresses).fragment({ id, ...fragment, nextHeader: 17 })
      )
        .payload(data)
        .bytes(),
    );
  }
  return frames;
}

const NUMBER_AT = 8;

/** Ethernet whose source address carries a number. */
export function numbered(flow: number): PacketBuilder {
  const hex = flow.toString(16).padStart(8, '0');
  return eth({ src: `02:01:${(hex.match(/../g) ?? []).join(':')}` });
}

/** The number that the source address of a frame carries. */
export function numberOf(u8: Uint8Array, offset: number): number {
  const at = offset + NUMBER_AT;
  return u8[at] * 2 ** 24 + (u8[at + 1] << 16) + (u8[at + 2] << 8) + u8[at + 3];
}

/** What may be around a packet: by name, with the VLAN ids that count. */
export const WRAPPERS: readonly {
  name: string;
  vlans: readonly number[];
  wrap: (b: PacketBuilder) => PacketBuilder;
}[] = [
  { name: 'plain', vlans: [], wrap: (b) => b },
  { name: 'VLAN', vlans: [7], wrap: (b) => b.vlan(7) },
  { name: 'priority tag', vlans: [], wrap: (b) => b.vlan(0, { prio: 5 }) },
  { name: 'QinQ', vlans: [100, 7], wrap: (b) => b.qinq(100).vlan(7) },
  { name: 'three tags', vlans: [100, 7], wrap: (b) => b.qinq(100).vlan(7).vlan(8) },
  { name: 'MPLS', vlans: [], wrap: (b) => b.mpls(16).mpls(17) },
  { name: 'PPPoE', vlans: [], wrap: (b) => b.pppoe() },
  { name: 'VLAN and PPPoE', vlans: [7], wrap: (b) => b.vlan(7).pppoe() },
];

const GTPU = Uint8Array.of(0x34, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0x85, 1, 0x10, 0, 0);
const option = { class: 0x0108, type: 1, data: new Uint8Array(8) };
/** Another outer flow for each way, as tunnels choose their source port by the inner flow. */
const outer = (b: PacketBuilder, there: boolean): PacketBuilder =>
  there ? b.ipv4({ src: '192.0.2.1', dst: '192.0.2.2' }) : b.ipv4({ src: '192.0.2.2', dst: '192.0.2.1' });
const outer6 = (b: PacketBuilder, there: boolean): PacketBuilder =>
  there
    ? b.ipv6({ src: '2001:db8:f::1', dst: '2001:db8:f::2' })
    : b.ipv6({ src: '2001:db8:f::2', dst: '2001:db8:f::1' });
const sport = (there: boolean, flow = 0): number => (there ? 50_001 : 61_234) + flow;

export const TUNNELS: readonly {
  name: string;
  enter: (b: PacketBuilder, there: boolean, flow?: number) => PacketBuilder;
}[] = [
  {
    name: 'VXLAN',
    enter: (b, there, flow) =>
      outer(b, there)
        .udp({ sport: sport(there, flow) })
        .vxlan({ vni: 5 })
        .eth(),
  },
  {
    name: 'VXLAN over IPv6, tagged inside',
    enter: (b, there, flow) =>
      outer6(b, there)
        .udp({ sport: sport(there, flow) })
        .vxlan({ vni: 5 })
        .eth()
        .vlan(9),
  },
  {
    name: 'GENEVE with options',
    enter: (b, there, flow) =>
      outer(b, there)
        .udp({ sport: sport(there, flow) })
        .geneve({ vni: 5, options: [option] })
        .eth(),
  },
  {
    name: 'GENEVE around IP',
    enter: (b, there, flow) =>
      outer(b, there)
        .udp({ sport: sport(there, flow) })
        .geneve({ vni: 5 }),
  },
  {
    name: 'VXLAN in GENEVE',
    enter: (b, there, flow) =>
      outer6(
        outer(b, there)
          .udp({ sport: sport(there, flow) })
          .geneve({ vni: 5 }),
        there,
      )
        .udp({ sport: sport(there, flow) })
        .vxlan({ vni: 6 })
        .eth(),
  },
  { name: 'GRE', enter: (b, there) => outer(b, there).gre() },
  {
    name: 'GRE with key and sequence',
    enter: (b, there) => outer(b, there).gre({ key: 1, seq: 2, checksum: true }),
  },
  { name: 'GRE around Ethernet', enter: (b, there) => outer(b, there).gre({ key: 1 }).eth() },
  {
    name: 'ERSPAN II',
    enter: (b, there) => outer(b, there).gre({ seq: 3, protocol: 0x88be }).payload(new Uint8Array(8)).eth(),
  },
  {
    name: 'ERSPAN III',
    enter: (b, there) => outer(b, there).gre({ seq: 3, protocol: 0x22eb }).payload(new Uint8Array(12)).eth(),
  },
  { name: 'IP in IP', enter: (b, there) => outer(b, there) },
  { name: 'IP in IPv6', enter: (b, there) => outer6(b, there) },
  {
    name: 'GTP-U',
    enter: (b, there, flow) =>
      outer(b, there)
        .udp({ sport: sport(there, flow), dport: 2152 })
        .payload(GTPU),
  },
];
