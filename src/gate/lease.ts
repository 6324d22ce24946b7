import { monotonicSeconds } from './clock.ts';

const NEVER = 2n ** 64n - 1n;

/**
 * An owner's lease: a deadline in the mapped `leases` map (CLOCK_MONOTONIC ns). The kernel stops matching the
 * owner's entries once it has passed, so renew it from progress, not from a timer of another thread.
 */
export class Lease {
  readonly #slots: BigUint64Array;
  readonly #owner: number;
  readonly #seconds: number | 'off';

  /** `seconds`: 'off' for an owner that goes without a lease. */
  constructor(memory: ArrayBuffer, owner: number, seconds: number | 'off') {
    this.#slots = new BigUint64Array(memory);
    this.#owner = owner;
    this.#seconds = seconds;
  }

  /** From now on for its time; without a lease for ever. */
  renew(): void {
    const until =
      this.#seconds === 'off' ? NEVER : BigInt(Math.round((monotonicSeconds() + this.#seconds) * 1e9));
    Atomics.store(this.#slots, this.#owner, until);
  }

  lapsed(): boolean {
    return Atomics.load(this.#slots, this.#owner) < BigInt(Math.round(monotonicSeconds() * 1e9));
  }

  /** Lets the lease lapse at once. */
  drop(): void {
    Atomics.store(this.#slots, this.#owner, 0n);
  }
}
