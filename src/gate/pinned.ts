import { randomBytes } from 'node:crypto';
import { SluiceError } from '../base/errors.ts';
import { BpfLink, BpfMap, BpfProgram, bootId, netnsInode } from '../kernel/index.ts';
import { isComponentOn } from './components.ts';
import { SlMeta } from './layout.gen.ts';
import { LAYOUT_VERSION } from './layout.ts';
import type { FlowTables } from './leftovers.ts';
import { COMPONENT_PINS, isPrivatePin, seatOf } from './pin-names.ts';
import { FRESH, type PinDirectory } from './pins.ts';

/** Bits of sl_meta.flags. */
const FLAG_VLAN_KEY = 1;
const FLAG_NOTES = 2;
const FLAG_TUNNEL_KEY = 4;
const M = SlMeta.members;

/** What is in the keys beside addresses, protocol and ports. */
export interface Keyed {
  vlanKey: boolean;
  tunnelKey: boolean;
}

/** What identifies a gate in its `meta` map. */
export interface Meta {
  layout: number;
  vlanKey: boolean;
  tunnelKey: boolean;
  /** Its program leaves notes for captures. */
  notes: boolean;
  netns: number;
  ifindex: number;
  /** Hex digits. */
  bootId: string;
}

function currentBoot(): string {
  return bootId().replaceAll('-', '');
}

export function writeMeta(map: BpfMap, ifindex: number, { vlanKey, tunnelKey }: Keyed): void {
  const value = new Uint8Array(SlMeta.size);
  const view = new DataView(value.buffer);
  view.setUint32(M.layout, LAYOUT_VERSION, true);
  view.setUint32(M.flags, (vlanKey ? FLAG_VLAN_KEY : 0) | (tunnelKey ? FLAG_TUNNEL_KEY : 0), true);
  value.set(randomBytes(8), M.instance);
  value.set(Buffer.from(currentBoot(), 'hex').subarray(0, 16), M.boot_id);
  view.setUint32(M.pid, process.pid, true);
  view.setUint32(M.netns, netnsInode() >>> 0, true);
  view.setUint32(M.ifindex, ifindex, true);
  map.set(new Uint8Array(4), value);
}

/** Says whether the gate leaves notes for captures. */
export function noteMeta(map: BpfMap, notes: boolean): void {
  const value = new Uint8Array(map.valueBytes);
  map.get(new Uint8Array(4), value);
  const view = new DataView(value.buffer);
  const flags = view.getUint32(M.flags, true) & ~FLAG_NOTES;
  view.setUint32(M.flags, notes ? flags | FLAG_NOTES : flags, true);
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
    tunnelKey: (view.getUint32(M.flags, true) & FLAG_TUNNEL_KEY) !== 0,
    notes: (view.getUint32(M.flags, true) & FLAG_NOTES) !== 0,
    netns: view.getUint32(M.netns, true),
    ifindex: view.getUint32(M.ifindex, true),
    bootId: Buffer.from(value.buffer, M.boot_id, 16).toString('hex'),
  };
}

/** Maps, and the link if it was kept, that an earlier process has pinned. */
export class Found {
  readonly maps = new Map<string, BpfMap>();
  /** By the interface that each is attached to. */
  readonly links = new Map<number, BpfLink>();
  /** The same of components of libxdp's dispatchers, and what they go on by. */
  readonly programs = new Map<number, BpfProgram>();
  readonly entry: BpfMap | undefined;
  readonly meta: Meta | undefined;

  /** @throws SluiceError PIN_FOREIGN */
  constructor(pins: PinDirectory, home: number) {
    try {
      const names = pins.names();
      for (const name of names) {
        const map =
          isPrivatePin(name) || name.startsWith('sluice_') || name.endsWith(FRESH)
            ? undefined
            : openMap(pins.at(name));
        if (map !== undefined) this.maps.set(name, map);
      }
      for (const name of names) {
        const seat = seatOf(name, home);
        if (seat?.kind === 'link') this.#openLink(seat.ifindex, pins.at(name));
        else if (seat !== undefined) this.#openComponent(seat.ifindex, pins.at(name));
      }
      if (names.includes(COMPONENT_PINS.entry)) this.entry = openMap(pins.at(COMPONENT_PINS.entry));
      const meta = this.maps.get('meta');
      if (meta !== undefined) this.meta = readMeta(meta, pins.path);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  #openLink(ifindex: number, path: string): void {
    const link = BpfLink.openPinned(path);
    // 0 once the interface has gone; its index may have been given to another one since.
    if (link.info().ifindex === ifindex) this.links.set(ifindex, link);
    else link.close();
  }

  #openComponent(ifindex: number, path: string): void {
    const program = BpfProgram.openPinned(path);
    // Whoever may call libxdp may have taken it off.
    if (isComponentOn(ifindex, program.id)) this.programs.set(ifindex, program);
    else program.close();
  }

  /** The interfaces that it is still attached to. */
  get attached(): number[] {
    return [...this.links.keys(), ...this.programs.keys()];
  }

  /** Whether the tables can go on under a gate with these sizes and this key. */
  fits(sizes: Readonly<Record<string, number>>, keyed: Keyed): boolean {
    return (
      this.#keyedAs(keyed) &&
      Object.entries(sizes).every(([name, size]) =>
        // Notes have room for as many as the tables had at first, whatever size those have got since.
        name === 'side' ? this.maps.has(name) : this.maps.get(name)?.maxEntries === size,
      )
    );
  }

  tables(): FlowTables {
    return { 4: this.maps.get('flows4'), 6: this.maps.get('flows6'), side: this.maps.get('side') };
  }

  /** Whether flows can go on under new tables with this key: those of this boot, whose keys mean the same. */
  joins(keyed: Keyed): boolean {
    return this.#keyedAs(keyed) && this.meta?.bootId === currentBoot();
  }

  #keyedAs({ vlanKey, tunnelKey }: Keyed): boolean {
    return this.meta?.vlanKey === vlanKey && this.meta.tunnelKey === tunnelKey;
  }

  /** Lets go of the descriptors; what is pinned or attached stays. */
  close(): void {
    for (const map of this.maps.values()) map.close();
    this.maps.clear();
    for (const link of this.links.values()) link.close();
    this.links.clear();
    for (const program of this.programs.values()) program.close();
    this.programs.clear();
    this.entry?.close();
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
