import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { SluiceError } from '../base/errors.ts';
import {
  attachXdp,
  type BpfLink,
  BpfMap,
  type BpfObject,
  type BpfProgram,
  bootId,
  loadObject,
  netnsInode,
  packageRoot,
  possibleCpus,
  programInfo,
  xdpAttachment,
} from '../kernel/index.ts';
import { Entry, readEntry, VALUE_SIZE } from './entry.ts';
import { SlMeta } from './layout.gen.ts';
import { LAYOUT_VERSION, OWNERS, State } from './layout.ts';
import { type Ledger, readLedger } from './ledger.ts';
import type { GateHandles } from './ops.ts';
import { PinDirectory } from './pins.ts';

export type AttachMode = 'native' | 'generic' | 'offload';

export interface GateOptions {
  ifname: string;
  ifindex: number;
  /** Most entries of each table. */
  maxShunts4: number;
  maxShunts6: number;
  /** Whether the VLAN ids are part of the key; the flow engine must be told the same. */
  vlanKey: boolean;
  /** Lease owners: one for each worker, numbered from 1. */
  workers: number;
}

/** An entry that an earlier process left behind in the pinned tables. */
export interface Orphan {
  family: 4 | 6;
  key: Uint8Array;
  pkts: number;
  ipBytes: number;
}

/** Rows of the operations array for each worker: one batch. */
const OPS_PER_WORKER = 1024;
const PINNED = ['flows4', 'flows6', 'leases', 'ledger', 'meta'] as const;
const MAX_ORPHANS = 100_000;

/** A compiled object of bpf/, by its name without endings. */
export function bpfObjectPath(name: string): string {
  return join(packageRoot(), 'build', 'bpf', `${name}.bpf.o`);
}

/** The gate of one interface: the loaded programs, their tables, the pins, and the link while it is attached. */
export class Gate {
  readonly ifname: string;
  readonly ifindex: number;
  /** What an earlier run left on this interface; it has been removed. */
  readonly orphans: readonly Orphan[];
  readonly #object: BpfObject;
  readonly #pins: PinDirectory;
  readonly #ledger: Uint32Array;
  #link: BpfLink | undefined;
  #closed = false;

  private constructor(options: GateOptions, object: BpfObject, pins: PinDirectory, orphans: Orphan[]) {
    this.ifname = options.ifname;
    this.ifindex = options.ifindex;
    this.orphans = orphans;
    this.#object = object;
    this.#pins = pins;
    const ledger = object.map('ledger');
    this.#ledger = new Uint32Array(ledger.mmap(false), 0, (ledger.mappedStride / 4) * ledger.maxEntries);
  }

  /**
   * Loads the gate and pins its tables; nothing is attached yet. Throws INTERFACE_BUSY when another Sluice holds the
   * interface, VerifierError, PRIVILEGE or KERNEL_FEATURE when the kernel does not take it.
   */
  static open(options: GateOptions): Gate {
    if (options.workers >= OWNERS) throw new SluiceError('USAGE', `at most ${OWNERS - 1} workers`);
    const pins = PinDirectory.claim(options.ifindex, options.ifname);
    let object: BpfObject | undefined;
    let made = false;
    try {
      object = loadObject(bpfObjectPath('gate'), {
        constants: { cfg_vlan_in_key: options.vlanKey ? 1 : 0 },
        mapSizes: {
          flows4: options.maxShunts4,
          flows6: options.maxShunts6,
          ledger: possibleCpus(),
          ops: OPS_PER_WORKER * options.workers,
        },
      });
      writeMeta(object.map('meta'), options.ifindex);
      // What an earlier run left is removed only now that its end is sure to be told.
      const orphans = pins.occupied ? readOrphans(pins) : [];
      pins.clear();
      made = true;
      pins.make();
      for (const name of PINNED) object.map(name).pin(pins.at(name));
      return new Gate(options, object, pins, orphans);
    } catch (error) {
      object?.close();
      if (made) pins.clear();
      pins.release();
      throw error;
    }
  }

  /** The XDP program, for test runs and for its figures. */
  get program(): BpfProgram {
    return this.#object.program('sluice_gate');
  }

  get pins(): Record<string, string> {
    return Object.fromEntries(PINNED.map((name) => [name, this.#pins.at(name)]));
  }

  /**
   * Attaches by a raw link, which goes away with this process. `auto` takes native mode where the driver has it,
   * else generic; `warning` then says why. A foreign program is never replaced (INTERFACE_BUSY).
   */
  attach(mode: AttachMode | 'auto'): { mode: AttachMode; warning?: string } {
    const there = xdpAttachment(this.ifindex);
    if (there !== undefined) {
      throw new SluiceError(
        'INTERFACE_BUSY',
        `${this.ifname} already has an XDP program: ${describe(there.programId)}, ${there.mode} mode`,
        {
          help: 'detach it with the tool that attached it; Sluice does not replace what is not its own',
        },
      );
    }
    const { program } = this;
    const { ifindex } = this;
    if (mode !== 'auto') {
      this.#link = attachXdp({ program, ifindex, mode });
      return mode === 'generic' ? { mode, warning: GENERIC } : { mode };
    }
    try {
      this.#link = attachXdp({ program, ifindex, mode: 'native' });
      return { mode: 'native' };
    } catch (error) {
      if (error instanceof SluiceError && error.code === 'INTERFACE_BUSY') throw error;
      this.#link = attachXdp({ program, ifindex, mode: 'generic' });
      const why = error instanceof Error ? error.message : String(error);
      return { mode: 'generic', warning: `${this.ifname}: no native XDP (${why}); ${GENERIC}` };
    }
  }

  /** What the worker with this number (from 0) opens with GateClient. */
  handles(worker: number): GateHandles {
    return {
      flows4: this.#object.map('flows4').fd,
      flows6: this.#object.map('flows6').fd,
      leases: this.#object.map('leases').fd,
      ops: this.#object.map('ops').fd,
      opsProgram: this.#object.program('sluice_ops').fd,
      firstOp: worker * OPS_PER_WORKER,
      opCount: OPS_PER_WORKER,
      owner: worker + 1,
    };
  }

  ledger(): Ledger {
    return readLedger(this.#ledger);
  }

  /** Takes the gate off the interface: every packet passes from now on. The tables stay until `close`. */
  detach(): void {
    if (this.#link === undefined) return;
    try {
      this.#link.detach();
    } catch {
      // The interface has gone, and the attachment with it.
    }
    this.#link.close();
    this.#link = undefined;
  }

  /** Detaches, removes the pins and frees the tables. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.detach();
    this.#pins.clear();
    this.#object.close();
    this.#pins.release();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

const GENERIC =
  'generic mode runs after the kernel has built its packet, so it saves the sensor but not the kernel';

function describe(programId: number): string {
  try {
    return `${programInfo(programId).name} (id ${programId})`;
  } catch {
    return `id ${programId}`;
  }
}

function writeMeta(map: BpfMap, ifindex: number): void {
  const value = new Uint8Array(SlMeta.size);
  const view = new DataView(value.buffer);
  const m = SlMeta.members;
  view.setUint32(m.layout, LAYOUT_VERSION, true);
  value.set(randomBytes(8), m.instance);
  value.set(Buffer.from(bootId().replaceAll('-', ''), 'hex').subarray(0, 16), m.boot_id);
  view.setUint32(m.pid, process.pid, true);
  view.setUint32(m.netns, netnsInode() >>> 0, true);
  view.setUint32(m.ifindex, ifindex, true);
  map.set(new Uint8Array(4), value);
}

/** Entries that still held something back when their process died; what cannot be read is left out. */
function readOrphans(pins: PinDirectory): Orphan[] {
  const orphans: Orphan[] = [];
  const entry = new Entry();
  for (const family of [4, 6] as const) {
    let map: BpfMap;
    try {
      map = BpfMap.openPinned(pins.at(`flows${family}`));
    } catch {
      continue;
    }
    try {
      if (map.valueSize !== VALUE_SIZE[family]) continue;
      const value = new Uint8Array(map.valueBytes);
      const view = new DataView(value.buffer);
      let key: Uint8Array | undefined;
      for (;;) {
        const next = new Uint8Array(map.keySize);
        if (orphans.length >= MAX_ORPHANS || !map.nextKey(key, next)) break;
        key = next;
        if (!map.get(key, value)) continue;
        readEntry(view, 0, family, true, entry);
        if (entry.dirs[0].state === State.armed) continue;
        orphans.push({
          family,
          key,
          pkts: entry.pkts,
          ipBytes: entry.dirs[0].ipBytes + entry.dirs[1].ipBytes,
        });
      }
    } finally {
      map.close();
    }
  }
  return orphans;
}
