import { C_HISTORY, C_HISTORY_LENGTH, COLD_BYTES, COLD_WORDS, HISTORY_BYTES, SEEN, WORDS } from './layout.ts';
import type { FlowTable } from './table.ts';

const CARET = 0x5e;
const LARGE_H = 0x48;
const TO_LOWER = 0x20;
/** Letters beyond those in the record; what a flow adds above this is left out. */
const MAX_OVERFLOW = 4096;

/** The histories of all flows: the first letters in the record, those of the few long ones beside it. */
export class Histories {
  readonly #words: Int32Array;
  readonly #cold: Int32Array;
  readonly #bytes: Uint8Array;
  readonly #overflow = new Map<number, string>();

  constructor(table: FlowTable) {
    this.#words = table.words;
    this.#cold = table.cold;
    this.#bytes = table.coldBytes;
  }

  /** Adds an upper case letter, in lower case for the responder. */
  add(slot: number, letter: number, isOrig: boolean): void {
    this.addLetter(slot, isOrig || letter === CARET ? letter : letter | TO_LOWER);
  }

  /** Adds a letter as it is. */
  addLetter(slot: number, code: number): void {
    const at = slot * COLD_WORDS + C_HISTORY_LENGTH;
    const length = this.#cold[at];
    if (length < HISTORY_BYTES) {
      this.#bytes[slot * COLD_BYTES + C_HISTORY + length] = code;
    } else if (length < MAX_OVERFLOW) {
      this.#overflow.set(slot, (this.#overflow.get(slot) ?? '') + String.fromCharCode(code));
    } else {
      return;
    }
    this.#cold[at] = length + 1;
  }

  /** Adds the letter unless that bit was set for the direction; whether it was. */
  once(slot: number, bit: number, letter: number, isOrig: boolean): boolean {
    const at = slot * WORDS + SEEN;
    const seen = this.#words[at];
    const mask = isOrig ? bit : bit << 16;
    if ((seen & mask) !== 0) return true;
    this.#words[at] = seen | mask;
    this.add(slot, letter, isOrig);
    return false;
  }

  flipped(slot: number): void {
    this.add(slot, CARET, true);
  }

  /** The history is "H" and nothing else. */
  isLoneSynAck(slot: number): boolean {
    return (
      this.#cold[slot * COLD_WORDS + C_HISTORY_LENGTH] === 1 &&
      this.#bytes[slot * COLD_BYTES + C_HISTORY] === LARGE_H
    );
  }

  /** "H" becomes "^h": what began with a SYN-ACK was sent by the responder. */
  turnSynAck(slot: number): void {
    const at = slot * COLD_BYTES + C_HISTORY;
    this.#bytes[at] = CARET;
    this.#bytes[at + 1] = LARGE_H | TO_LOWER;
    this.#cold[slot * COLD_WORDS + C_HISTORY_LENGTH] = 2;
  }

  text(slot: number): string {
    const length = Math.min(this.#cold[slot * COLD_WORDS + C_HISTORY_LENGTH], HISTORY_BYTES);
    const at = slot * COLD_BYTES + C_HISTORY;
    let text = '';
    for (let i = 0; i < length; i++) text += String.fromCharCode(this.#bytes[at + i]);
    return length < HISTORY_BYTES ? text : text + (this.#overflow.get(slot) ?? '');
  }

  /** What of the text has no room in the record. */
  more(slot: number): string | undefined {
    return this.#cold[slot * COLD_WORDS + C_HISTORY_LENGTH] > HISTORY_BYTES
      ? this.#overflow.get(slot)
      : undefined;
  }

  release(slot: number): void {
    if (this.#cold[slot * COLD_WORDS + C_HISTORY_LENGTH] > HISTORY_BYTES) this.#overflow.delete(slot);
  }
}

/** C, G, T and W are recorded the 1st, 10th, 100th … time. */
export function isRecorded(occurrence: number): boolean {
  switch (occurrence) {
    case 1:
    case 10:
    case 100:
    case 1_000:
    case 10_000:
    case 100_000:
    case 1_000_000:
    case 10_000_000:
    case 100_000_000:
    case 1_000_000_000:
      return true;
    default:
      return false;
  }
}
