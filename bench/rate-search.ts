/** The highest rate at which a listener loses nothing, in spite of a machine that now and then loses packets by itself. */

export interface Offered {
  /** Packets per second that were sent. */
  rate: number;
  packets: number;
  /** Of them, those for which the cable had no room, and those for which the listener's buffer had none. */
  cable: number;
  listener: number;
}

export interface Highest {
  /** 0 where all rates lost something. */
  highest: number;
  /** Who loses at the next higher rate that was tried; nobody when `highest` is the first. */
  limit: 'cable' | 'listener' | 'both' | undefined;
}

/** The lowest rate that is looked at is this part of the highest. */
const SPAN = 32;
/** A rate is kept by so many trials without a loss, before so many with one. */
const CLEAN = 2;
const LOSSY = 3;
/**
 * What is no more than this part of the packets the cable loses as the machine stalls: its 256 places are full within 0.3 ms
 * at 800,000 a second. A receiver that is too slow for a rate loses what is beyond it.
 */
export const STALLS = 0.001;
/** A trial that loses so large a part needs no other: no machine does by itself. */
const HOPELESS = 0.1;

/**
 * By halving, in ratios, between `most` and a SPAN of it: after six `steps` to 6 percent. A rate that is too high loses in each
 * trial, so what one alone has lost was the machine's.
 */
export async function highestRate(
  offer: (rate: number) => Promise<Offered>,
  most: number,
  steps: number,
): Promise<Highest> {
  let { rate: highest, limit } = await tried(offer, most);
  if (limit === undefined) return { highest, limit };
  highest = 0;
  let [low, high] = [most / SPAN, most];
  for (let step = 0; step < steps; step++) {
    const middle = Math.sqrt(low * high);
    const found = await tried(offer, middle);
    if (found.limit === undefined) [low, highest] = [middle, found.rate];
    else [high, limit] = [middle, found.limit];
  }
  return { highest, limit };
}

async function tried(
  offer: (rate: number) => Promise<Offered>,
  rate: number,
): Promise<{ rate: number; limit: Highest['limit'] }> {
  const clean: Offered[] = [];
  const lossy: Offered[] = [];
  while (clean.length < CLEAN && lossy.length < LOSSY) {
    const offered = await offer(rate);
    const { packets, cable, listener } = offered;
    (isClean(offered) ? clean : lossy).push(offered);
    if (cable + listener > packets * HOPELESS) break;
  }
  const kept = clean.length === CLEAN;
  return {
    rate: Math.min(...(kept ? clean : lossy).map((each) => each.rate)),
    limit: kept ? undefined : limitOf(lossy),
  };
}

const cableKeeps = ({ cable, packets }: Offered): boolean => cable <= packets * STALLS;
const isClean = (offered: Offered): boolean => offered.listener === 0 && cableKeeps(offered);

function limitOf(lossy: readonly Offered[]): Highest['limit'] {
  const cable = lossy.some((each) => !cableKeeps(each));
  const listener = lossy.some((each) => each.listener > 0);
  if (cable && listener) return 'both';
  return cable ? 'cable' : 'listener';
}
