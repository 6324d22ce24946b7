import { BatchCursor, BpfMap, BpfProgram, membarrier } from '../kernel/index.ts';
import { type Entry, readEntry, VALUE_SIZE } from './entry.ts';
import { Graces } from './graces.ts';
import { Lease } from './lease.ts';
import { type GateHandles, Ops } from './ops.ts';
import { SideNotes } from './side.ts';

const KEY_SIZE = { 4: 16, 6: 48 } as const;
/** Entries that one slice of a sweep reads: a millisecond of the event loop also where the sensor looks each of them up. */
const SLICE = 512;
/** In place of a memory barrier on every CPU. */
const GRACE_MS = 100;

/**
 * A worker's view of the gate, over descriptors that the main thread owns: its lease, its rows of the operations
 * array, and reads of the flow tables. Nothing here writes a live entry; that is for the syscall program.
 */
export class GateClient {
  readonly owner: number;
  readonly ops: Ops;
  readonly lease: Lease;
  /** Notes about flows, for whoever comes after this process. */
  readonly notes: SideNotes;
  readonly #maps: Record<4 | 6, BpfMap>;
  readonly #values: Record<4 | 6, Uint8Array>;
  readonly #views: Record<4 | 6, DataView>;
  readonly #graces = new Graces(left);
  readonly #adopted: readonly { close(): void }[];

  constructor(handles: GateHandles, leaseSeconds: number | 'off') {
    this.owner = handles.owner;
    this.#maps = { 4: BpfMap.adopt(handles.flows4), 6: BpfMap.adopt(handles.flows6) };
    const leases = BpfMap.adopt(handles.leases);
    const ops = BpfMap.adopt(handles.ops);
    const program = BpfProgram.adopt(handles.opsProgram);
    const side = BpfMap.adopt(handles.side);
    this.#adopted = [this.#maps[4], this.#maps[6], leases, ops, program, side];
    this.notes = new SideNotes(side);
    this.lease = new Lease(leases.mmap(true), handles.owner, leaseSeconds);
    this.ops = new Ops(program, ops.mmap(true), handles.firstOp, handles.opCount);
    this.#values = { 4: new Uint8Array(VALUE_SIZE[4]), 6: new Uint8Array(VALUE_SIZE[6]) };
    this.#views = { 4: new DataView(this.#values[4].buffer), 6: new DataView(this.#values[6].buffer) };
  }

  /** Reads one entry; false when there is none under this key. */
  read(family: 4 | 6, key: Uint8Array, tcp: boolean, out: Entry): boolean {
    if (!this.#maps[family].get(key, this.#values[family])) return false;
    readEntry(this.#views[family], 0, family, tcp, out);
    return true;
  }

  /** Deletes an entry that has been ending for a grace period. */
  remove(family: 4 | 6, key: Uint8Array): void {
    this.#maps[family].delete(key);
  }

  /** Resolves once every packet that was in the XDP program when this was called has left it. */
  grace(): Promise<void> {
    return this.#graces.pass();
  }

  /** The same for what has time: a wait that many share, some milliseconds later. */
  graceSoon(): Promise<void> {
    return this.#graces.soon();
  }

  /**
   * Reads a whole table off the event loop, `slice` entries at a time; `entry` is called for each, with its key at `offset` of
   * `keys`.
   */
  async sweep(
    family: 4 | 6,
    entry: (keys: Uint8Array, offset: number, values: DataView, at: number) => void,
    slice = SLICE,
  ): Promise<number> {
    const map = this.#maps[family];
    const keySize = KEY_SIZE[family];
    const valueSize = VALUE_SIZE[family];
    const keys = new Uint8Array(slice * keySize);
    const values = new Uint8Array(slice * valueSize);
    const view = new DataView(values.buffer);
    const cursor = new BatchCursor();
    let total = 0;
    for (;;) {
      const { count, done } = await map.readBatch(cursor, keys, values, slice);
      for (let i = 0; i < count; i++) entry(keys, i * keySize, view, i * valueSize);
      total += count;
      if (done) return total;
    }
  }

  close(): void {
    for (const handle of this.#adopted) handle.close();
  }
}

/** Resolves once every packet has left the XDP program that is in it now. */
async function left(): Promise<void> {
  try {
    await membarrier();
  } catch {
    // Refused where CPUs run without ticks (nohz_full): no packet stays in a program for this long.
    await new Promise((resolve) => setTimeout(resolve, GRACE_MS));
  }
}
