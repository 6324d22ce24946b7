/** What a target is given: pieces in order, and a number whose meaning is the target's (port, link type, chunk size). */
export interface Input {
  port: number;
  pieces: readonly Piece[];
}

export interface Piece {
  /** 1: the originator. */
  from: 0 | 1;
  bytes: Uint8Array;
}

export interface Target {
  name: string;
  seeds: readonly Input[];
  /** Values of `port` worth trying. */
  ports: readonly number[];
  /** Throws when a promise is broken. */
  run(input: Input): void | Promise<void>;
  /** What keeps state: made and fed, to be weighed. */
  hold?(input: Input): object;
}

/** A copy between bytes of that value, so that what is read beyond its ends shows in a difference. */
export function between(bytes: Uint8Array, filler: number, before: number): Uint8Array {
  const memory = new Uint8Array(bytes.length + before + 9).fill(filler);
  memory.set(bytes, before);
  return memory;
}

export function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(what);
}
