/** Keeps a client within what the gate takes: so many requests a second, and so many saved up. */
export class Bucket {
  #perSecond: number;
  readonly #burst: number;
  #tokens: number;
  #at = performance.now();

  constructor(perSecond: number, burst: number) {
    this.#perSecond = perSecond;
    this.#burst = burst;
    this.#tokens = burst;
  }

  /** The gate has refused one: nothing is saved up, and fewer go from now on. */
  slow(): void {
    this.#tokens = Math.min(this.#tokens, 0);
    this.#perSecond = Math.max(LEAST, this.#perSecond * 0.8);
  }

  /** Takes one, and resolves when it may be used. */
  async take(): Promise<void> {
    const now = performance.now();
    this.#tokens = Math.min(this.#burst, this.#tokens + ((now - this.#at) / 1000) * this.#perSecond);
    this.#at = now;
    this.#tokens--;
    if (this.#tokens < 0) await pause((-this.#tokens / this.#perSecond) * 1000);
  }
}

/** Below this a client is not slowed down. */
const LEAST = 100;

export function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}
