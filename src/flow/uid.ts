const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** Random numbers for uids: sfc32 from a random seed. Unguessable enough to be unique, which is all that they are for. */
export class UidSource {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: Int32Array) {
    this.#a = seed[0];
    this.#b = seed[1];
    this.#c = seed[2];
    for (let i = 0; i < 12; i++) this.next();
  }

  /** 32 bits. */
  next(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum;
  }
}

/** A connection's uid as Zeek writes it: "C", then 32 and 64 bits in base 62, unpadded. */
export function uidText(first: number, high: number, low: number): string {
  return `C${base62(0, first >>> 0)}${base62(high >>> 0, low >>> 0)}`;
}

function base62(high: number, low: number): string {
  let text = '';
  let h = high;
  let l = low;
  do {
    const rest = (h % 62) * 4_294_967_296 + l;
    h = Math.floor(h / 62);
    l = Math.floor(rest / 62);
    text = DIGITS[rest % 62] + text;
  } while (h !== 0 || l !== 0);
  return text;
}
