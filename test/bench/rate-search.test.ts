import { expect, test } from 'vitest';
import { highestRate, type Offered } from '../../bench/rate-search.ts';
import { seeded } from '../../src/packet/conversation.ts';

const FASTEST = 1_000_000;

/** A listener that takes up to `most` packets a second, on a machine that loses some in every `every`th trial by itself. */
function listener(most: number, every = Number.POSITIVE_INFINITY) {
  const random = seeded(7);
  const rates: number[] = [];
  const offer = async (wanted: number): Promise<Offered> => {
    const rate = Math.min(FASTEST, wanted);
    rates.push(rate);
    return { rate, lost: rate > most ? rate - most : random() * every < 1 ? 3 : 0 };
  };
  return { rates, offer };
}

test.each([20_000, 100_000, 333_333, 900_000])(
  'the highest rate that nothing is lost at: %i a second',
  async (most) => {
    const { offer, rates } = listener(most);
    const { highest, most: all } = await highestRate(offer, 5);
    expect(highest).toBeLessThanOrEqual(most);
    expect(highest).toBeGreaterThan(most / 1.15);
    expect(all).toBe(false);
    expect(rates.length).toBeLessThanOrEqual(18);
  },
);

test('losses that are the machine’s own do not make it another one', async () => {
  for (const most of [20_000, 100_000, 333_333]) {
    const alone = await highestRate(listener(most).offer, 5);
    expect(await highestRate(listener(most, 6).offer, 5)).toEqual(alone);
  }
});

test('nothing is lost however fast, or at any rate', async () => {
  expect(await highestRate(listener(FASTEST).offer, 5)).toEqual({ highest: FASTEST, most: true });
  expect(await highestRate(listener(10).offer, 5)).toEqual({ highest: 0, most: false });
});
