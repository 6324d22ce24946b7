/** Longer names are none. */
const MAX_NAME = 255;
/** Letters of a name with a dot in front. */
export const LONGEST = MAX_NAME + 1;

/**
 * A name with a dot in front, for `dotprefix`, taken apart once for all who look into it: letters as they are and in lower case
 * (ASCII), and four of them in a word.
 */
export class Letters {
  readonly exact = new Uint16Array(LONGEST);
  readonly lower = new Uint16Array(LONGEST);
  /** The four lower-case letters from each place on, or as many as there are: eight bits of each, the first one lowest. */
  readonly words = new Uint32Array(LONGEST);
  /** With the dot. */
  length = 0;

  /** False for what is too long to be a name. */
  take(name: string): boolean {
    if (name.length > MAX_NAME) return false;
    const { exact, lower, words } = this;
    exact[0] = DOT;
    lower[0] = DOT;
    for (let i = 0; i < name.length; i++) {
      const code = name.charCodeAt(i);
      exact[i + 1] = code;
      lower[i + 1] = lowerCode(code);
    }
    this.length = name.length + 1;
    let word = 0;
    for (let i = this.length - 1; i >= 0; i--) {
      word = (word << 8) | (lower[i] & 255);
      words[i] = word;
    }
    return true;
  }
}

const DOT = 0x2e;

export function lowerCode(code: number): number {
  return code >= 0x41 && code <= 0x5a ? code | 0x20 : code;
}
