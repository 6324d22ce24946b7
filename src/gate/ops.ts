import { SluiceError } from '../base/errors.ts';
import type { BpfProgram } from '../kernel/index.ts';
import { SlOp, SlOpsRange } from './layout.gen.ts';
import { AFTER_BYTES, AFTER_PACKETS, OpCode } from './layout.ts';

export type OpName = keyof typeof OpCode;

const O = SlOp.members;

/** What an entry may still pass before the gate shunts it by itself: of one direction, IP bytes or packets. */
export type Threshold = { bytes: number } | { packets: number };

/** A flip that waits for a threshold; `synced` says which directions were seen synchronized. */
export interface FlipLater {
  after: Threshold;
  synced: readonly [boolean, boolean];
}

/** Where the gate looks into tunnels: TIED and CARRIER for arm; for flip the ties of both directions (src/flow/tie.ts). */
export interface OpTunnels {
  flags: number;
  tie: readonly [number, number];
}

/** As the gate keeps it: a signed word. */
const MOST = 2 ** 31 - 1;
function allowance(after: Threshold): number {
  return Math.min(MOST, Math.max(1, Math.round('bytes' in after ? after.bytes : after.packets)));
}

const NO_TUNNELS: OpTunnels = { flags: 0, tie: [0, 0] };

/**
 * Changes of entries, collected and carried out by the pinned syscall program in one call. Each worker owns the
 * rows [first, first + size) of the `ops` map, mapped into its memory, so that nothing is copied.
 */
export class Ops {
  readonly size: number;
  #count = 0;
  readonly #first: number;
  readonly #view: DataView;
  readonly #bytes: Uint8Array;
  readonly #program: BpfProgram;
  readonly #range = new Uint8Array(SlOpsRange.size);
  readonly #rangeView = new DataView(this.#range.buffer);

  /** `memory` is the whole mapped `ops` map. */
  constructor(program: BpfProgram, memory: ArrayBuffer, first: number, size: number) {
    this.#program = program;
    this.#view = new DataView(memory, first * SlOp.size, size * SlOp.size);
    this.#bytes = new Uint8Array(memory, first * SlOp.size, size * SlOp.size);
    this.#first = first;
    this.size = size;
  }

  get count(): number {
    return this.#count;
  }

  get full(): boolean {
    return this.#count === this.size;
  }

  /** Forgets the last batch. */
  clear(): void {
    this.#count = 0;
  }

  /**
   * Adds one change and returns its row. `first` and `second` are two numbers per side: highest sequence end and
   * acknowledgement for arm and sync, occurrences of T and W up to the synchronization for flip.
   */
  push(
    name: OpName,
    family: 4 | 6,
    key: Uint8Array,
    owner: number,
    idleMs: number,
    cookie: number,
    first: readonly [number, number],
    second: readonly [number, number],
    tunnels: OpTunnels = NO_TUNNELS,
    later?: FlipLater,
  ): number {
    if (this.full) throw new SluiceError('INTERNAL', 'the operations batch is full');
    const row = this.#count++;
    const at = row * SlOp.size;
    const view = this.#view;
    view.setUint32(at + O.code, OpCode[name], true);
    view.setUint32(at + O.family, family, true);
    this.#bytes.fill(0, at + O.key, at + O.key + 48);
    this.#bytes.set(key, at + O.key);
    view.setUint32(at + O.owner, owner, true);
    view.setUint32(at + O.idle_ms, idleMs, true);
    view.setUint32(at + O.cookie, cookie, true);
    view.setInt32(at + O.result, -11, true);
    const flags = later === undefined ? 0 : 'bytes' in later.after ? AFTER_BYTES : AFTER_PACKETS;
    view.setUint32(at + O.flags, tunnels.flags | flags, true);
    view.setUint32(at + O.after, later === undefined ? 0 : allowance(later.after), true);
    view.setUint32(
      at + O.synced,
      later === undefined ? 0 : Number(later.synced[0]) | (Number(later.synced[1]) << 1),
      true,
    );
    for (let side = 0; side < 2; side++) {
      view.setUint32(at + O.seq + side * 4, first[side] >>> 0, true);
      view.setUint32(at + O.ack + side * 4, second[side] >>> 0, true);
      view.setUint32(at + O.tie + side * 4, tunnels.tie[side] >>> 0, true);
    }
    return row;
  }

  /** Carries out what was pushed. */
  run(): void {
    if (this.#count === 0) return;
    this.#rangeView.setUint32(SlOpsRange.members.first, this.#first, true);
    this.#rangeView.setUint32(SlOpsRange.members.count, this.#count, true);
    this.#program.runSyscall(this.#range);
  }

  /** What `sync` answered: the marks of a side, sequence end and acknowledgement. */
  marks(row: number, side: number): { seq: number; ack: number } {
    const at = row * SlOp.size + side * 4;
    return { seq: this.#view.getUint32(at + O.seq, true), ack: this.#view.getUint32(at + O.ack, true) };
  }

  /** Of the last batch: 0 or a negative errno. */
  result(row: number): number {
    return this.#view.getInt32(row * SlOp.size + O.result, true);
  }
}

/** What a worker needs to reach the maps of a gate: they are opened by descriptor, never owned. */
export interface GateHandles {
  flows4: number;
  flows6: number;
  side: number;
  leases: number;
  ops: number;
  opsProgram: number;
  firstOp: number;
  opCount: number;
  owner: number;
}
