import type { GateInterface } from './control-places.ts';
import { PinDirectory } from './pins.ts';

/** What one gate holds for itself: the lock of each of its interfaces, and the pins under the first of them. */
export class Claims {
  readonly pins: PinDirectory;
  readonly #others: Map<number, PinDirectory>;

  private constructor(pins: PinDirectory, others: Map<number, PinDirectory>) {
    this.pins = pins;
    this.#others = others;
  }

  /**
   * All or none.
   * @param home whose name the pins bear; it may have gone since
   * @throws SluiceError INTERFACE_BUSY which names the interface that another Sluice holds, PIN_FOREIGN, PRIVILEGE
   */
  static claim(all: readonly GateInterface[], home: number): Claims {
    const wanted = new Map([[home, `${home}`], ...all.map((each) => [each.ifindex, each.ifname] as const)]);
    const held = new Map<number, PinDirectory>();
    try {
      // In one order whoever asks: of two that want the same ones, one gets them.
      for (const ifindex of [...wanted.keys()].toSorted((a, b) => a - b))
        held.set(ifindex, PinDirectory.claim(ifindex, wanted.get(ifindex) as string));
    } catch (error) {
      for (const each of held.values()) each.release();
      throw error;
    }
    const pins = held.get(home) as PinDirectory;
    held.delete(home);
    return new Claims(pins, held);
  }

  /** Leaves an interface to others; the one with the pins stays. */
  drop(ifindex: number): void {
    this.#others.get(ifindex)?.release();
    this.#others.delete(ifindex);
  }

  /** Those without pins first: who waits for the gate to be down waits for the lock of the first interface. */
  release(): void {
    for (const each of this.#others.values()) each.release();
    this.pins.release();
  }
}
