import { dirname, join } from 'node:path';
import { SluiceError } from '../base/errors.ts';
import type { CbpfProgram } from '../ebpf/index.ts';
import {
  BpfMap,
  type BpfProgram,
  KernelError,
  loadInstructions,
  loadObject,
  MapType,
  membarrier,
  ProgramFlag,
  ProgramType,
  packageRoot,
  programInfo,
} from '../kernel/index.ts';
import { SlCapCount } from './cap-layout.gen.ts';
import { entryProgram, filterProgram } from './cap-program.ts';
import { clearDeadCaptures, entryName, lockHook, programIn, STAGES, slotKey } from './cap-slots.ts';
import { readMeta } from './pinned.ts';

/** XDP actions by their slot. */
export const ACTIONS = ['aborted', 'drop', 'pass', 'tx', 'redirect'] as const;
export type Action = (typeof ACTIONS)[number];

/** What one action of a hook has seen, in packets. */
export interface ActionCounts {
  seen: number;
  /** Matched, and was not the one in so many. */
  unsampled: number;
  captured: number;
  /** Matched and found no room in the ring. */
  lost: number;
}

export interface HookOptions {
  /** Where the hook is pinned. */
  path: string;
  /** Number by which its packets are known in the ring. */
  number: number;
  actions: readonly Action[];
  /** Undefined: everything. */
  filter: CbpfProgram | undefined;
  snaplen: number;
  /** One matching packet in so many. */
  sample: number;
  /** Where packets go; shared by all hooks. */
  ring: BpfMap;
}

/**
 * What a program has to have in common with the one that the hook belongs to, or the kernel does not put it in: whether it takes
 * frames in several buffers, and since Linux 6.18 the attach type it was loaded with (none, BPF_XDP, for devmaps, for cpumaps).
 * The map does not tell, so they are tried in this order.
 */
const KINDS = [0, 37, 33, 35].flatMap((expectedAttachType) =>
  [ProgramFlag.xdpHasFrags, 0].map((flags) => ({ expectedAttachType, flags })),
);
type Kind = (typeof KINDS)[number];

const program = (kind: Kind) => ({ type: ProgramType.xdp, license: 'Dual BSD/GPL', ...kind });

const EINVAL = 22;
const { members } = SlCapCount;

/** One exit hook that is captured from. */
export class CaptureHook {
  readonly path: string;
  readonly actions: readonly Action[];
  /** Beside the hook of a gate of ours: its `meta`, which tells whether it leaves notes. */
  readonly meta: BpfMap | undefined;
  readonly #hook: BpfMap;
  readonly #options: HookOptions;
  /** Of a gate. */
  readonly #others: Record<'next' | 'scratch', BpfMap> | undefined;
  readonly #entries = new Map<number, BpfProgram>();
  #stages: BpfMap | undefined;
  #counts: BpfMap | undefined;

  /** @throws SluiceError NOT_FOUND, PIN_FOREIGN for what is no exit hook, PRIVILEGE */
  constructor(options: HookOptions) {
    this.#options = options;
    this.path = options.path;
    this.#hook = openHook(options.path);
    const { meta, ...others } = gateMaps(options.path) ?? {};
    this.meta = meta;
    this.#others = meta === undefined ? undefined : (others as Record<'next' | 'scratch', BpfMap>);
    const { maxEntries } = this.#hook;
    this.actions = options.actions.filter((action) => ACTIONS.indexOf(action) < maxEntries);
    if (this.actions.length > 0) return;
    this.close();
    throw new SluiceError(
      'USAGE',
      `the hook at ${this.path} has ${maxEntries} slots, none for these actions`,
      {
        help: `its slots are ${ACTIONS.slice(0, maxEntries).join(', ')}`,
      },
    );
  }

  /**
   * Puts the capture into the slots of its actions, all of which have to be free.
   * @throws SluiceError INTERFACE_BUSY naming who is there, PROGRAM_UNFIT, VERIFIER, KERNEL_FEATURE
   */
  start(): void {
    clearDeadCaptures(this.#hook);
    const lock = lockHook(this.#hook);
    if (lock === undefined) throw busy(this.path, 'another sluice is at it');
    try {
      this.#checkFree();
      this.#install();
    } catch (error) {
      this.#clear();
      throw error;
    } finally {
      lock.remove();
    }
  }

  #checkFree(): void {
    for (const slot of this.#slots()) {
      const id = programIn(this.#hook, slot);
      if (id !== undefined) throw busy(this.path, `its ${ACTIONS[slot]} slot has ${describe(id)}`, true);
    }
  }

  #slots(): number[] {
    return this.actions.map((action) => ACTIONS.indexOf(action));
  }

  /** An entry to nothing goes in first, of each kind in turn: packets go on from it as before. */
  #install(): void {
    const [first, ...others] = this.#slots();
    const kind = KINDS.find((each) => this.#begin(first, each));
    if (kind === undefined) {
      throw new SluiceError('PROGRAM_UNFIT', `the hook at ${this.path} takes no program of any kind`, {
        help: 'it is of a program that is not XDP, or of an attach type that this version does not know',
      });
    }
    const { stages } = this.#maps();
    const filters = this.#load(kind, stages);
    for (const [slot, filter] of filters) {
      stages.set(slotKey(STAGES.filter + slot), slotKey(filter.fd));
      filter.close();
    }
    for (const slot of others) {
      if (!this.#enter(slot, kind))
        throw new SluiceError('PROGRAM_UNFIT', `the hook at ${this.path} takes no second program`);
    }
  }

  /** The array behind the slots takes programs of one kind: each kind begins with one of its own. */
  #begin(slot: number, kind: Kind): boolean {
    this.#stages?.close();
    this.#stages = BpfMap.create({
      type: MapType.progArray,
      name: STAGES.name,
      keySize: 4,
      valueSize: 4,
      maxEntries: STAGES.size,
    });
    return this.#enter(slot, kind);
  }

  /** False when the hook is of programs of another kind. */
  #enter(slot: number, kind: Kind): boolean {
    const { stages, next } = this.#maps();
    const entry = loadInstructions(entryProgram(slot, stages.fd, next), {
      ...program(kind),
      name: entryName(stages.id),
    });
    const result = this.#hook.trySet(slotKey(slot), slotKey(entry.fd));
    if (result === 0) {
      this.#entries.set(slot, entry);
      return true;
    }
    entry.close();
    if (result === -EINVAL) return false;
    throw new KernelError('map.update', -result, `put the capture into the hook at ${this.path}`);
  }

  #maps(): { stages: BpfMap; next: number | undefined } {
    if (this.#stages === undefined) throw new SluiceError('CLOSED', 'this capture is over');
    return { stages: this.#stages, next: this.#others?.next.fd };
  }

  /** What captures goes into its place; the filters in front of it are handed back by slot. */
  #load(kind: Kind, stages: BpfMap): [number, BpfProgram][] {
    const { number, snaplen, sample, filter, ring } = this.#options;
    const slots = this.#slots();
    using object = loadObject(join(packageRoot(), 'build', 'bpf', 'cap.bpf.o'), {
      constants: {
        cfg_hook: number,
        cfg_snaplen: snaplen,
        cfg_sample: sample,
        cfg_gate: this.#others === undefined ? 0 : 1,
      },
      reuseMaps: { cap_ring: ring, ...this.#others },
      programs: Object.fromEntries(
        ACTIONS.map((_, slot) => [`sluice_cap_${slot}`, { ...kind, autoload: slots.includes(slot) }]),
      ),
    });
    const counts = object.map('cap_counts').duplicate();
    this.#counts = counts;
    const maps = { stages: stages.fd, counts: counts.fd, next: this.#others?.next.fd };
    return slots.map((slot) => {
      stages.set(slotKey(STAGES.act + slot), slotKey(object.program(`sluice_cap_${slot}`).fd));
      const code = filterProgram(filter, slot, maps);
      return [slot, loadInstructions(code, { ...program(kind), name: 'sluice_match' })];
    });
  }

  /** Whether it is still pinned where it was: the gate may have gone, or another one come. */
  get there(): boolean {
    try {
      using now = BpfMap.openPinned(this.path, true);
      return now.id === this.#hook.id;
    } catch {
      return false;
    }
  }

  /** Whether the gate has been told, and leaves notes. */
  get noted(): boolean {
    return this.meta !== undefined && readMeta(this.meta, this.path).notes;
  }

  /** Sums over the CPUs. */
  counts(action: Action): ActionCounts {
    const counts = { seen: 0, unsampled: 0, captured: 0, lost: 0 };
    const map = this.#counts;
    if (map === undefined) return counts;
    const bytes = new Uint8Array(map.valueBytes);
    map.get(slotKey(ACTIONS.indexOf(action)), bytes);
    const view = new DataView(bytes.buffer);
    for (let at = 0; at < bytes.length; at += SlCapCount.size) {
      for (const name of ['seen', 'unsampled', 'captured', 'lost'] as const) {
        const from = at + members[name];
        counts[name] += view.getUint32(from, true) + view.getUint32(from + 4, true) * 2 ** 32;
      }
    }
    return counts;
  }

  /** Takes the capture out; once it resolves no packet is in it any more, and the counts stand. */
  async stop(): Promise<void> {
    this.#leave();
    await membarrier();
  }

  /** What is in a slot is left alone unless it is what we put there. */
  #leave(): void {
    for (const [slot, entry] of this.#entries)
      if (programIn(this.#hook, slot) === entry.id) this.#hook.delete(slotKey(slot));
  }

  #clear(): void {
    this.#leave();
    for (const entry of this.#entries.values()) entry.close();
    this.#entries.clear();
    this.#counts?.close();
    this.#counts = undefined;
    this.#stages?.close();
    this.#stages = undefined;
  }

  close(): void {
    this.#clear();
    this.#hook.close();
    this.#others?.next.close();
    this.#others?.scratch.close();
    this.meta?.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function openHook(path: string): BpfMap {
  let map: BpfMap;
  try {
    map = BpfMap.openPinned(path);
  } catch (error) {
    if (!(error instanceof KernelError) || error.errno !== 2) throw error;
    throw new SluiceError('NOT_FOUND', `nothing is pinned at ${path}`, {
      cause: error,
      help: 'a hook is a program array pinned in bpffs; of a gate: `sluice gate status --json`, `pins.hook`',
    });
  }
  if (map.type === MapType.progArray && map.keySize === 4 && map.valueSize === 4) return map;
  map.close();
  throw new SluiceError('PIN_FOREIGN', `what is pinned at ${path} is no exit hook`, {
    help: `xdpcap's hook is a program array with one slot for each XDP action (${ACTIONS.join(', ')})`,
  });
}

/** The maps of a gate of ours that is pinned in the same place. */
function gateMaps(path: string): Record<'meta' | 'next' | 'scratch', BpfMap> | undefined {
  const opened: BpfMap[] = [];
  const open = (name: string): BpfMap => {
    const map = BpfMap.openPinned(join(dirname(path), name));
    opened.push(map);
    return map;
  };
  try {
    const maps = { meta: open('meta'), next: open('next'), scratch: open('scratch') };
    readMeta(maps.meta, path);
    return maps;
  } catch {
    // Of somebody else.
    for (const map of opened) map.close();
    return undefined;
  }
}

function describe(id: number): string {
  try {
    const { name } = programInfo(id);
    return `program ${name === '' ? '(without a name)' : name} (id ${id})`;
  } catch {
    return `program ${id}`;
  }
}

function busy(path: string, what: string, slot = false): SluiceError {
  return new SluiceError('INTERFACE_BUSY', `the hook at ${path} is taken: ${what}`, {
    help: slot
      ? 'it is left alone: end that capture first, or name other actions with --verdict'
      : 'try again in a moment',
  });
}
