import { existsSync, readdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { type BpfObject, ensureBpffs, loadObject } from '../src/kernel/index.ts';
import { ipBytes } from '../src/packet/address.ts';

/** All features; passes what is not listed. */
const OBJECT = 'xdpfilt_alw_all.o';
/** What the object asks libbpf to pin by name. */
const PINS = ['filter_ports', 'filter_ipv4', 'filter_ipv6', 'filter_ethernet', 'xdp_stats_map'];
/** Its flag for a destination address. */
const DESTINATION = 2;

/** Where Debian's xdp-tools keeps its objects: /usr/lib/ARCHITECTURE/bpf. */
function installed(): string | undefined {
  const places = ['/usr/lib', '/usr/lib64'].filter((place) => existsSync(place));
  const inner = places.flatMap((place) => readdirSync(place).map((name) => join(place, name)));
  return [...places, ...inner].map((place) => join(place, 'bpf', OBJECT)).find((path) => existsSync(path));
}

/**
 * xdp-filter of xdp-tools with `address` (IPv4) listed as a destination to drop, among `entries` others. `path` instead
 * of where Debian installs it. Not loaded, with a note, when it is not there.
 */
export function loadXdpFilter(
  path: string | undefined,
  address: string,
  entries: number,
): { object?: BpfObject; note?: string } {
  const found = path ?? installed();
  if (found === undefined)
    return { note: 'xdp-filter (Debian package xdp-tools) is not installed: not measured' };
  const pins = PINS.map((name) => join(ensureBpffs(), name));
  const taken = pins.find((pin) => existsSync(pin));
  // It would share somebody's tables.
  if (taken !== undefined) return { note: `xdp-filter: ${taken} is in use: not measured` };
  let object: BpfObject;
  try {
    object = loadObject(found);
  } finally {
    for (const pin of pins) if (existsSync(pin)) unlinkSync(pin);
  }
  const map = object.map('filter_ipv4');
  const value = new Uint8Array(map.valueBytes);
  for (let at = 0; at < value.length; at += 8) value[at] = DESTINATION;
  const key = new Uint8Array(4);
  for (let i = 0; i < entries; i++) {
    new DataView(key.buffer).setUint32(0, 0x14000000 + i);
    map.set(key, value);
  }
  map.set(ipBytes(address) ?? key, value);
  return { object };
}
