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

/** Two digits at a time: half as many divisions and pieces. */
const PAIRS = Array.from({ length: 3844 }, (_, n) => `${DIGITS[Math.floor(n / 62)]}${DIGITS[n % 62]}`);

function base62(high: number, low: number): string {
  let text = '';
  let h = high;
  let l = low;
  while (h !== 0 || l >= 3844) {
    const rest = (h % 3844) * 4_294_967_296 + l;
    h = Math.floor(h / 3844);
    l = Math.floor(rest / 3844);
    text = PAIRS[rest % 3844] + text;
  }
  return (l < 62 ? DIGITS[l] : PAIRS[l]) + text;
}
