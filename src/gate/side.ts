import type { BpfMap } from '../kernel/index.ts';
import { SlSide, SlSideKey } from './layout.gen.ts';

/** Bytes of a note. */
export const NOTE_BYTES = SlSide.size;

/**
 * What owners note about flows beside their entries, under the same keys: for whoever comes after an owner that has died.
 * The kernel keeps the notes and never reads them.
 */
export class SideNotes {
  readonly #map: BpfMap;
  readonly #key = new Uint8Array(SlSideKey.size);

  constructor(map: BpfMap) {
    this.#map = map;
  }

  #at(family: 4 | 6, key: Uint8Array): Uint8Array {
    this.#key.fill(0);
    this.#key[SlSideKey.members.family] = family;
    this.#key.set(key, SlSideKey.members.key);
    return this.#key;
  }

  /** Writes NOTE_BYTES over what was there; false when the table is full. */
  write(family: 4 | 6, key: Uint8Array, note: Uint8Array): boolean {
    return this.#map.trySet(this.#at(family, key), note) === 0;
  }

  /** Reads NOTE_BYTES into `out`; false when there is no note. */
  read(family: 4 | 6, key: Uint8Array, out: Uint8Array): boolean {
    return this.#map.get(this.#at(family, key), out);
  }

  remove(family: 4 | 6, key: Uint8Array): void {
    this.#map.delete(this.#at(family, key));
  }

  /** The keys of all notes; nobody may write meanwhile. */
  *keys(): Generator<{ family: 4 | 6; key: Uint8Array }> {
    let at: Uint8Array | undefined;
    for (;;) {
      const next = new Uint8Array(SlSideKey.size);
      if (!this.#map.nextKey(at, next)) return;
      at = next;
      const family = next[SlSideKey.members.family] === 4 ? 4 : 6;
      const from = SlSideKey.members.key;
      yield { family, key: next.slice(from, from + (family === 4 ? 16 : 48)) };
    }
  }
}
