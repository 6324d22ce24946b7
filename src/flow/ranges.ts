/** Ranges that one direction may have above its holes; more are not followed. */
const MAX_PER_LIST = 64;

/**
 * Sorted lists of ranges [low, high) of relative sequence numbers that were received above a hole, in one pool shared
 * by all flows. A list is the number of its first node, 0 when empty. Ranges that touch become one.
 */
export class RangePool {
  readonly #low: Float64Array;
  readonly #high: Float64Array;
  readonly #next: Int32Array;
  #free = 0;
  #fresh = 1;

  constructor(nodes: number) {
    this.#low = new Float64Array(nodes + 1);
    this.#high = new Float64Array(nodes + 1);
    this.#next = new Int32Array(nodes + 1);
  }

  /** The list with [low, high) added; -1 when there is no room, the list is as it was then. */
  add(list: number, low: number, high: number): number {
    let before = 0;
    let at = list;
    let count = 0;
    while (at !== 0 && this.#high[at] < low) {
      before = at;
      at = this.#next[at];
      count++;
    }
    if (at !== 0 && this.#low[at] <= high) {
      // Touches: grow it, and take in those that follow and touch now.
      if (low < this.#low[at]) this.#low[at] = low;
      if (high > this.#high[at]) this.#high[at] = high;
      let after = this.#next[at];
      while (after !== 0 && this.#low[after] <= this.#high[at]) {
        if (this.#high[after] > this.#high[at]) this.#high[at] = this.#high[after];
        after = this.#release(after);
      }
      this.#next[at] = after;
      return list;
    }
    for (let rest = at; rest !== 0; rest = this.#next[rest]) count++;
    const node = count < MAX_PER_LIST ? this.#take() : 0;
    if (node === 0) return -1;
    this.#low[node] = low;
    this.#high[node] = high;
    this.#next[node] = at;
    if (before === 0) return node;
    this.#next[before] = node;
    return list;
  }

  low(node: number): number {
    return this.#low[node];
  }

  high(node: number): number {
    return this.#high[node];
  }

  /** Lets go of the first node and returns the rest of the list. */
  shift(list: number): number {
    return this.#release(list);
  }

  /** End of the last range, 0 when the list is empty. */
  end(list: number): number {
    let high = 0;
    for (let at = list; at !== 0; at = this.#next[at]) high = this.#high[at];
    return high;
  }

  /** End of the last range that begins below `upTo`, 0 when there is none. */
  endBelow(list: number, upTo: number): number {
    let high = 0;
    for (let at = list; at !== 0 && this.#low[at] < upTo; at = this.#next[at]) high = this.#high[at];
    return high;
  }

  /** Bytes of [from, to) that are in no range. */
  missing(list: number, from: number, to: number): number {
    let sum = 0;
    let edge = from;
    for (let at = list; at !== 0 && this.#low[at] < to; at = this.#next[at]) {
      if (this.#low[at] > edge) sum += this.#low[at] - edge;
      if (this.#high[at] > edge) edge = this.#high[at];
    }
    return to > edge ? sum + to - edge : sum;
  }

  /** Bytes in all ranges. */
  total(list: number): number {
    let sum = 0;
    for (let at = list; at !== 0; at = this.#next[at]) sum += this.#high[at] - this.#low[at];
    return sum;
  }

  clear(list: number): void {
    for (let at = list; at !== 0; ) at = this.#release(at);
  }

  #take(): number {
    const node = this.#free;
    if (node !== 0) {
      this.#free = this.#next[node];
      return node;
    }
    return this.#fresh < this.#next.length ? this.#fresh++ : 0;
  }

  #release(node: number): number {
    const next = this.#next[node];
    this.#next[node] = this.#free;
    this.#free = node;
    return next;
  }
}
