import { SampleColumns } from './columns.ts';

/** Ticks that are remembered whole, as far as they have room. */
export const WINDOW_TICKS = 12;
/** Rows of a tick; of more a fair choice is kept. */
const TICK_ROWS = 1024;
/** Of each tick that has gone, so many rows enter the memory once it is full: it reaches back some ten minutes. */
const TICK_ADMITTED = 4;

/** A small generator of its own (xorshift32): the same samples give the same decisions. */
export class Chance {
  #state: number;
  constructor(seed: number) {
    this.#state = seed >>> 0 || 1;
  }
  /** A whole number below `limit`. */
  below(limit: number): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return Math.floor((this.#state / 2 ** 32) * limit);
  }
}

/** What was seen lately, and what is usual: rows of the last ticks, and a memory of those that no attack has. */
export class SampleWindow {
  /** Rows of the last ticks, each in a part of its own. */
  readonly recent = new SampleColumns(WINDOW_TICKS * TICK_ROWS);
  /** What is usual. */
  readonly usual: SampleColumns;
  /** Kind of each row. */
  readonly recentKind = new Uint8Array(WINDOW_TICKS * TICK_ROWS);
  readonly usualKind: Uint8Array;
  readonly #counts = new Uint32Array(WINDOW_TICKS);
  readonly #seen = new Uint32Array(WINDOW_TICKS);
  readonly #chance: Chance;
  #tick = 0;

  constructor(usual: number, seed: number) {
    this.usual = new SampleColumns(usual);
    this.usualKind = new Uint8Array(usual);
    this.#chance = new Chance(seed);
  }

  add(columns: SampleColumns, row: number, kind: number): void {
    const part = this.#tick % WINDOW_TICKS;
    const seen = this.#seen[part]++;
    let at = this.#counts[part];
    if (at < TICK_ROWS) this.#counts[part]++;
    else {
      at = this.#chance.below(seen + 1);
      if (at >= TICK_ROWS) return;
    }
    const to = part * TICK_ROWS + at;
    this.recent.copyRow(columns, row, to);
    this.recentKind[to] = kind;
  }

  /** Takes in what is known to be usual, as long as there is room. */
  remember(columns: SampleColumns, row: number, kind: number): void {
    const { usual } = this;
    if (usual.count === usual.capacity) return;
    usual.copyRow(columns, row, usual.count);
    this.usualKind[usual.count++] = kind;
  }

  /** Begins a new tick; of the oldest one what belongs to nobody (`taken`) is remembered as usual. */
  turn(taken: (row: number) => boolean): void {
    this.#tick++;
    const part = this.#tick % WINDOW_TICKS;
    const begin = part * TICK_ROWS;
    const count = this.#counts[part];
    const { usual } = this;
    for (let i = 0; i < count; i++) {
      const full = usual.count === usual.capacity;
      if (full && this.#chance.below(count) >= TICK_ADMITTED) continue;
      if (taken(begin + i)) continue;
      const to = full ? this.#chance.below(usual.capacity) : usual.count++;
      usual.copyRow(this.recent, begin + i, to);
      this.usualKind[to] = this.recentKind[begin + i];
    }
    this.#counts[part] = 0;
    this.#seen[part] = 0;
  }

  /** Rows of the last so many ticks, the one that goes on included. */
  rows(ticks: number): number[] {
    const rows: number[] = [];
    for (let back = 0; back < Math.min(ticks, WINDOW_TICKS, this.#tick + 1); back++) {
      const part = (this.#tick - back) % WINDOW_TICKS;
      for (let i = 0; i < this.#counts[part]; i++) rows.push(part * TICK_ROWS + i);
    }
    return rows;
  }

  get memory(): number {
    return SampleColumns.bytes(this.recent.capacity) + SampleColumns.bytes(this.usual.capacity);
  }
}
