import { expect, test } from 'vitest';
import { highestRate, type Offered } from '../../bench/rate-search.ts';
import { seeded } from '../../src/packet/conversation.ts';

const MOST = 1_000_000;

/** A listener and a cable that take so many packets a second, on a machine that loses some in every `every`th trial by itself. */
function receiver(listener: number, cable = MOST, every = Number.POSITIVE_INFINITY) {
  const random = seeded(7);
  const rates: number[] = [];
  const offer = async (rate: number): Promise<Offered> => {
    rates.push(rate);
    const late = rate <= Math.min(cable, listener) && random() * every < 1 ? 3 : 0;
    return {
      rate,
      packets: rate,
      cable: Math.max(0, rate - cable) + late,
      listener: Math.max(0, rate - listener),
    };
  };
  return { rates, offer };
}

/** The same at any rate: a part of what is sent, and packets. */
const losing = (cable: number, listener: number) => async (rate: number) => ({
  rate,
  packets: rate,
  cable: rate * cable,
  listener,
});

test.each([40_000, 100_000, 333_333, 900_000])(
  'the highest rate that nothing is lost at: %i a second',
  async (most) => {
    const { offer, rates } = receiver(most);
    const { highest, limit } = await highestRate(offer, MOST, 6);
    expect(highest).toBeLessThanOrEqual(most);
    expect(highest).toBeGreaterThan(most / 1.07);
    expect(limit).toBe('listener');
    expect(rates.length).toBeLessThanOrEqual(18);
  },
);

test('what a cable loses in a stall is none of the rate; a listener may lose nothing', async () => {
  expect(await highestRate(losing(0.0009, 0), MOST, 6)).toEqual({ highest: MOST, limit: undefined });
  expect(await highestRate(losing(0.0011, 0), MOST, 6)).toEqual({ highest: 0, limit: 'cable' });
  expect(await highestRate(losing(0, 1), MOST, 6)).toEqual({ highest: 0, limit: 'listener' });
});

test('losses that are the machine’s own do not make it another one', async () => {
  for (const most of [40_000, 100_000, 333_333]) {
    const alone = await highestRate(receiver(most).offer, MOST, 6);
    expect(await highestRate(receiver(most, MOST, 6).offer, MOST, 6)).toEqual(alone);
  }
});

test.each([
  ['listener', 100_000, 300_000],
  ['cable', 300_000, 100_000],
  ['both', 200_000, 200_000],
])('who loses at the next higher rate is the limit: %s', async (who, listener, cable) => {
  const { limit } = await highestRate(receiver(listener, cable).offer, MOST, 6);
  expect(limit).toBe(who);
});

test('nothing is lost at the first rate, or something at any', async () => {
  expect(await highestRate(receiver(MOST).offer, MOST, 6)).toEqual({ highest: MOST, limit: undefined });
  expect(await highestRate(receiver(10).offer, MOST, 6)).toEqual({ highest: 0, limit: 'listener' });
});
