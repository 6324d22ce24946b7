/** How many connections a policy may take: at most so many a second, and so many at the same time. */
export interface BudgetLimits {
  perSecond?: number | undefined;
  live?: number | undefined;
}

/** Seconds of the rate that may be had at once. */
const BURST_SECONDS = 1;

/** Counts what a policy takes. Times are packet time, seconds; a step back gives nothing. */
export class Budget {
  readonly #perSecond: number;
  readonly #maxLive: number;
  #tokens: number;
  #last = Number.NEGATIVE_INFINITY;
  #live = 0;

  constructor({ perSecond = Number.POSITIVE_INFINITY, live = Number.POSITIVE_INFINITY }: BudgetLimits) {
    this.#perSecond = perSecond;
    this.#maxLive = live;
    this.#tokens = Math.max(1, perSecond * BURST_SECONDS);
  }

  take(now: number): boolean {
    if (this.#live >= this.#maxLive) return false;
    if (this.#perSecond !== Number.POSITIVE_INFINITY) {
      if (now > this.#last) {
        const since = this.#last === Number.NEGATIVE_INFINITY ? 0 : now - this.#last;
        this.#tokens = Math.min(
          Math.max(1, this.#perSecond * BURST_SECONDS),
          this.#tokens + since * this.#perSecond,
        );
        this.#last = now;
      }
      if (this.#tokens < 1) return false;
      this.#tokens--;
    }
    this.#live++;
    return true;
  }

  /** One that was taken has ended. */
  giveBack(): void {
    if (this.#live > 0) this.#live--;
  }
}
