/** Records that wait, in the order in which they came. */
export interface Batch {
  bytes: Buffer;
  records: number;
}

/** Whole records up to a number of bytes; what there is no room for is counted and gone: nobody waits for a sink. */
export class RecordQueue {
  readonly #most: number;
  readonly #batches: Batch[] = [];
  /** Taken from the front so far; the list is shortened now and then. */
  #head = 0;
  #bytes = 0;
  #records = 0;
  /** Records for which there was no room. */
  lost = 0;

  constructor(most: number) {
    this.#most = most;
  }

  get records(): number {
    return this.#records;
  }

  get isEmpty(): boolean {
    return this.#head === this.#batches.length;
  }

  push(batch: Batch): void {
    if (this.#bytes + batch.bytes.length > this.#most) {
      this.lost += batch.records;
      return;
    }
    this.#batches.push(batch);
    this.#bytes += batch.bytes.length;
    this.#records += batch.records;
  }

  shift(): Batch | undefined {
    if (this.isEmpty) return undefined;
    const batch = this.#batches[this.#head++];
    if (this.#head >= 1024 && this.#head * 2 >= this.#batches.length) {
      this.#batches.splice(0, this.#head);
      this.#head = 0;
    }
    this.#bytes -= batch.bytes.length;
    this.#records -= batch.records;
    return batch;
  }

  /** Puts back what was taken and did not arrive, in its order, before all else. */
  unshift(batches: readonly Batch[]): void {
    if (batches.length === 0) return;
    this.#batches.splice(0, this.#head, ...batches);
    this.#head = 0;
    for (const { bytes, records } of batches) {
      this.#bytes += bytes.length;
      this.#records += records;
    }
  }

  /** Everything that still waits is lost. */
  giveUp(): void {
    this.lost += this.#records;
    this.#batches.length = 0;
    this.#head = 0;
    this.#bytes = 0;
    this.#records = 0;
  }
}
