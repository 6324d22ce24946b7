import type { Packet } from '../packet/packet.ts';
import { SampleColumns } from './columns.ts';
import { SampleReader } from './read-sample.ts';
import { Chance } from './window.ts';

/** Beyond so many times its budget a turn takes no more samples. */
const MOST_TIMES = 2;
/** How fast N comes down again, turn by turn. */
const DOWN = 0.9;

/**
 * Takes one packet in N by chance, into columns, where packets go by one after the other: no allocation for a packet. N follows a
 * budget as that of the gate does: it grows at once when more comes, and shrinks step by step.
 */
export class PacketSampler {
  readonly #reader = new SampleReader();
  readonly #chance: Chance;
  readonly #budget: number;
  #columns: SampleColumns;
  #every = 1;
  #gap = 0;
  #packets = 0;
  #taken = 0;
  readonly #most: number;
  /** Samples beyond what a turn may take. */
  lost = 0;

  /** `budget`: samples a turn; `rows` of a batch. */
  constructor(budget: number, rows: number, seed: number) {
    this.#budget = Math.max(1, budget);
    this.#most = MOST_TIMES * this.#budget;
    this.#columns = new SampleColumns(rows);
    this.#chance = new Chance(seed);
  }

  /** The N of 1 in N. */
  get every(): number {
    return this.#every;
  }

  /** To be called with each packet; true when the batch is full. */
  look(packet: Packet): boolean {
    this.#packets++;
    if (this.#gap > 0) {
      this.#gap--;
      return false;
    }
    if (this.#every > 1) this.#gap = this.#chance.below(2 * this.#every - 1);
    if (this.#taken >= this.#most) {
      this.lost++;
      return false;
    }
    this.#taken++;
    const columns = this.#columns;
    if (columns.count < columns.capacity && this.#reader.read(packet, this.#every, columns, columns.count))
      columns.count++;
    return columns.count === columns.capacity;
  }

  /** To be called at equal intervals: what came in the last one says how many are taken in the next. */
  turn(): void {
    const wanted = Math.max(1, Math.ceil(this.#packets / this.#budget));
    this.#every = wanted > this.#every ? wanted : Math.max(wanted, Math.floor(this.#every * DOWN));
    this.#packets = 0;
    this.#taken = 0;
  }

  /** What has been taken, whose place other columns take; undefined: nothing. */
  take(): SampleColumns | undefined {
    const columns = this.#columns;
    if (columns.count === 0) return undefined;
    this.#columns = new SampleColumns(columns.capacity);
    return columns;
  }
}
