import { attachmentText, endpointText, GwlbMetadata } from '../packet/encap/index.ts';
import type { Packet } from '../packet/packet.ts';
import type { GwlbInfo } from './types.ts';

/** Of each slot: whether there is a note, then its five words. */
const WORDS = 6;

/** What AWS Gateway Load Balancer said of the first packet of each flow. Takes no memory before the first such packet. */
export class GwlbNotes {
  readonly #capacity: number;
  readonly #metadata = new GwlbMetadata();
  #words: Uint32Array | undefined;

  constructor(capacity: number) {
    this.#capacity = capacity;
  }

  /** There has been a note of some flow: every flow that begins has to be told of. */
  get isUsed(): boolean {
    return this.#words !== undefined;
  }

  /** A flow begins with this packet. */
  opened(slot: number, packet: Packet): void {
    if (packet.optionsBytes === 0 && this.#words === undefined) return;
    const found = packet.optionsBytes > 0 && this.#metadata.read(packet);
    if (this.#words === undefined) {
      if (!found) return;
      this.#words = new Uint32Array(this.#capacity * WORDS);
    }
    const words = this.#words;
    const at = slot * WORDS;
    words[at] = found ? 1 : 0;
    if (!found) return;
    const { endpointHigh, endpointLow, attachmentHigh, attachmentLow, flowCookie } = this.#metadata;
    words[at + 1] = endpointHigh;
    words[at + 2] = endpointLow;
    words[at + 3] = attachmentHigh;
    words[at + 4] = attachmentLow;
    words[at + 5] = flowCookie;
  }

  /** The flow in this slot is known from elsewhere: nothing was said of its first packet. */
  forget(slot: number): void {
    if (this.#words !== undefined) this.#words[slot * WORDS] = 0;
  }

  of(slot: number): GwlbInfo | undefined {
    const words = this.#words;
    const at = slot * WORDS;
    if (words === undefined || words[at] === 0) return undefined;
    return {
      endpoint: endpointText(words[at + 1], words[at + 2]),
      attachment: attachmentText(words[at + 3], words[at + 4]),
      cookie: words[at + 5],
    };
  }
}
