/** How old the numbers on the page are, and what that makes of them. */

export type Freshness = 'waiting' | 'live' | 'late' | 'stale' | 'ended';

/** They come once a second: from here on one is missing, and from here on they are shown as old. */
export const LATE_SECONDS = 2.5;
export const STALE_SECONDS = 5;

/** `age`: seconds since the latest numbers came; undefined: none have. */
export function freshness(age: number | undefined, ended: boolean): Freshness {
  if (age === undefined) return 'waiting';
  if (ended) return 'ended';
  if (age >= STALE_SECONDS) return 'stale';
  return age >= LATE_SECONDS ? 'late' : 'live';
}

const FIRST_MS = 500;
const MOST_MS = 15_000;

/** Milliseconds until try `attempt` (from 0): twice as long each time, less up to a third by chance, so that pages do not come all at once. */
export function backOff(attempt: number, chance = Math.random()): number {
  return Math.min(MOST_MS, FIRST_MS * 2 ** attempt) * (1 - chance / 3);
}
