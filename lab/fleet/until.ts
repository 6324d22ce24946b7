import { SluiceError } from '../../src/base/errors.ts';

const EVERY_MS = 100;

/** Asks until there is an answer. @throws SluiceError LAB with what was waited for, after so many seconds */
export async function until<T>(
  ask: () => Promise<T | undefined> | T | undefined,
  what: string | (() => string),
  seconds: number,
): Promise<T> {
  const end = performance.now() + seconds * 1000;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (performance.now() > end)
      throw new SluiceError('LAB', `after ${seconds} s: ${typeof what === 'string' ? what : what()}`);
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
}

/** Seconds since 1970 by a clock that nobody has set wrong: the lab's own threads do with `Date.now`. */
export const trueSeconds = (): number => (performance.timeOrigin + performance.now()) / 1000;
