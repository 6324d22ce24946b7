import { BatchCursor, type BpfMap } from '../kernel/index.ts';
import { type FlowKey, keyText } from './flow-key.ts';
import { SlSideKey } from './layout.gen.ts';

const M = SlSideKey.members;
const SLICE = 1024;

/**
 * The flows that a gate which shunts by itself is told not to, as somebody holds them (bpf/watch.h): once `put` has resolved none of
 * them is shunted until `drop`. The daemon keeps the holds; who has died holds nothing for the next one.
 */
export class HeldFlows {
  readonly #map: () => BpfMap;
  readonly #grace: () => Promise<void>;
  /** How often the gate was kept from each, as far as it has been told. */
  readonly #told = new Map<string, number>();

  /** `map`: the table `held` as it is now. `grace`: resolves when no packet that came before is still being worked on. */
  constructor(map: () => BpfMap, grace: () => Promise<void>) {
    this.#map = map;
    this.#grace = grace;
  }

  async put(keys: readonly FlowKey[]): Promise<void> {
    for (const { family, bytes } of keys) {
      const text = keyText(bytes);
      if (this.#told.has(text)) continue;
      this.#map().set(sideKey(family, bytes), new Uint8Array(8));
      this.#told.set(text, 0);
    }
    await this.#grace();
  }

  /** Lets go of one; how often it was kept from being shunted since the last time of asking. */
  drop({ family, bytes }: FlowKey): number {
    const text = keyText(bytes);
    const told = this.#told.get(text);
    if (told === undefined) return 0;
    const row = sideKey(family, bytes);
    const value = new Uint8Array(8);
    const kept = this.#map().get(row, value) ? countIn(value, 0) : told;
    this.#map().delete(row);
    this.#told.delete(text);
    return kept - told;
  }

  /** Tells of each flow that was kept from being shunted since the last time how often it was. */
  async news(tell: (key: Uint8Array, times: number) => void): Promise<void> {
    if (this.#told.size === 0) return;
    const map = this.#map();
    const keys = new Uint8Array(SLICE * map.keySize);
    const values = new Uint8Array(SLICE * map.valueBytes);
    const cursor = new BatchCursor();
    for (let done = false; !done; ) {
      const slice = await map.readBatch(cursor, keys, values, SLICE);
      done = slice.done;
      for (let i = 0; i < slice.count; i++) {
        const at = i * map.keySize;
        const size = keys[at + M.family] === 4 ? 16 : 48;
        const key = keys.slice(at + M.key, at + M.key + size);
        const told = this.#told.get(keyText(key));
        const kept = countIn(values, i * map.valueBytes);
        // It may have been let go of meanwhile.
        if (told === undefined || kept <= told) continue;
        this.#told.set(keyText(key), kept);
        tell(key, kept - told);
      }
    }
  }
}

function sideKey(family: number, bytes: Uint8Array): Uint8Array {
  const row = new Uint8Array(SlSideKey.size);
  row[M.family] = family;
  row.set(bytes, M.key);
  return row;
}

function countIn(values: Uint8Array, at: number): number {
  const view = new DataView(values.buffer, values.byteOffset + at, 8);
  return view.getUint32(0, true) + view.getUint32(4, true) * 2 ** 32;
}
