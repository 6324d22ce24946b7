/** The highest rate at which nothing is lost, in spite of a machine that now and then loses packets by itself. */

export interface Offered {
  /** Packets per second that were sent. */
  rate: number;
  lost: number;
}

/** Of the fastest that can be sent, the lowest rate that is looked at is this part. */
const SPAN = 64;
/** A rate is kept by so many trials without a loss, before so many with one. */
const CLEAN = 2;
const LOSSY = 3;

/**
 * By halving, in ratios, between the fastest that can be sent and a SPAN of it: after five `steps` to 14 percent. A rate that
 * is too high loses in each trial, so what one alone has lost was the machine's. `most`: nothing was lost however fast;
 * `highest` is 0 where all rates lost something.
 */
export async function highestRate(
  offer: (rate: number) => Promise<Offered>,
  steps: number,
): Promise<{ highest: number; most: boolean }> {
  const fastest = await tried(offer, Number.POSITIVE_INFINITY);
  if (fastest.kept) return { highest: fastest.rate, most: true };
  let highest = 0;
  let [low, high] = [fastest.rate / SPAN, fastest.rate];
  for (let step = 0; step < steps; step++) {
    const middle = Math.sqrt(low * high);
    const { kept, rate } = await tried(offer, middle);
    if (kept) [low, highest] = [middle, rate];
    else high = middle;
  }
  return { highest, most: false };
}

async function tried(
  offer: (rate: number) => Promise<Offered>,
  rate: number,
): Promise<{ kept: boolean; rate: number }> {
  const clean: number[] = [];
  const lossy: number[] = [];
  while (clean.length < CLEAN && lossy.length < LOSSY) {
    const { rate: sent, lost } = await offer(rate);
    (lost === 0 ? clean : lossy).push(sent);
  }
  const kept = clean.length === CLEAN;
  return { kept, rate: Math.min(...(kept ? clean : lossy)) };
}
