import { randomInt } from 'node:crypto';
import { join } from 'node:path';
import { type BpfMap, type BpfObject, type BpfProgram, loadObject, packageRoot } from '../kernel/index.ts';

const WORDS = 2;
const WIDE_ADDRESS = 16;
const NARROW_ADDRESS = 4;
const SEEDS = 2 ** 32;

/** What a worker needs of the filter: descriptors by number, and the seed. */
export interface SnapHandles {
  program: number;
  slots: number;
  seed: number;
}

/** The filter of bpf/snap.bpf.c, for the rings of one interface. */
export class SnapFilter {
  readonly object: BpfObject;
  readonly seed: number;

  /** `vlanKey`: VLAN ids belong to the flow. Throws as loadObject. */
  constructor(vlanKey: boolean, seed: number = randomInt(SEEDS)) {
    this.seed = seed;
    this.object = loadObject(join(packageRoot(), 'build', 'bpf', 'snap.bpf.o'), {
      constants: { cfg_seed: seed, cfg_vlan: vlanKey ? 1 : 0 },
    });
  }

  get program(): BpfProgram {
    return this.object.program('sluice_snap');
  }

  get handles(): SnapHandles {
    const { object, program, seed } = this;
    return { program: program.fd, slots: object.map('slots').fd, seed };
  }

  close(): void {
    this.object.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function mix(hash: number, word: number): number {
  let h = hash ^ word;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

/** The table of flows of which headers are enough, in memory that the filter reads. */
export class SnapTable {
  readonly #words: Uint32Array;
  readonly #mask: number;
  readonly #seed: number;
  #hash = 0;
  #check = 0;

  constructor(slots: BpfMap, seed: number) {
    this.#words = new Uint32Array(slots.mmap(true), 0, slots.maxEntries * WORDS);
    this.#mask = slots.maxEntries - 1;
    this.#seed = seed;
  }

  /** From now on the headers of this flow are enough: its gate key (ADR 1), TCP or UDP, not in a tunnel. */
  mark(family: 4 | 6, key: Uint8Array): void {
    this.#look(family, key);
    const at = (this.#hash & this.#mask) * WORDS;
    this.#words[at] = this.#hash;
    this.#words[at + 1] = this.#check;
  }

  /** Its frames are whole again. */
  unmark(family: 4 | 6, key: Uint8Array): void {
    this.#look(family, key);
    const at = (this.#hash & this.#mask) * WORDS;
    if (this.#words[at] === this.#hash && this.#words[at + 1] === this.#check) this.#words[at + 1] = 0;
  }

  /** As the filter does. */
  #look(family: 4 | 6, key: Uint8Array): void {
    const view = new DataView(key.buffer, key.byteOffset, key.byteLength);
    const length = family === 4 ? NARROW_ADDRESS : WIDE_ADDRESS;
    let low = this.#seed;
    let high = this.#seed;
    let across = 0;
    for (let at = 0; at < length; at += 4) {
      const a = view.getUint32(at);
      const b = view.getUint32(length + at);
      low = mix(low, a);
      high = mix(high, b);
      across = ((across << 5) | (across >>> 27)) ^ a ^ b;
    }
    const lowPort = view.getUint16(2 * length);
    const highPort = view.getUint16(2 * length + 2);
    const word = view.getUint32(2 * length + 4, true);
    this.#hash = mix((mix(low, lowPort) + mix(high, highPort)) | 0, word) >>> 0;
    this.#check = ((across ^ ((lowPort ^ highPort) << 16) ^ (lowPort + highPort)) | 1) >>> 0;
  }
}
