import { SluiceError } from '../base/errors.ts';
import { type BpfMap, UpdateFlag } from '../kernel/index.ts';
import { mappedAddress, mappedPrefix, mappedText } from './exceptions.ts';
import { SlPair, SlPairCount, SlPairKey, SlPrefixPair } from './layout.gen.ts';
import type { Ops } from './ops.ts';

const P = SlPair.members;
const C = SlPairCount.members;
const K = SlPairKey.members;
const R = SlPrefixPair.members;

/** What was dropped from `a` to `b` and back. */
export interface PairCounts {
  pkts: number;
  ipBytes: number;
  /** CLOCK_MONOTONIC seconds; 0: none. */
  last: number;
}

export interface PairRow {
  a: string;
  b: string;
  vlan: number;
  innerVlan: number;
  owner: number;
  /** CLOCK_MONOTONIC seconds after which it matches no more; 0: as long as its owner's lease. */
  limit: number;
  ab: PairCounts;
  ba: PairCounts;
}

export interface PairOptions {
  vlan?: number;
  innerVlan?: number;
  /** A lease owner; without one `limit` is needed. */
  owner?: number;
  limit?: number;
}

function pairValue(options: PairOptions): Uint8Array {
  const { owner = 0, limit = 0 } = options;
  if (owner === 0 && limit === 0) {
    throw new SluiceError('USAGE', 'an address pair needs a time limit or an owner with a lease', {
      help: 'give it a time to live',
    });
  }
  const value = new Uint8Array(SlPair.size);
  const view = new DataView(value.buffer);
  view.setUint32(P.owner, owner, true);
  view.setUint32(P.limit, Math.ceil(limit), true);
  return value;
}

function u64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
}

function counts(view: DataView, at: number): PairCounts {
  return {
    pkts: u64(view, at + C.pkts),
    ipBytes: u64(view, at + C.ip_bytes),
    last: u64(view, at + C.last) / 1e9,
  };
}

function row(view: DataView, pair: number, a: string, b: string, vlans: number): PairRow {
  return {
    a,
    b,
    vlan: (vlans >>> 8) & 0xfff,
    innerVlan: vlans >>> 20,
    owner: view.getUint32(pair + P.owner, true),
    limit: view.getUint32(pair + P.limit, true),
    ab: counts(view, pair + P.count),
    ba: counts(view, pair + P.count + SlPairCount.size),
  };
}

/** Everything between two addresses, whatever the protocol: fragments, ICMP and cut headers included. */
export class Pairs {
  readonly #map: BpfMap;
  readonly #ops: Ops;
  readonly #grace: () => Promise<void>;

  constructor(map: BpfMap, ops: Ops, grace: () => Promise<void>) {
    this.#map = map;
    this.#ops = ops;
    this.#grace = grace;
  }

  /** False when the pair is there already; its counters are not touched. Throws USAGE, MAP_FULL. */
  add(a: string, b: string, options: PairOptions): boolean {
    const result = this.#map.trySet(keyOf(a, b, options), pairValue(options), UpdateFlag.noExist);
    if (result === -17) return false;
    if (result !== 0) {
      throw new SluiceError('MAP_FULL', 'there is no room for another address pair', {
        cause: `errno ${-result}`,
        help: 'remove some, or make the table larger',
      });
    }
    return true;
  }

  get(a: string, b: string, options: PairOptions = {}): PairRow | undefined {
    const key = keyOf(a, b, options);
    const value = new Uint8Array(this.#map.valueBytes);
    return this.#map.get(key, value) ? this.#row(key, value) : undefined;
  }

  /** Ends a pair and returns its last counts, exact; undefined when there was none. */
  async remove(a: string, b: string, options: PairOptions = {}): Promise<PairRow | undefined> {
    const key = keyOf(a, b, options);
    this.#ops.clear();
    const at = this.#ops.push('pairEnd', 6, key, 0, 0, 0, [0, 0], [0, 0]);
    this.#ops.run();
    if (this.#ops.result(at) !== 0) return undefined;
    await this.#grace();
    const last = this.get(a, b, options);
    this.#map.delete(key);
    return last;
  }

  /** All pairs; when one that was told goes before the next is asked for, those before it are told again. */
  *rows(): Generator<PairRow> {
    const value = new Uint8Array(this.#map.valueBytes);
    let key: Uint8Array | undefined;
    for (;;) {
      const next = new Uint8Array(this.#map.keySize);
      if (!this.#map.nextKey(key, next)) return;
      key = next;
      if (this.#map.get(next, value)) yield this.#row(next, value);
    }
  }

  #row(key: Uint8Array, value: Uint8Array): PairRow {
    const vlans = new DataView(key.buffer, key.byteOffset).getUint32(K.vlans, true);
    return row(
      new DataView(value.buffer),
      0,
      mappedText(key, K.low_addr),
      mappedText(key, K.high_addr),
      vlans,
    );
  }
}

function keyOf(a: string, b: string, options: PairOptions): Uint8Array {
  const [low, high] = [mappedAddress(a), mappedAddress(b)].sort((x, y) => Buffer.compare(x, y));
  const key = new Uint8Array(SlPairKey.size);
  key.set(low, K.low_addr);
  key.set(high, K.high_addr);
  new DataView(key.buffer).setUint32(
    K.vlans,
    (((options.vlan ?? 0) << 8) | ((options.innerVlan ?? 0) << 20)) >>> 0,
    true,
  );
  return key;
}

/** Everything between two prefixes: a short list, searched in order for each packet that nothing else holds back. */
export class PrefixPairs {
  readonly #map: BpfMap;
  readonly #ops: Ops;
  readonly #grace: () => Promise<void>;

  constructor(map: BpfMap, ops: Ops, grace: () => Promise<void>) {
    this.#map = map;
    this.#ops = ops;
    this.#grace = grace;
  }

  /** Row of the list. Throws USAGE, MAP_FULL. */
  add(a: string, b: string, options: Omit<PairOptions, 'vlan' | 'innerVlan'>): number {
    const [from, to] = [mappedPrefix(a), mappedPrefix(b)];
    const value = new Uint8Array(SlPrefixPair.size);
    const view = new DataView(value.buffer);
    value.set(from.bytes, R.a);
    value.set(to.bytes, R.b);
    view.setUint32(R.a_len, from.length, true);
    view.setUint32(R.b_len, to.length, true);
    view.setUint32(R.used, 1, true);
    value.set(pairValue(options), R.pair);
    for (let at = 0; at < this.#map.maxEntries; at++) {
      if (this.#read(at) !== undefined) continue;
      this.#map.set(rowKey(at), value);
      return at;
    }
    throw new SluiceError('MAP_FULL', `all ${this.#map.maxEntries} rows of the prefix list are in use`, {
      help: 'remove some, or make the list longer',
    });
  }

  /** Ends a row and returns its last counts; undefined when it was not in use. */
  async remove(at: number): Promise<PairRow | undefined> {
    if (this.#read(at) === undefined) return undefined;
    this.#ops.clear();
    this.#ops.push('prefixEnd', 6, new Uint8Array(0), 0, 0, at, [0, 0], [0, 0]);
    this.#ops.run();
    await this.#grace();
    const last = this.#read(at, true);
    this.#map.set(rowKey(at), new Uint8Array(SlPrefixPair.size));
    return last;
  }

  list(): ({ row: number } & PairRow)[] {
    const rows: ({ row: number } & PairRow)[] = [];
    for (let at = 0; at < this.#map.maxEntries; at++) {
      const found = this.#read(at);
      if (found !== undefined) rows.push({ row: at, ...found });
    }
    return rows;
  }

  #read(at: number, ended = false): PairRow | undefined {
    const value = new Uint8Array(this.#map.valueBytes);
    if (!this.#map.get(rowKey(at), value)) return undefined;
    const view = new DataView(value.buffer);
    if (!ended && view.getUint32(R.used, true) === 0) return undefined;
    const prefix = (address: number, length: number): string => {
      const text = mappedText(value, address);
      return `${text}/${view.getUint32(length, true) - (text.includes(':') ? 0 : 96)}`;
    };
    return row(view, R.pair, prefix(R.a, R.a_len), prefix(R.b, R.b_len), 0);
  }
}

function rowKey(at: number): Uint8Array {
  const key = new Uint8Array(4);
  new DataView(key.buffer).setUint32(0, at, true);
  return key;
}
