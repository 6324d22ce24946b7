const ZERO = 48;
const DOT = 46;
const MINUS = 45;
const MICROSECONDS = 1e6;
/** Below this a copy byte by byte beats a call. */
const SHORT = 32;
const LONGEST_NUMBER = 32;
/** The largest number that 32-bit arithmetic handles. */
const MAX_INT32 = 0x7fffffff;

/** Bytes of lines in the making, written in place: a log line costs no string of its own. Grows when it has to. */
export class LineBuffer {
  bytes: Buffer;
  /** Bytes written so far. */
  at = 0;

  constructor(capacity: number) {
    this.bytes = Buffer.allocUnsafeSlow(capacity);
  }

  /** Makes room for `more` bytes behind what is written. */
  room(more: number): void {
    if (this.at + more <= this.bytes.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(this.at + more, 2 * this.bytes.length));
    larger.set(this.bytes.subarray(0, this.at));
    this.bytes = larger;
  }

  byte(value: number): void {
    this.room(1);
    this.bytes[this.at++] = value;
  }

  /** Bytes made beforehand, such as a key. */
  piece(piece: Uint8Array): void {
    const length = piece.length;
    this.room(length);
    const { bytes, at } = this;
    if (length < SHORT) for (let i = 0; i < length; i++) bytes[at + i] = piece[i];
    else bytes.set(piece, at);
    this.at = at + length;
  }

  /** Any text as UTF-8; a lone surrogate becomes U+FFFD. */
  text(text: string): void {
    this.room(text.length * 3);
    const { bytes, at } = this;
    if (text.length < SHORT) {
      let i = 0;
      for (; i < text.length; i++) {
        const code = text.charCodeAt(i);
        if (code > 0x7f) break;
        bytes[at + i] = code;
      }
      if (i === text.length) {
        this.at = at + i;
        return;
      }
    }
    this.at = at + bytes.write(text, at);
  }

  /**
   * Writes the text when all of it is printable ASCII other than these three characters; else writes nothing and
   * returns false. 0 for a character that is not there.
   */
  plain(text: string, except1: number, except2: number, except3: number): boolean {
    const length = text.length;
    this.room(length);
    const { bytes, at } = this;
    for (let i = 0; i < length; i++) {
      const code = text.charCodeAt(i);
      if (code < 0x20 || code > 0x7e || code === except1 || code === except2 || code === except3)
        return false;
      bytes[at + i] = code;
    }
    this.at = at + length;
    return true;
  }

  /** A number as JavaScript writes it. */
  number(value: number): void {
    if (value >= 0 && value <= MAX_INT32 && value === (value | 0)) {
      this.room(LONGEST_NUMBER);
      this.#digits(value | 0, 1);
    } else {
      this.text(String(value));
    }
  }

  /** Seconds with six decimals, as Zeek writes times and intervals; 0 for what is no number. */
  sixDecimals(seconds: number): void {
    const micros = Math.round(Math.abs(seconds) * MICROSECONDS);
    const whole = Math.floor(micros / MICROSECONDS);
    // Beyond 32 bits (and for what is no number) a slower way that is never wrong.
    if (!(whole <= MAX_INT32)) {
      this.text(slowSixDecimals(seconds));
      return;
    }
    this.room(LONGEST_NUMBER);
    if (seconds < 0 && micros > 0) this.bytes[this.at++] = MINUS;
    this.#digits(whole | 0, 1);
    this.bytes[this.at++] = DOT;
    this.#digits((micros - whole * MICROSECONDS) | 0, 6);
  }

  /** A 32-bit number of at least so many digits; there is room. */
  #digits(value: number, least: number): void {
    const { bytes } = this;
    const digits = Math.max(least, digitsOf(value));
    const begin = this.at;
    let rest = value;
    for (let at = begin + digits - 1; at >= begin; at--) {
      const tenth = (rest / 10) | 0;
      bytes[at] = ZERO + (rest - tenth * 10);
      rest = tenth;
    }
    this.at = begin + digits;
  }
}

function digitsOf(value: number): number {
  if (value < 10_000) return value < 100 ? (value < 10 ? 1 : 2) : value < 1000 ? 3 : 4;
  if (value < 100_000_000) return value < 1_000_000 ? (value < 100_000 ? 5 : 6) : value < 10_000_000 ? 7 : 8;
  return value < 1_000_000_000 ? 9 : 10;
}

function slowSixDecimals(seconds: number): string {
  if (!Number.isFinite(seconds)) return '0.000000';
  const micros = Math.round(Math.abs(seconds) * MICROSECONDS);
  if (micros > Number.MAX_SAFE_INTEGER) return seconds.toFixed(6);
  const whole = Math.floor(micros / MICROSECONDS);
  const fraction = String(micros - whole * MICROSECONDS + MICROSECONDS).slice(1);
  return `${seconds < 0 ? '-' : ''}${whole}.${fraction}`;
}
