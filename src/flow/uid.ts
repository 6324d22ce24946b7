const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';

/** Random numbers for uids: sfc32 from a random seed. Unguessable enough to be unique, which is all that they are for. */
export class UidSource {
  /** The three words of the generator, and its counter. */
  readonly state = new Int32Array(4);

  constructor(seed: Int32Array) {
    this.state.set([seed[0], seed[1], seed[2], 1]);
    for (let i = 0; i < 12; i++) this.next();
  }

  /** 32 bits. */
  next(): number {
    const { state } = this;
    const b = state[1];
    const c = state[2];
    const sum = (state[0] + b + state[3]) | 0;
    state[0] = b ^ (b >>> 9);
    state[1] = (c + (c << 3)) | 0;
    state[2] = (((c << 21) | (c >>> 11)) + sum) | 0;
    state[3] = (state[3] + 1) | 0;
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
