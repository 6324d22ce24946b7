import { randomBytes } from 'node:crypto';
import { kindOf, SampleColumns } from '../mitigation/index.ts';
import { BATCH_ROWS, BatchWriter } from './batch.ts';

/** Milliseconds. */
const EVERY = 250;
/** Prefixes and kinds that are told apart in that time, and samples that are passed on of each at most. */
const STRATA = 1024;
const ROWS = 4;
/** Samples that all partitions of a fleet pass on in that time, and one at least. */
const MOST = 4096;
const LEAST = 32;

interface Stratum {
  /** Packets that its samples stand for, all of them. */
  weight: number;
  samples: number;
  /** How many rows it has, at `slot * ROWS`. */
  rows: number;
  readonly slot: number;
}

/**
 * What a partition tells the second stage: for each /16 (IPv6 /32) and kind of packets a few samples, chosen by chance, whose
 * weights add up to all that was counted. So rates are as exact there as here, at a cost that does not grow with the traffic.
 */
export class Summary {
  readonly #rows = new SampleColumns(STRATA * ROWS);
  readonly #strata = new Map<number, Stratum>();
  readonly #writer = new BatchWriter();
  readonly #streamHigh = randomBytes(4).readUInt32LE();
  readonly #streamLow = randomBytes(4).readUInt32LE();
  readonly #most: number;
  #sequence = 0;
  /** Samples of prefixes for which there was no room. */
  #lost = 0;
  #due = 0;

  /** @param partitions of the fleet */
  constructor(partitions: number) {
    this.#most = Math.max(LEAST, Math.floor(MOST / partitions));
  }

  add(columns: SampleColumns): void {
    for (let row = 0; row < columns.count; row++) this.#addRow(columns, row);
  }

  #addRow(columns: SampleColumns, row: number): void {
    const six = columns.family[row] === 6;
    const prefix = six ? columns.target[4 * row] : columns.target[4 * row + 3] >>> 16;
    const key = (prefix * 2 + (six ? 1 : 0)) * 64 + kindOf(columns, row);
    let stratum = this.#strata.get(key);
    if (stratum === undefined) {
      const slot = this.#strata.size;
      if (slot === STRATA) {
        this.#lost++;
        return;
      }
      stratum = { weight: 0, samples: 0, rows: 0, slot };
      this.#strata.set(key, stratum);
    }
    stratum.weight += columns.weight[row];
    stratum.samples++;
    let at = stratum.rows;
    if (at < ROWS) stratum.rows++;
    else {
      at = Math.floor(Math.random() * stratum.samples);
      if (at >= ROWS) return;
    }
    this.#rows.copyRow(columns, row, stratum.slot * ROWS + at);
  }

  /** Batches, when it is time. @param now milliseconds since 1970 */
  take(now: number): Uint8Array[] {
    if (now < this.#due || this.#strata.size === 0) return [];
    this.#due = now + EVERY;
    const batches: Uint8Array[] = [];
    const heaviest = [...this.#strata.values()].toSorted((a, b) => b.weight - a.weight);
    for (const { samples } of heaviest.splice(this.#most)) this.#lost += samples;
    const each = Math.max(1, Math.min(ROWS, Math.floor(this.#most / heaviest.length)));
    for (const { weight, rows, slot } of heaviest) {
      const kept = Math.min(rows, each);
      for (let at = 0; at < kept; at++) {
        this.#writer.add(this.#rows, slot * ROWS + at, weight / kept);
        if (this.#writer.rows === BATCH_ROWS) batches.push(this.#batch(now));
      }
    }
    if (this.#writer.rows > 0) batches.push(this.#batch(now));
    this.#strata.clear();
    return batches;
  }

  #batch(clock: number): Uint8Array {
    return this.#writer.take({
      streamHigh: this.#streamHigh,
      streamLow: this.#streamLow,
      sequence: ++this.#sequence,
      lost: this.#lost >>> 0,
      clock,
    });
  }
}
