/** Resolves in the next turn of the event loop, after whoever waits for a socket or timer has been served. */
export function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Counts pieces of work: long work gives the event loop back after each portion, however much of it there is. */
export class Portion {
  readonly #size: number;
  #done = 0;

  constructor(size: number) {
    this.#size = size;
  }

  /** Notes a piece; true when it was the last of a portion: time for `nextTurn`. */
  full(): boolean {
    if (++this.#done < this.#size) return false;
    this.#done = 0;
    return true;
  }
}

/** Gives each who asks a turn of the event loop of its own, in the order of asking. */
export class Queue {
  #last: Promise<void> = Promise.resolve();

  turn(): Promise<void> {
    this.#last = this.#last.then(nextTurn);
    return this.#last;
  }
}
