import { randomBytes } from 'node:crypto';
import { SluiceError } from '../base/errors.ts';
import { BpfLink, BpfMap, bootId, netnsInode } from '../kernel/index.ts';
import { Entry, readEntry, VALUE_SIZE } from './entry.ts';
import { SlMeta } from './layout.gen.ts';
import { LAYOUT_VERSION, State } from './layout.ts';
import type { PinDirectory } from './pins.ts';

/** Under which the link of a gate that outlives its process is pinned. */
export const LINK_PIN = 'link';
/** Bits of sl_meta.flags. */
const FLAG_VLAN_KEY = 1;
const MAX_ORPHANS = 100_000;
const M = SlMeta.members;

/** An entry that an earlier process left behind in the pinned tables. */
export interface Orphan {
  family: 4 | 6;
  key: Uint8Array;
  pkts: number;
  ipBytes: number;
}

/** What identifies a gate in its `meta` map. */
export interface Meta {
  layout: number;
  vlanKey: boolean;
  netns: number;
  ifindex: number;
}

export function writeMeta(map: BpfMap, ifindex: number, vlanKey: boolean): void {
  const value = new Uint8Array(SlMeta.size);
  const view = new DataView(value.buffer);
  view.setUint32(M.layout, LAYOUT_VERSION, true);
  view.setUint32(M.flags, vlanKey ? FLAG_VLAN_KEY : 0, true);
  value.set(randomBytes(8), M.instance);
  value.set(Buffer.from(bootId().replaceAll('-', ''), 'hex').subarray(0, 16), M.boot_id);
  view.setUint32(M.pid, process.pid, true);
  view.setUint32(M.netns, netnsInode() >>> 0, true);
  view.setUint32(M.ifindex, ifindex, true);
  map.set(new Uint8Array(4), value);
}

/** @throws SluiceError PIN_FOREIGN when the map is not a meta map of this layout */
export function readMeta(map: BpfMap, path: string): Meta {
  const value = new Uint8Array(Math.max(map.valueBytes, SlMeta.size));
  const view = new DataView(value.buffer);
  if (
    map.keySize !== 4 ||
    map.valueSize !== SlMeta.size ||
    !map.get(new Uint8Array(4), value) ||
    view.getUint32(M.layout, true) !== LAYOUT_VERSION
  ) {
    throw new SluiceError(
      'PIN_FOREIGN',
      `what is pinned under ${path} is not of layout ${LAYOUT_VERSION} of Sluice`,
      {
        help: 'it is left alone: remove it by hand once nothing uses it',
      },
    );
  }
  return {
    layout: LAYOUT_VERSION,
    vlanKey: (view.getUint32(M.flags, true) & FLAG_VLAN_KEY) !== 0,
    netns: view.getUint32(M.netns, true),
    ifindex: view.getUint32(M.ifindex, true),
  };
}

/** Maps, and the link if it was kept, that an earlier process has pinned. */
export class Found {
  readonly maps = new Map<string, BpfMap>();
  readonly link: BpfLink | undefined;
  readonly meta: Meta | undefined;

  /** @throws SluiceError PIN_FOREIGN */
  constructor(pins: PinDirectory, ifindex: number) {
    try {
      const names = pins.names();
      for (const name of names) {
        const map = name === LINK_PIN || name.startsWith('sluice_') ? undefined : openMap(pins.at(name));
        if (map !== undefined) this.maps.set(name, map);
      }
      if (names.includes(LINK_PIN)) {
        const link = BpfLink.openPinned(pins.at(LINK_PIN));
        // 0 once the interface has gone; its index may have been given to another one since.
        if (link.info().ifindex === ifindex) this.link = link;
        else link.close();
      }
      const meta = this.maps.get('meta');
      if (meta !== undefined) this.meta = readMeta(meta, pins.path);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Whether the tables can go on under a gate with these sizes and this key. */
  fits(sizes: Readonly<Record<string, number>>, vlanKey: boolean): boolean {
    return (
      this.meta?.vlanKey === vlanKey &&
      Object.entries(sizes).every(([name, size]) => this.maps.get(name)?.maxEntries === size)
    );
  }

  /** Entries that still held something back when their process died. */
  orphans(): Orphan[] {
    const found: Orphan[] = [];
    const entry = new Entry();
    for (const family of [4, 6] as const) {
      const map = this.maps.get(`flows${family}`);
      if (map?.valueSize !== VALUE_SIZE[family]) continue;
      const value = new Uint8Array(map.valueBytes);
      const view = new DataView(value.buffer);
      let key: Uint8Array | undefined;
      for (;;) {
        const next = new Uint8Array(map.keySize);
        if (found.length >= MAX_ORPHANS || !map.nextKey(key, next)) break;
        key = next;
        if (!map.get(key, value)) continue;
        readEntry(view, 0, family, true, entry);
        if (entry.dirs[0].state === State.armed) continue;
        const ipBytes = entry.dirs[0].ipBytes + entry.dirs[1].ipBytes;
        found.push({ family, key, pkts: entry.pkts, ipBytes });
      }
    }
    return found;
  }

  /** Lets go of the descriptors; what is pinned or attached stays. */
  close(): void {
    for (const map of this.maps.values()) map.close();
    this.maps.clear();
    this.link?.close();
  }
}

function openMap(path: string): BpfMap | undefined {
  try {
    return BpfMap.openPinned(path);
  } catch {
    // Something else than a map.
    return undefined;
  }
}
