/**
 * Many texts at once in one pass (Aho and Corasick, 1975): what a name costs grows with its length and with what is found
 * in it, not with how many texts there are. Letters are taken in lower case: who minds looks again.
 */
export class Matcher {
  /** By state: next state for a character, state to fall back to, texts that end here. */
  readonly #next: Map<number, number>[] = [new Map()];
  readonly #fall: number[] = [0];
  readonly #ends: number[][] = [[]];

  /** Texts in lower case; each is told by its index. */
  constructor(texts: readonly string[]) {
    texts.forEach((text, index) => {
      let state = 0;
      for (let i = 0; i < text.length; i++) {
        const code = text.charCodeAt(i);
        let next = this.#next[state].get(code);
        if (next === undefined) {
          next = this.#next.push(new Map()) - 1;
          this.#fall.push(0);
          this.#ends.push([]);
          this.#next[state].set(code, next);
        }
        state = next;
      }
      this.#ends[state].push(index);
    });
    const queue = [...this.#next[0].values()];
    for (let head = 0; head < queue.length; head++) {
      const state = queue[head];
      for (const [code, next] of this.#next[state]) {
        queue.push(next);
        const fall = this.#step(this.#fall[state], code);
        this.#fall[next] = fall;
        this.#ends[next].push(...this.#ends[fall]);
      }
    }
  }

  #step(from: number, code: number): number {
    for (let state = from; ; state = this.#fall[state]) {
      const next = this.#next[state].get(code);
      if (next !== undefined) return next;
      if (state === 0) return 0;
    }
  }

  /** Tells each text that stands in `text`, which is in lower case, with the index behind it. */
  find(text: string, found: (index: number, end: number) => void): void {
    let state = 0;
    for (let i = 0; i < text.length; i++) {
      state = this.#step(state, text.charCodeAt(i));
      for (const index of this.#ends[state]) found(index, i + 1);
    }
  }
}
