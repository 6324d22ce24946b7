import { type BpfMap, UpdateFlag } from '../kernel/index.ts';
import { Entry, freezeValue, readEntry, VALUE_SIZE } from './entry.ts';
import { State } from './layout.ts';
import { NOTE_BYTES, SideNotes } from './side.ts';

const KEY_BYTES = { 4: 16, 6: 48 } as const;
const MAX_LEFTOVERS = 1_000_000;

/** An entry that an earlier process left behind in the pinned tables, and that nobody goes on with. */
export interface Orphan {
  family: 4 | 6;
  key: Uint8Array;
  pkts: number;
  ipBytes: number;
}

/** A flow of an earlier process that this one goes on with: its entry, frozen, and its note are in the new tables. */
export interface Joined {
  family: 4 | 6;
  key: Uint8Array;
  /** CLOCK_MONOTONIC seconds of the last packet that was dropped; 0: none was. */
  lastDropped: number;
}

export interface Leftovers {
  joined: Joined[];
  orphans: Orphan[];
}

export const NOTHING_LEFT: Leftovers = { joined: [], orphans: [] };

/** The tables of one gate that are about flows. */
export interface FlowTables {
  4: BpfMap | undefined;
  6: BpfMap | undefined;
  side: BpfMap | undefined;
}

/** A layout that this version reads; the tables of a gate that was pinned by halves may be missing. */
function readable(from: FlowTables, family: 4 | 6): BpfMap | undefined {
  const map = from[family];
  return map?.valueSize === VALUE_SIZE[family] && map.keySize === KEY_BYTES[family] ? map : undefined;
}

/**
 * Carries over what can be used of the tables of a dead process into new ones that no program uses yet: entries whose note
 * `usable` takes, ended so that their counts stay and every packet passes. The others are orphans, save those that held
 * nothing back yet.
 */
export function carryOver(
  from: FlowTables,
  to: Record<4 | 6 | 'side', BpfMap>,
  usable: (family: 4 | 6, key: Uint8Array, note: Uint8Array) => boolean,
): Leftovers {
  const left: Leftovers = { joined: [], orphans: [] };
  const old = from.side?.valueSize === NOTE_BYTES ? new SideNotes(from.side) : undefined;
  const fresh = new SideNotes(to.side);
  const note = new Uint8Array(NOTE_BYTES);
  const entry = new Entry();
  for (const family of [4, 6] as const) {
    const map = readable(from, family);
    if (map === undefined) continue;
    const value = new Uint8Array(map.valueBytes);
    const view = new DataView(value.buffer);
    let key: Uint8Array | undefined;
    for (let count = 0; count < MAX_LEFTOVERS; count++) {
      const next = new Uint8Array(map.keySize);
      if (!map.nextKey(key, next)) break;
      key = next;
      if (!map.get(key, value)) continue;
      readEntry(view, 0, family, true, entry);
      const held = entry.dirs[0].state !== State.armed;
      const ipBytes = entry.dirs[0].ipBytes + entry.dirs[1].ipBytes;
      if (old?.read(family, key, note) === true && usable(family, key, note)) {
        freezeValue(view, 0, family);
        if (fresh.write(family, key, note)) {
          if (to[family].trySet(key, value, UpdateFlag.noExist) === 0) {
            left.joined.push({ family, key, lastDropped: entry.last });
            continue;
          }
          fresh.remove(family, key);
        }
      }
      if (held) left.orphans.push({ family, key, pkts: entry.pkts, ipBytes });
    }
  }
  for (const { family, key } of old?.keys() ?? []) {
    if (left.joined.length >= MAX_LEFTOVERS) break;
    // Shunted before, and between two shunts when its process died.
    if (readable(from, family)?.get(key, new Uint8Array(VALUE_SIZE[family])) === true) continue;
    if (old?.read(family, key, note) !== true || !usable(family, key, note)) continue;
    if (fresh.write(family, key, note)) left.joined.push({ family, key, lastDropped: 0 });
  }
  return left;
}
