import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { BatchCursor, BpfMap, realtimeOffset, xdpAttachment } from '../kernel/index.ts';
import { clearDeadCaptures } from './cap-slots.ts';
import type { Place } from './control-places.ts';
import type { InterfaceRow, ShuntRow, StatusReport } from './control-protocol.ts';
import { shuntRow } from './control-row.ts';
import { type DaemonState, readState } from './daemon-state.ts';
import { Entry, readEntry, VALUE_SIZE } from './entry.ts';
import { LAYOUT_VERSION } from './layout.ts';
import { Lease } from './lease.ts';
import { readLedger } from './ledger.ts';
import { readMeta } from './pinned.ts';
import { pinPath } from './pins.ts';
import { type SLOT_MAPS, slotStatus } from './slots.ts';

const IPPROTO_TCP = 6;
const SLICE = 4096;
const KEY_SIZE = { 4: 16, 6: 48 } as const;

/** The tables of a gate through its pins, read-only: for when its daemon is dead, and for users who may only read. */
export class OfflineGate {
  readonly #place: Place;
  readonly #path: string;
  readonly #maps: Record<
    'flows4' | 'flows6' | 'ledger' | 'leases' | 'meta' | (typeof SLOT_MAPS)[number],
    BpfMap
  >;

  /** @throws SluiceError PRIVILEGE, PIN_FOREIGN, KERNEL_CALL when nothing is pinned there */
  constructor(place: Place) {
    this.#place = place;
    this.#path = pinPath(place.name);
    const opened: BpfMap[] = [];
    const open = (name: string): BpfMap => {
      const map = BpfMap.openPinned(join(this.#path, name), true);
      opened.push(map);
      return map;
    };
    try {
      this.#maps = {
        meta: open('meta'),
        flows4: open('flows4'),
        flows6: open('flows6'),
        ledger: open('ledger'),
        leases: open('leases'),
        hook: open('hook'),
        next: open('next'),
        rules: open('rules'),
        scratch: open('scratch'),
      };
      readMeta(this.#maps.meta, this.#path);
    } catch (error) {
      for (const map of opened) map.close();
      throw error;
    }
  }

  async rows(): Promise<ShuntRow[]> {
    const names = new Map((readState(this.#place)?.owners ?? []).map(({ slot, name }) => [slot, name]));
    const rows: ShuntRow[] = [];
    const offset = realtimeOffset();
    const about = { trigger: '', since: undefined, start: undefined };
    await this.#sweep((family, key, entry) => {
      const owner = entry.owner === 0 ? '' : (names.get(entry.owner) ?? `${entry.owner}`);
      const expires = entry.owner === 0 && entry.cookie > 0 ? entry.cookie : undefined;
      rows.push(shuntRow(family, key, entry, { ...about, owner, expires }, offset));
    });
    return rows;
  }

  async #sweep(each: (family: 4 | 6, key: Uint8Array, entry: Entry) => void): Promise<void> {
    const entry = new Entry();
    for (const family of [4, 6] as const) {
      const keys = new Uint8Array(SLICE * KEY_SIZE[family]);
      const values = new Uint8Array(SLICE * VALUE_SIZE[family]);
      const view = new DataView(values.buffer);
      const cursor = new BatchCursor();
      for (let done = false; !done; ) {
        const slice = await this.#maps[`flows${family}`].readBatch(cursor, keys, values, SLICE);
        for (let i = 0; i < slice.count; i++) {
          const key = keys.slice(i * KEY_SIZE[family], (i + 1) * KEY_SIZE[family]);
          const tcp = key[family === 4 ? 12 : 36] === IPPROTO_TCP;
          readEntry(view, i * VALUE_SIZE[family], family, tcp, entry);
          each(family, key, entry);
        }
        done = slice.done;
      }
    }
  }

  async status(): Promise<StatusReport> {
    this.#clearCaptures();
    const state = readState(this.#place);
    const entries = { 4: 0, 6: 0 };
    const perOwner = new Map<number, number>();
    await this.#sweep((family, _key, entry) => {
      entries[family]++;
      perOwner.set(entry.owner, (perOwner.get(entry.owner) ?? 0) + 1);
    });
    const { ledger, leases, flows4, flows6, meta } = this.#maps;
    const { reasons, ...counts } = readLedger(new Uint32Array(readArray(ledger)));
    const rows = this.#interfaces(state);
    const memory = readArray(leases);
    return {
      ...rows[0],
      interfaces: rows,
      programId: xdpAttachment(rows[0].ifindex)?.programId ?? null,
      layout: LAYOUT_VERSION,
      vlanKey: readMeta(meta, this.#path).vlanKey,
      features: null,
      daemon: { alive: false, pid: null, socket: this.#place.socket, uptime: null },
      ...counts,
      // With the daemon they end.
      sampled: { pkts: 0, bytes: 0 },
      sampleLost: { pkts: 0, bytes: 0 },
      reasons,
      tables: {
        flows4: { entries: entries[4], max: flows4.maxEntries },
        flows6: { entries: entries[6], max: flows6.maxEntries },
      },
      owners: (state?.owners ?? []).map(({ uid, ...owner }) => ({
        ...owner,
        uid: uid ?? null,
        entries: perOwner.get(owner.slot) ?? 0,
        age: null,
        lapsed: new Lease(memory, owner.slot, 0).lapsed(),
      })),
      holds: null,
      peers: null,
      eve: null,
      control: null,
      slots: slotStatus((name) => this.#maps[name]),
      steering: null,
      zeek: null,
      watch: null,
      samples: null,
      fleet: null,
      pins: Object.fromEntries(readdirSync(this.#path).map((name) => [name, join(this.#path, name)])),
    };
  }

  /** What killed captures have left, if this user may: the daemon that would look after it is dead. */
  #clearCaptures(): void {
    try {
      using hook = BpfMap.openPinned(join(this.#path, 'hook'));
      clearDeadCaptures(hook);
    } catch {
      // Only to be read.
    }
  }

  #interfaces(state: DaemonState | undefined): InterfaceRow[] {
    const { interfaces, ifindex, ifname } = this.#place;
    return (interfaces.length > 0 ? interfaces : [{ ifindex, ifname }]).map((each) => {
      const mode = xdpAttachment(each.ifindex)?.mode;
      const known = state?.interfaces.find((row) => row.ifindex === each.ifindex);
      return {
        interface: each.ifname,
        ifindex: each.ifindex,
        mode: mode ?? 'none',
        modeReason: mode === undefined ? 'nothing is attached' : (known?.modeReason ?? null),
      };
    });
  }

  close(): void {
    for (const map of Object.values(this.#maps)) map.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** All values of an array, one behind the other: a descriptor that may only read cannot be mapped. */
function readArray(map: BpfMap): ArrayBuffer {
  const all = new Uint8Array(map.valueSize * map.maxEntries);
  const key = new Uint8Array(4);
  const view = new DataView(key.buffer);
  for (let i = 0; i < map.maxEntries; i++) {
    view.setUint32(0, i, true);
    map.get(key, all.subarray(i * map.valueSize, (i + 1) * map.valueSize));
  }
  return all.buffer;
}
