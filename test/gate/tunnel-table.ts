/** Frames with a packet in tunnels: what the gate makes of them where it looks inside, and where it does not. */
import { TUNNEL_KINDS, type TunnelKind } from '../../src/base/tunnels.ts';
import type { Verdict } from '../../src/gate/layout.ts';
import type { GateTunnels } from '../../src/gate/tunnels.ts';
import { eth, PacketBuilder } from '../../src/packet/build.ts';
import { cut, NETS, type Net, PAYLOAD, type PacketRow, patched, TCP } from './packet-kinds.ts';
import { type GateKey, gateKey } from './support.ts';

const PORTS = { vxlan: [4789, 8472], geneve: [6081] };
export const ALL_TUNNELS: GateTunnels = { kinds: TUNNEL_KINDS, inKey: false, ports: PORTS };
export const KEYED_TUNNELS: GateTunnels = { ...ALL_TUNNELS, inKey: true };
/** Two sets of kinds without one: gates are opened anew for another. */
const ONLY_GRE: GateTunnels = { ...ALL_TUNNELS, kinds: ['gre'] };
const ALL_BUT_GRE: GateTunnels = { ...ALL_TUNNELS, kinds: ['vxlan', 'geneve', 'ipip'] };

/** Ends of the tunnel, by the family of the IP header outside. */
const ENDS = {
  4: { src: '172.16.0.1', dst: '172.16.0.2' },
  6: { src: '2001:db8:f::1', dst: '2001:db8:f::2' },
} as const;
const VNI = 0x01_02_03;
const SOURCE = 49_999;

export interface Wrap {
  name: string;
  kind: TunnelKind;
  /** A header of IP and of the tunnel, behind what is there; what follows is Ethernet or IP. */
  on: (begin: PacketBuilder) => PacketBuilder;
  bridged: boolean;
  /** Bytes of the tunnel's header, UDP included. */
  header: number;
}

const option = (bytes: number) => ({ class: 0x0108, type: 1, data: new Uint8Array(bytes) });
const ERSPAN = (bytes: number): Uint8Array => new Uint8Array(bytes);

/** Every form of a tunnel header that is looked behind. */
export const WRAPS: readonly Wrap[] = [
  {
    name: 'VXLAN',
    kind: 'vxlan',
    bridged: true,
    header: 16,
    on: (b) => b.udp({ sport: SOURCE }).vxlan({ vni: VNI }),
  },
  {
    name: 'VXLAN on the second port',
    kind: 'vxlan',
    bridged: true,
    header: 16,
    on: (b) => b.udp({ sport: SOURCE, dport: 8472 }).vxlan({ vni: VNI }),
  },
  {
    name: 'GENEVE around Ethernet',
    kind: 'geneve',
    bridged: true,
    header: 16,
    on: (b) => b.udp({ sport: SOURCE }).geneve({ vni: VNI }),
  },
  {
    name: 'GENEVE with options around IP',
    kind: 'geneve',
    bridged: false,
    header: 16 + 12 + 4,
    on: (b) => b.udp({ sport: SOURCE }).geneve({ vni: VNI, options: [option(8), option(0)] }),
  },
  {
    name: 'GENEVE with all the options that fit',
    kind: 'geneve',
    bridged: true,
    header: 16 + 252,
    on: (b) => b.udp({ sport: SOURCE }).geneve({ vni: VNI, options: [option(124), option(120)] }),
  },
  { name: 'GRE around IP', kind: 'gre', bridged: false, header: 4, on: (b) => b.gre() },
  { name: 'GRE around Ethernet', kind: 'gre', bridged: true, header: 4, on: (b) => b.gre() },
  {
    name: 'GRE with key, sequence and checksum',
    kind: 'gre',
    bridged: false,
    header: 16,
    on: (b) => b.gre({ key: 7, seq: 9, checksum: true }),
  },
  { name: 'GRE with a key', kind: 'gre', bridged: true, header: 8, on: (b) => b.gre({ key: 7 }) },
  { name: 'ERSPAN I', kind: 'gre', bridged: true, header: 4, on: (b) => b.gre({ protocol: 0x88be }) },
  {
    name: 'ERSPAN II',
    kind: 'gre',
    bridged: true,
    header: 8 + 8,
    on: (b) => b.gre({ protocol: 0x88be, seq: 1 }).payload(ERSPAN(8)),
  },
  {
    name: 'ERSPAN III',
    kind: 'gre',
    bridged: true,
    header: 8 + 12,
    on: (b) => b.gre({ protocol: 0x22eb, seq: 1 }).payload(ERSPAN(12)),
  },
  { name: 'IP in IP', kind: 'ipip', bridged: false, header: 0, on: (b) => b },
];

/** An IP header between the ends of the tunnel. */
export function ends(family: 4 | 6, start: PacketBuilder = eth()): PacketBuilder {
  return family === 4 ? start.ipv4(ENDS[4]) : start.ipv6(ENDS[6]);
}

/** The packet inside of these tunnels, the outermost first, each behind an IP header of its family. */
export function wrapped(
  around: readonly { wrap: Wrap; family: 4 | 6 }[],
  inner: (start: PacketBuilder) => PacketBuilder,
  start = eth(),
): PacketBuilder {
  let packet = start;
  for (const { wrap, family } of around) {
    packet = wrap.on(ends(family, packet));
    if (wrap.bridged) packet = packet.eth();
  }
  return inner(packet);
}

const FAMILIES = [4, 6] as const;

class TunnelRows {
  readonly list: PacketRow[] = [];
  readonly net: Net;
  readonly key: GateKey;

  constructor(net: Net) {
    this.net = net;
    this.key = gateKey(6, net.a, net.b);
  }

  inner(start: PacketBuilder): PacketBuilder {
    return this.net.there(start).tcp(TCP).payload(PAYLOAD);
  }

  add(
    name: string,
    packet: PacketBuilder | Uint8Array,
    verdict: Verdict,
    pair: Verdict,
    tunnels: GateTunnels | 'none' = ALL_TUNNELS,
    key = this.key,
    vlanKey = false,
  ): void {
    const ipBytes = this.net.header + 20 + PAYLOAD;
    this.list.push({
      name: `in a tunnel, IPv${this.net.family} inside: ${name}`,
      bytes: packet instanceof Uint8Array ? packet : packet.bytes(),
      key,
      vlanKey,
      verdict,
      pair,
      family: this.net.family,
      ...(tunnels === 'none' ? {} : { tunnels }),
      ...(verdict === 'shunted' ? { counted: { side: 0, ipBytes, payload: PAYLOAD } } : {}),
    });
  }
}

/** What the frame is where nobody looks inside. */
const unopened = (wrap: Wrap): Verdict =>
  wrap.kind === 'vxlan' || wrap.kind === 'geneve' ? 'passNoEntry' : 'passOther';

function formRows(rows: TunnelRows): void {
  const inner = (start: PacketBuilder): PacketBuilder => rows.inner(start);
  const kinds = new Set<TunnelKind>();
  for (const wrap of WRAPS) {
    for (const family of FAMILIES)
      rows.add(
        `${wrap.name} over IPv${family}`,
        wrapped([{ wrap, family }], inner),
        'shunted',
        'shuntedPair',
      );
    if (kinds.has(wrap.kind)) continue;
    kinds.add(wrap.kind);
    const around = [{ wrap, family: 6 }] as const;
    const packet = wrapped(around, inner);
    const { name, kind, header } = wrap;
    const tagged = wrapped(around, inner, eth().qinq(200).vlan(100));
    rows.add(`${name}, two tags outside`, tagged, 'shunted', 'shuntedPair');
    rows.add(`${name}, not looked into`, packet, unopened(wrap), unopened(wrap), 'none');
    rows.add(
      `${name}, another kind looked into`,
      packet,
      unopened(wrap),
      unopened(wrap),
      kind === 'gre' ? ALL_BUT_GRE : ONLY_GRE,
    );
    // Less frame than the IP header outside says: parsed no further.
    rows.add(
      `${name}, cut in the packet inside`,
      cut(packet, 14 + 40 + header + 30),
      'passParse',
      'passParse',
    );
  }
}

function oneKind(name: string): Wrap {
  const wrap = WRAPS.find((each) => each.name === name);
  if (wrap === undefined) throw new Error(name);
  return wrap;
}

function headerRows(rows: TunnelRows): void {
  const vxlan = oneKind('VXLAN');
  const geneve = oneKind('GENEVE around Ethernet');
  const gre = oneKind('GRE around IP');
  const inner = (start: PacketBuilder): PacketBuilder => rows.inner(start);
  const of = (wrap: Wrap): PacketBuilder => wrapped([{ wrap, family: 4 }], inner);
  const l4 = 14 + 20;
  const bad = (name: string, bytes: Uint8Array | PacketBuilder): void =>
    rows.add(name, bytes, 'passTunnel', 'passTunnel');
  bad('VXLAN without a VNI', patched(of(vxlan), l4 + 8, 0));
  bad('VXLAN header that does not fit', ends(4).udp({ dport: 4789 }).payload(7));
  bad('VXLAN with nothing inside', ends(4).udp({ dport: 4789 }).vxlan());
  bad('GENEVE of another version', patched(of(geneve), l4 + 8, 0x40));
  bad('GENEVE options that do not fit', patched(of(geneve), l4 + 8, 0x3f));
  bad('GENEVE around something else', patched(of(geneve), l4 + 10, 0x88, 0xb5));
  bad('GRE of version 1', ends(4).gre({ version: 1 }).payload(40));
  bad('GRE with routing', patched(of(gre), l4, 0x40));
  bad('GRE around something else', patched(of(gre), l4 + 2, 0x88, 0x0b));
  const whole = inner(new PacketBuilder()).bytes();
  const protocol = rows.net.family === 4 ? 4 : 41;
  const filled = (bytes: number): PacketBuilder =>
    eth()
      .ipv4({ ...ENDS[4], protocol })
      .payload(Uint8Array.of(...whole, ...new Uint8Array(bytes)));
  rows.add('IP in IP that fills it', filled(0), 'shunted', 'shuntedPair');
  bad('IP in IP that does not fill it', filled(2));
  rows.add('ARP in VXLAN', patched(of(vxlan), l4 + 16 + 12, 8, 6), 'passNotIp', 'passNotIp');
  rows.add(
    'VXLAN to another port',
    ends(4).udp({ sport: SOURCE, dport: 4790 }).payload(60),
    'passNoEntry',
    'passNoEntry',
  );
  const vlans = (start: PacketBuilder): PacketBuilder => inner(start.qinq(7).vlan(8));
  rows.add('tags inside', wrapped([{ wrap: vxlan, family: 4 }], vlans), 'shunted', 'shuntedPair');
  rows.add(
    'tags inside in the key, not those outside',
    wrapped([{ wrap: vxlan, family: 4 }], vlans, eth().vlan(9)),
    'shunted',
    'passNoEntry',
    ALL_TUNNELS,
    gateKey(6, rows.net.a, rows.net.b, 7, 8),
    true,
  );
}

function fragmentRows(rows: TunnelRows): void {
  const { net } = rows;
  const vxlan = oneKind('VXLAN');
  const inner = 17;
  const fragment = (offset: number, more: boolean): PacketBuilder =>
    net.family === 4
      ? eth().ipv4({ ...ENDS[4], protocol: inner, id: 7, fragment: { offset, more } })
      : eth().ipv6(ENDS[6]).fragment({ offset, more, id: 7, nextHeader: inner });
  const body = wrapped([{ wrap: vxlan, family: 4 }], (start) => rows.inner(start))
    .bytes()
    .slice(34);
  rows.add(
    'the first fragment of the packet outside',
    fragment(0, true).payload(body),
    'passFragment',
    'passFragment',
  );
  rows.add(
    'a later fragment of the packet outside',
    fragment(64, false).payload(body),
    'passFragment',
    'passFragment',
  );
  const fragmented = (start: PacketBuilder): PacketBuilder =>
    (net.family === 4
      ? start.ipv4({
          src: net.a.addr,
          dst: net.b.addr,
          protocol: 6,
          id: 9,
          fragment: { offset: 0, more: true },
        })
      : start
          .ipv6({ src: net.a.addr, dst: net.b.addr })
          .fragment({ offset: 0, more: true, id: 9, nextHeader: 6 })
    ).payload(48);
  rows.add(
    'a fragment inside',
    wrapped([{ wrap: vxlan, family: 4 }], fragmented),
    'passFragment',
    'shuntedPair',
  );
}

function nestedRows(rows: TunnelRows): void {
  const inner = (start: PacketBuilder): PacketBuilder => rows.inner(start);
  const names = ['VXLAN', 'GENEVE with options around IP', 'GRE around IP', 'IP in IP', 'GRE with a key'];
  for (const first of names)
    for (const second of names) {
      const around = [
        { wrap: oneKind(first), family: 4 },
        { wrap: oneKind(second), family: 6 },
      ] as const;
      rows.add(`${second} in ${first}`, wrapped(around, inner), 'shunted', 'shuntedPair');
    }
  const level = { wrap: oneKind('IP in IP'), family: 4 } as const;
  rows.add('four in one another', wrapped([level, level, level, level], inner), 'shunted', 'shuntedPair');
  rows.add(
    'five in one another',
    wrapped([level, level, level, level, level], inner),
    'passTunnel',
    'passTunnel',
  );
}

const mapped = (addr: string): string => (addr.includes(':') ? addr : `::ffff:${addr}`);

/** The key with ids, which a key of IPv4 has in the long form only. */
export function keyWithIds(net: Net, vxlan: number, geneve: number): GateKey {
  const key = gateKey(6, { ...net.a, addr: mapped(net.a.addr) }, { ...net.b, addr: mapped(net.b.addr) });
  const view = new DataView(key.bytes.buffer);
  if (vxlan >= 0) view.setUint32(40, 0x0100_0000 | vxlan, true);
  if (geneve >= 0) view.setUint32(44, 0x0100_0000 | geneve, true);
  return key;
}

function idRows(rows: TunnelRows): void {
  const { net } = rows;
  const packet = (name: string): PacketBuilder =>
    wrapped([{ wrap: oneKind(name), family: 4 }], (start) => rows.inner(start));
  const vxlan = packet('VXLAN');
  const geneve = packet('GENEVE around Ethernet');
  const both = wrapped(
    [
      { wrap: oneKind('VXLAN'), family: 4 },
      { wrap: oneKind('GENEVE around Ethernet'), family: 4 },
    ],
    (start) => rows.inner(start),
  );
  const apart = (name: string, frame: PacketBuilder, key: GateKey): void =>
    rows.add(`ids in the key: ${name}`, frame, 'passNoEntry', 'shuntedPair', KEYED_TUNNELS, key);
  const same = (name: string, frame: PacketBuilder, key: GateKey): void =>
    rows.add(`ids in the key: ${name}`, frame, 'shunted', 'shuntedPair', KEYED_TUNNELS, key);
  same('its VXLAN', vxlan, keyWithIds(net, VNI, -1));
  same('its GENEVE', geneve, keyWithIds(net, -1, VNI));
  same('GENEVE in VXLAN', both, keyWithIds(net, VNI, VNI));
  apart('another VXLAN', vxlan, keyWithIds(net, VNI + 1, -1));
  apart('the same number of GENEVE', vxlan, keyWithIds(net, -1, VNI));
  apart('the same number of VXLAN', geneve, keyWithIds(net, VNI, -1));
  apart('no tunnel', vxlan, rows.key);
  same('GRE has none', packet('GRE around IP'), rows.key);
}

export const TUNNEL_TABLE: readonly PacketRow[] = NETS.flatMap((net) => {
  const rows = new TunnelRows(net);
  formRows(rows);
  headerRows(rows);
  fragmentRows(rows);
  nestedRows(rows);
  idRows(rows);
  return rows.list;
});
