import type { FlowEngineApi, FlowHooks } from '../flow/types.ts';
import type { GateClient } from '../gate/client.ts';
import { type Joined, NOTE_BYTES } from '../gate/index.ts';
import { readNote } from './notes.ts';
import type { Shunter } from './shunter.ts';

const ROW = 64;
const KEY_AT = 4;
const DUE_AT = 56;
const KEY_BYTES = { 4: 16, 6: 48 } as const;

/** Flows of a dead run that may come back, in memory that all workers of an interface share. */
export interface Returning {
  /** 64 bytes each: family, key, the time (since the epoch) at which a flow that has been silent is over. */
  rows: SharedArrayBuffer;
  /** One number for each, 1 once a worker goes on with it; then how many workers have handled all that came. */
  claims: SharedArrayBuffer;
}

/** `due`: until when a flow of this protocol may come back. */
export function returningFlows(
  joined: readonly Joined[],
  due: (flow: Joined, protocol: number) => number,
): Returning | undefined {
  if (joined.length === 0) return undefined;
  const rows = new SharedArrayBuffer(joined.length * ROW);
  const bytes = new Uint8Array(rows);
  const view = new DataView(rows);
  for (const [i, flow] of joined.entries()) {
    bytes[i * ROW] = flow.family;
    bytes.set(flow.key, i * ROW + KEY_AT);
    view.setFloat64(i * ROW + DUE_AT, due(flow, flow.key[flow.family === 4 ? 12 : 36]), true);
  }
  return { rows, claims: new SharedArrayBuffer((joined.length + 1) * 4) };
}

/** Whether nobody goes on with some of them yet. */
export function areLeft({ rows, claims }: Returning): boolean {
  return new Int32Array(claims).subarray(0, rows.byteLength / ROW).includes(0);
}

/**
 * Joins the connections of a dead run with their first half (ADR 0017). Which worker will see a flow is not known before
 * its first packet: that is when it is restored, by the one that got the packet. What stays silent is restored when its
 * time is over, or at the end, by one of the workers, and gets its record.
 */
export class Recovery {
  readonly #engine: FlowEngineApi;
  readonly #gate: GateClient;
  readonly #shunter: Shunter;
  readonly #hooks: FlowHooks;
  readonly #trigger: (name: string) => number;
  readonly #share: { number: number; workers: number };
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #claims: Int32Array;
  /** Rows by their keys. */
  readonly #rows = new Map<string, number>();
  readonly #note = new Uint8Array(NOTE_BYTES);

  /** `trigger`: the index of a policy by the name that logs give it. */
  constructor(
    parts: { engine: FlowEngineApi; gate: GateClient; shunter: Shunter; hooks: FlowHooks },
    returning: Returning,
    share: { number: number; workers: number },
    trigger: (name: string) => number,
  ) {
    this.#engine = parts.engine;
    this.#gate = parts.gate;
    this.#shunter = parts.shunter;
    this.#hooks = parts.hooks;
    this.#trigger = trigger;
    this.#share = share;
    this.#bytes = new Uint8Array(returning.rows);
    this.#view = new DataView(returning.rows);
    this.#claims = new Int32Array(returning.claims);
    for (let row = 0; row < this.#claims.length - 1; row++) {
      const { family, key } = this.#flow(row);
      this.#rows.set(textOf(family, key), row);
    }
    this.#hooks.returning = (family, key) => this.#comesBack(family, key);
  }

  #flow(row: number): { family: 4 | 6; key: Uint8Array } {
    const family = this.#bytes[row * ROW] === 4 ? 4 : 6;
    const from = row * ROW + KEY_AT;
    return { family, key: this.#bytes.slice(from, from + KEY_BYTES[family]) };
  }

  #comesBack(family: 4 | 6, key: Uint8Array): boolean {
    const row = this.#rows.get(textOf(family, key));
    return row !== undefined && this.#restore(row);
  }

  /** False when another worker goes on with it, or nothing can. */
  #restore(row: number): boolean {
    const { family, key } = this.#flow(row);
    this.#rows.delete(textOf(family, key));
    if (this.#rows.size === 0) this.#hooks.returning = undefined;
    if (Atomics.compareExchange(this.#claims, row, 0, 1) !== 0) return false;
    if (!this.#gate.notes.read(family, key, this.#note)) return false;
    const note = readNote(this.#note);
    const slot = this.#engine.restore(family, key, note.flow);
    if (slot < 0) return false;
    this.#shunter.resume(slot, note, this.#trigger(note.trigger));
    return true;
  }

  /** Restores those of this worker's share whose time is over at `now`, for the engine to end them. */
  expire(now: number): void {
    for (const row of this.#rows.values()) {
      if (row % this.#share.workers !== this.#share.number) continue;
      if (this.#view.getFloat64(row * ROW + DUE_AT, true) <= now) this.#restore(row);
    }
  }

  /** This worker has handled all that came: the last one to say so restores what is left. */
  finish(): void {
    const done = Atomics.add(this.#claims, this.#claims.length - 1, 1) + 1;
    if (done < this.#share.workers) return;
    for (const row of this.#rows.values()) this.#restore(row);
  }
}

function textOf(family: 4 | 6, key: Uint8Array): string {
  return `${family}${Buffer.from(key.buffer, key.byteOffset, KEY_BYTES[family]).toString('latin1')}`;
}
