/** Reads ASN.1 in BER: one element after the other of u8[at, end), definite lengths only. */
export class Ber {
  readonly u8: Uint8Array;
  /** Identifier octet of the element. */
  tag = 0;
  /** Its contents are u8[from, to); `to` may lie beyond what was kept of the message. */
  from = 0;
  to = 0;
  #at: number;
  readonly #end: number;

  constructor(u8: Uint8Array, at: number, end: number) {
    this.u8 = u8;
    this.#at = at;
    this.#end = end;
  }

  /** The next element; false when there is none, or no header that can be read. Tags of one octet only. */
  next(): boolean {
    const size = berHeader(this.u8, this.#at, this.#end);
    if (size <= 0) return false;
    this.tag = this.u8[this.#at];
    this.from = this.#at + size;
    this.to = this.from + berLength(this.u8, this.#at);
    this.#at = this.to;
    return true;
  }

  /** The next element if it has this tag. */
  expect(tag: number): boolean {
    return this.next() && this.tag === tag;
  }

  /** What is inside of the element, as far as it is there. */
  inside(): Ber {
    return new Ber(this.u8, this.from, Math.min(this.to, this.#end));
  }

  /** End of the contents that are there. */
  get until(): number {
    return Math.min(this.to, this.#end);
  }

  /** Value of a small INTEGER or ENUMERATED; -1 when it is negative or takes more than four octets. */
  integer(): number {
    const length = this.to - this.from;
    if (length < 1 || length > 4 || this.to > this.#end || this.u8[this.from] > 127) return -1;
    let value = 0;
    for (let i = this.from; i < this.to; i++) value = value * 256 + this.u8[i];
    return value;
  }
}

/** Octets of the header at u8[at, end): 0 when more are needed, -1 for none that is read here. */
export function berHeader(u8: Uint8Array, at: number, end: number): number {
  if (end - at < 2) return 0;
  const form = u8[at + 1];
  if ((u8[at] & 0x1f) === 0x1f || form === 0x80 || form > 0x84) return -1;
  const size = form < 0x80 ? 2 : 2 + (form & 0x7f);
  return size > end - at ? 0 : size;
}

/** Length of the contents, of a header that is there. */
export function berLength(u8: Uint8Array, at: number): number {
  const form = u8[at + 1];
  if (form < 0x80) return form;
  let length = 0;
  for (let i = 0; i < (form & 0x7f); i++) length = length * 256 + u8[at + 2 + i];
  return length;
}
