import { SluiceError } from '../base/errors.ts';
import { addon } from './addon.ts';
import { attempt } from './errors.ts';
import { addressOf, attributes, Message, macOf, messages, request, textOf, u32 } from './netlink.ts';

export interface InterfaceAddress {
  family: 4 | 6;
  address: string;
  prefix: number;
}

export interface InterfaceRoute {
  family: 4 | 6;
  /** Empty for the default route. */
  destination: string;
  prefix: number;
  gateway: string;
}

/** Totals of rtnl_link_stats64. */
export interface InterfaceCounters {
  rxPackets: number;
  txPackets: number;
  rxBytes: number;
  txBytes: number;
  rxErrors: number;
  txErrors: number;
  rxDropped: number;
  txDropped: number;
  rxMissed: number;
}

export interface InterfaceInfo {
  name: string;
  index: number;
  up: boolean;
  loopback: boolean;
  mac: string;
  mtu: number;
  /** Index of the bridge or bond that it belongs to; 0: none. */
  master: number;
  /** `veth`, `bridge`, `vxlan`, …; empty for hardware. */
  kind: string;
  /** Receive queues that there can be; `rxQueues` tells of those in use. */
  maxRxQueues: number;
  addresses: InterfaceAddress[];
  /** Unicast routes out of it, in every table, other than IPv6 link-local and multicast. */
  routes: InterfaceRoute[];
  counters: InterfaceCounters;
}

const UP = 0x1;
const LOOPBACK = 0x8;
const INET = 2;
const INET6 = 10;
const UNICAST = 1;

const Link = { address: 1, name: 3, mtu: 4, master: 10, info: 18, stats64: 23, rxQueues: 32 } as const;
const Address = { address: 1, local: 2 } as const;
const Route = { destination: 1, outInterface: 4, gateway: 5, multipath: 9 } as const;

/** The interfaces of the calling thread's network namespace, with addresses and routes. */
export function interfaces(): InterfaceInfo[] {
  const found = new Map<number, InterfaceInfo>();
  for (const { type, body } of ask(Message.getLink, 16)) {
    if (type !== Message.newLink || body.byteLength < 16) continue;
    const link = readLink(body);
    found.set(link.index, link);
  }
  for (const { type, body } of ask(Message.getAddress, 8)) {
    if (type === Message.newAddress && body.byteLength >= 8) {
      const address = readAddress(body);
      if (address !== undefined) found.get(body.getUint32(4, true))?.addresses.push(address);
    }
  }
  for (const family of [INET, INET6]) {
    for (const { type, body } of ask(Message.getRoute, 12, family)) {
      if (type === Message.newRoute && body.byteLength >= 12) addRoute(found, body);
    }
  }
  return [...found.values()];
}

/** One interface by name; undefined when there is none. */
export function findInterface(name: string): InterfaceInfo | undefined {
  return interfaces().find((link) => link.name === name);
}

/** One interface by name; INTERFACE_UNKNOWN, with the names that there are. */
export function interfaceInfo(name: string): InterfaceInfo {
  const all = interfaces();
  const link = all.find((each) => each.name === name);
  if (link !== undefined) return link;
  const names = all.map((each) => each.name).join(', ');
  throw new SluiceError('INTERFACE_UNKNOWN', `there is no interface ${name} in this network namespace`, {
    help: names === '' ? 'there is no interface at all' : `there are: ${names}`,
  });
}

/** The counters of one interface, from one dump of the links. */
export function interfaceCounters(name: string): InterfaceCounters {
  for (const { type, body } of ask(Message.getLink, 16)) {
    if (type !== Message.newLink || body.byteLength < 16) continue;
    const link = readLink(body);
    if (link.name === name) return link.counters;
  }
  throw new SluiceError('INTERFACE_UNKNOWN', `there is no interface ${name} in this network namespace`);
}

/** Whether an interface of the calling thread's namespace is up; undefined when there is none with this index. */
export function interfaceState(index: number): 'up' | 'down' | undefined {
  for (const { type, body } of ask(Message.getLink, 16)) {
    if (type !== Message.newLink || body.byteLength < 16 || body.getInt32(4, true) !== index) continue;
    return (body.getUint32(8, true) & UP) !== 0 ? 'up' : 'down';
  }
  return undefined;
}

/** Switches an interface of the calling thread's namespace on (IFF_UP). */
export function bringUp(index: number): void {
  const body = new Uint8Array(16);
  const view = new DataView(body.buffer);
  view.setInt32(4, index, true);
  view.setUint32(8, UP, true);
  view.setUint32(12, UP, true);
  attempt('netlink', `bring interface ${index} up`, () =>
    addon().netlink(request(Message.newLink, 'get', body)),
  );
}

/** Receive queues of an interface that are in use. */
export function rxQueues(name: string): number {
  const told = addon().rxQueues(name);
  // A driver that does not say has all that there are.
  return told > 0 ? told : Math.max(1, interfaceInfo(name).maxRxQueues);
}

function ask(type: number, headerBytes: number, family = 0): { type: number; body: DataView }[] {
  const body = new Uint8Array(headerBytes);
  body[0] = family;
  return messages(
    attempt('netlink', 'list the interfaces', () => addon().netlink(request(type, 'dump', body))),
  );
}

function readLink(body: DataView): InterfaceInfo {
  const flags = body.getUint32(8, true);
  const attrs = attributes(body, 16);
  const info = attrs.get(Link.info);
  return {
    name: textOf(attrs.get(Link.name)),
    index: body.getInt32(4, true),
    up: (flags & UP) !== 0,
    loopback: (flags & LOOPBACK) !== 0,
    mac: macOf(attrs.get(Link.address)),
    mtu: u32(attrs.get(Link.mtu)),
    master: u32(attrs.get(Link.master)),
    kind: info === undefined ? '' : textOf(attributes(info, 0).get(1)),
    maxRxQueues: u32(attrs.get(Link.rxQueues)),
    addresses: [],
    routes: [],
    counters: readCounters(attrs.get(Link.stats64)),
  };
}

function readCounters(stats: DataView | undefined): InterfaceCounters {
  const at = (index: number): number =>
    stats === undefined || stats.byteLength < index * 8 + 8 ? 0 : Number(stats.getBigUint64(index * 8, true));
  return {
    rxPackets: at(0),
    txPackets: at(1),
    rxBytes: at(2),
    txBytes: at(3),
    rxErrors: at(4),
    txErrors: at(5),
    rxDropped: at(6),
    txDropped: at(7),
    rxMissed: at(15),
  };
}

function familyOf(byte: number): 4 | 6 | undefined {
  if (byte === INET) return 4;
  return byte === INET6 ? 6 : undefined;
}

function readAddress(body: DataView): InterfaceAddress | undefined {
  const family = familyOf(body.getUint8(0));
  if (family === undefined) return undefined;
  const attrs = attributes(body, 8);
  // On point-to-point links `address` is the other end's.
  const address = addressOf(attrs.get(Address.local) ?? attrs.get(Address.address));
  return address === '' ? undefined : { family, address, prefix: body.getUint8(1) };
}

function addRoute(found: Map<number, InterfaceInfo>, body: DataView): void {
  const family = familyOf(body.getUint8(0));
  if (family === undefined || body.getUint8(7) !== UNICAST) return;
  const attrs = attributes(body, 12);
  const destination = attrs.get(Route.destination);
  if (family === 6 && destination !== undefined && isLocalScope(destination)) return;
  const route = {
    family,
    destination: addressOf(destination),
    prefix: body.getUint8(1),
    gateway: addressOf(attrs.get(Route.gateway)),
  };
  const out = attrs.get(Route.outInterface);
  if (out !== undefined) found.get(u32(out))?.routes.push(route);
  for (const index of multipathInterfaces(attrs.get(Route.multipath))) found.get(index)?.routes.push(route);
}

/** fe80::/10 and ff00::/8. */
function isLocalScope(destination: DataView): boolean {
  if (destination.byteLength !== 16) return false;
  const first = destination.getUint16(0, false);
  return (first & 0xffc0) === 0xfe80 || first >= 0xff00;
}

function multipathInterfaces(hops: DataView | undefined): number[] {
  const out: number[] = [];
  if (hops === undefined) return out;
  for (let at = 0; at + 8 <= hops.byteLength; ) {
    const length = hops.getUint16(at, true);
    if (length < 8) break;
    out.push(hops.getInt32(at + 4, true));
    at += (length + 3) & ~3;
  }
  return out;
}
