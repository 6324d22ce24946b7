/** Milliseconds that a detector lives without being heard of. */
export const LIFE = 3000;

interface Lease {
  readonly holder: string | null;
  readonly revision: number;
}

/** A lease as it was when somebody decided to change it; revision 0: there was none. */
export interface LeaseStep {
  readonly name: string;
  readonly revision: number;
}

/**
 * Who holds what, as one detector sees it: pure, all times are milliseconds of its own steady clock, so that no two clocks
 * have to agree. A detector is alive for as long as its session changes: `life` after the last change that was seen, anybody may take what
 * it held. It itself ends `life` after it *sent* its last renewal, which is earlier: as long as clocks go equally fast, no two hold one lease.
 */
export class LeaseBook {
  readonly id: string;
  readonly #names: readonly string[];
  readonly #life: number;
  readonly #sessions = new Map<string, number>();
  /** Those that were seen to change, and not only to be there: what a dead one has left is there too. */
  readonly #proven = new Set<string>();
  readonly #leases = new Map<string, Lease>();
  #renewed = Number.NEGATIVE_INFINITY;
  /** All that was there when the watch began has been seen. */
  ready = false;

  /** @param id hexadecimal digits, like nobody else's */
  constructor(id: string, names: readonly string[], life = LIFE) {
    this.id = id;
    this.#names = names;
    this.#life = life;
  }

  /** A session was begun or renewed, or (`there` false) is gone. */
  sawSession(id: string, there: boolean, now: number): void {
    if (there) this.#sessions.set(id, now);
    else this.#sessions.delete(id);
    if (there && this.ready) this.#proven.add(id);
    else this.#proven.delete(id);
  }

  sawLease(name: string, holder: string | null, revision: number): void {
    if (revision > (this.#leases.get(name)?.revision ?? 0)) this.#leases.set(name, { holder, revision });
  }

  /** The server has our renewal; `sent` is when it was sent. */
  renewed(sent: number): void {
    this.#renewed = Math.max(this.#renewed, sent);
  }

  /** Whether we may act: somebody else may take everything soon after. */
  valid(now: number): boolean {
    return now < this.#renewed + this.#life;
  }

  /** What we hold. */
  held(now: number): string[] {
    return this.ready && this.valid(now) ? this.#mine() : [];
  }

  #mine(): string[] {
    return this.#names.filter((name) => this.#leases.get(name)?.holder === this.id);
  }

  #isAlive(id: string, now: number): boolean {
    return now - (this.#sessions.get(id) ?? Number.NEGATIVE_INFINITY) < this.#life;
  }

  /** Detectors that live, in the order that shares are given in. */
  alive(now: number): string[] {
    return [...this.#sessions.keys()].filter((id) => this.#isAlive(id, now)).sort();
  }

  /** Sessions that ended so long ago that nobody needs them. */
  stale(now: number, after: number): string[] {
    return [...this.#sessions].filter(([, seen]) => now - seen > after).map(([id]) => id);
  }

  /** Changes with each change of the lease. */
  revision(name: string): number {
    return this.#leases.get(name)?.revision ?? 0;
  }

  /** How many we are to hold: shares differ by one at most. */
  quota(now: number): number {
    return this.#quota(this.alive(now));
  }

  #quota(alive: readonly string[]): number {
    const rank = alive.indexOf(this.id);
    if (rank < 0) return 0;
    const count = this.#names.length;
    return Math.floor(count / alive.length) + (rank < count % alive.length ? 1 : 0);
  }

  /** What to take, and what to give back. Nothing, unless our own renewals are seen: else others would only look dead. */
  plan(now: number): { claim: LeaseStep[]; release: LeaseStep[] } {
    if (!this.ready || !this.valid(now) || !this.#isAlive(this.id, now)) return { claim: [], release: [] };
    const quota = this.quota(now);
    const mine = this.#mine();
    const step = (name: string): LeaseStep => ({ name, revision: this.revision(name) });
    if (mine.length >= quota) {
      // Nothing is given back for somebody who may be dead.
      const proven = this.alive(now).filter((id) => id === this.id || this.#proven.has(id));
      return { claim: [], release: mine.slice(this.#quota(proven)).map(step) };
    }
    const free = this.#names.filter((name) => {
      const holder = this.#leases.get(name)?.holder ?? null;
      return holder === null || !this.#isAlive(holder, now);
    });
    // Each begins elsewhere, so that not all want the same ones.
    const begin = Number.parseInt(this.id.slice(0, 8), 16) % Math.max(1, free.length);
    const turned = [...free.slice(begin), ...free.slice(0, begin)];
    return { claim: turned.slice(0, quota - mine.length).map(step), release: [] };
  }
}
