import { SluiceError } from '../base/errors.ts';
import { monotonicSeconds } from './clock.ts';
import type { PairRow as Wire } from './control-protocol.ts';
import { BY_HAND } from './daemon-shunt.ts';
import { type Exceptions, mappedAddress, mappedPrefix, mappedText, pairTest } from './exceptions.ts';
import type { Features } from './features.ts';
import type { FlowKey } from './flow-key.ts';
import type { Owners } from './owners.ts';
import type { PairRow, Pairs, PrefixPairs } from './pairs.ts';
import { nextTurn, Portion } from './turns.ts';

/** Two addresses, or two prefixes when one of them has a slash. */
export interface PairName {
  a: string;
  b: string;
  vlan: number;
  innerVlan: number;
}

/** Pairs that are read in one turn of the event loop. */
const PORTION = 256;

/** `a` or `b` is a prefix: the pair is a row of the list that is searched, not a key of the table. */
export function isPrefixPair({ a, b }: PairName): boolean {
  return a.includes('/') || b.includes('/');
}

/** Address pairs, prefix pairs and exceptions, as the daemon keeps them. */
export class PairKeeper {
  readonly #pairs: Pairs;
  readonly #prefixes: PrefixPairs;
  readonly #exceptions: Exceptions;
  readonly #owners: Owners;
  readonly #enable: (features: Partial<Features>) => void;
  #working = false;

  /** `enable` switches the gate's own looking on: it is off, and free, until the first pair. */
  constructor(
    pairs: Pairs,
    prefixes: PrefixPairs,
    exceptions: Exceptions,
    owners: Owners,
    enable: (features: Partial<Features>) => void,
  ) {
    this.#pairs = pairs;
    this.#prefixes = prefixes;
    this.#exceptions = exceptions;
    this.#owners = owners;
    this.#enable = enable;
    // Found after a restart.
    if (pairs.rows().next().done !== true) enable({ pairs: true });
    for (const { row } of prefixes.list()) enable({ prefixes: rowsFor(row) });
  }

  /**
   * @param slot owner; 0 is by hand, which needs a time limit
   * @param ttl seconds from now; undefined: as long as the owner's lease
   * @throws SluiceError USAGE, EXISTS, REFUSED, MAP_FULL
   */
  add(name: PairName, slot: number, ttl: number | undefined): void {
    const options = {
      ...(slot === BY_HAND ? {} : { owner: slot }),
      ...(ttl === undefined ? {} : { limit: Math.ceil(monotonicSeconds() + ttl) }),
    };
    if (isPrefixPair(name)) {
      if (name.vlan !== 0 || name.innerVlan !== 0)
        throw new SluiceError('REFUSED', 'prefix pairs hold in every VLAN', { help: 'leave the VLAN out' });
      if (this.#row(name) !== undefined) throw exists();
      const row = this.#prefixes.add(name.a, name.b, options);
      this.#enable({ prefixes: rowsFor(row) });
      return;
    }
    for (const address of [name.a, name.b])
      if (this.#exceptions.covers(mappedAddress(address))) throw excepted(address);
    const { vlan, innerVlan } = name;
    if (!this.#pairs.add(name.a, name.b, { ...options, vlan, innerVlan })) throw exists();
    this.#enable({ pairs: true });
  }

  /** The last counts of a pair that has ended. @throws SluiceError NOT_FOUND, DENIED, USAGE */
  async remove(name: PairName, uid: number | undefined): Promise<Wire> {
    const found = this.#find(name);
    if (found === undefined)
      throw new SluiceError('NOT_FOUND', `${name.a} and ${name.b} are not shunted as a pair`);
    if (!this.#owners.mayEnd(found.owner, uid))
      throw new SluiceError('DENIED', `the pair ${name.a} ${name.b} belongs to another user's owner`);
    return this.#wire((await this.#end(found)) ?? found);
  }

  #find(name: PairName): PairRow | undefined {
    return isPrefixPair(name) ? this.#row(name) : this.#pairs.get(name.a, name.b, name);
  }

  #row({ a, b }: PairName): (PairRow & { row: number }) | undefined {
    const [x, y] = [canonical(a), canonical(b)];
    return this.#prefixes.list().find((row) => (row.a === x && row.b === y) || (row.a === y && row.b === x));
  }

  async #end(pair: PairRow & { row?: number }): Promise<PairRow | undefined> {
    if (pair.row !== undefined) return await this.#prefixes.remove(pair.row);
    return await this.#pairs.remove(pair.a, pair.b, pair);
  }

  /** Pairs of addresses, each once; the event loop has its turn in between. */
  async #ofAddresses(): Promise<PairRow[]> {
    const found = new Map<string, PairRow>();
    const portion = new Portion(PORTION);
    for (const pair of this.#pairs.rows()) {
      found.set(`${pair.a} ${pair.b} ${pair.vlan} ${pair.innerVlan}`, pair);
      if (portion.full()) await nextTurn();
    }
    return [...found.values()];
  }

  async #all(): Promise<(PairRow & { row?: number })[]> {
    return [...(await this.#ofAddresses()), ...this.#prefixes.list()];
  }

  async list(): Promise<Wire[]> {
    return (await this.#all()).map((pair) => this.#wire(pair));
  }

  #wire({ a, b, vlan, innerVlan, owner, limit, ab, ba }: PairRow): Wire {
    const offset = Date.now() / 1000 - monotonicSeconds();
    const last = Math.max(ab.last, ba.last);
    return {
      a,
      b,
      vlan,
      innerVlan,
      owner: this.#owners.nameOf(owner),
      expires: limit === 0 ? null : limit + offset,
      last: last === 0 ? null : last + offset,
      ab: { pkts: ab.pkts, ipBytes: ab.ipBytes },
      ba: { pkts: ba.pkts, ipBytes: ba.ipBytes },
    };
  }

  /** Ends what is over: by time limit, or with its owner's lease. Told one by one. */
  async expire(told: (pair: Wire, reason: string) => void): Promise<void> {
    if (this.#working) return;
    this.#working = true;
    try {
      const now = monotonicSeconds();
      for (const pair of await this.#all()) {
        // Whose pair it is ends it, and tells of it.
        if (!this.#owners.isClient(pair.owner)) continue;
        const over =
          pair.limit !== 0 && pair.limit < now ? 'limit' : this.#lapsed(pair) ? 'lease' : undefined;
        if (over !== undefined) told(this.#wire((await this.#end(pair)) ?? pair), over);
      }
    } finally {
      this.#working = false;
    }
  }

  /** Ends the pairs that hold one of these flows back; for each flow whether there was one. */
  async release(keys: readonly FlowKey[], told: (pair: Wire, reason: string) => void): Promise<boolean[]> {
    const was = keys.map(() => false);
    for (const pair of await this.#all()) {
      const covers = pairTest(pair.a, pair.b);
      const over = keys.map(({ bytes }) => covers(bytes) && (pair.row !== undefined || inVlans(bytes, pair)));
      if (!over.includes(true)) continue;
      over.forEach((one, i) => (was[i] ||= one));
      told(this.#wire((await this.#end(pair)) ?? pair), 'hold');
    }
    return was;
  }

  #lapsed({ owner }: PairRow): boolean {
    return owner !== BY_HAND && this.#owners.lapsed(owner);
  }

  /** Pairs of addresses under a new exception end at once; prefix pairs stay, the kernel asks the exceptions first. */
  async purge(told: (pair: Wire, reason: string) => void): Promise<void> {
    for (const pair of await this.#ofAddresses()) {
      if (![pair.a, pair.b].some((address) => this.#exceptions.covers(mappedAddress(address)))) continue;
      told(this.#wire((await this.#pairs.remove(pair.a, pair.b, pair)) ?? pair), 'exception');
    }
  }
}

/** The VLAN ids of a key are those of the pair. */
function inVlans(key: Uint8Array, { vlan, innerVlan }: PairRow): boolean {
  const word = new DataView(key.buffer, key.byteOffset).getUint32(key.length === 16 ? 12 : 36, true);
  return ((word >>> 8) & 0xfff) === vlan && word >>> 20 === innerVlan;
}

/** As few rows as hold this one, in steps: each packet is held against all of them. */
function rowsFor(row: number): number {
  return 2 ** Math.ceil(Math.log2(row + 1));
}

/** A prefix as the list writes it: bits beyond its length are kept, an address has its full length. */
function canonical(text: string): string {
  const { bytes, length } = mappedPrefix(text);
  const address = mappedText(bytes, 0);
  return `${address}/${address.includes(':') ? length : length - 96}`;
}

function exists(): SluiceError {
  return new SluiceError('EXISTS', 'this pair is shunted already', { help: 'sluice shunt rm ends it' });
}

/** The refusal of what an exception covers. */
export function excepted(address: string): SluiceError {
  return new SluiceError('REFUSED', `${address} is under an exception: it is never shunted`, {
    help: '`sluice shunt exception ls` lists them',
  });
}
