import { expect, it } from 'vitest';
import { memoryBound, readScan } from '../support/scan.ts';

const FLOWS = 10_000_000;
const DEFAULT_MAX_FLOWS = 262_144;

it.each([
  ['faster than connections can time out', 1_000_000],
  ['over a quarter of an hour', 10_000],
])(
  'ten million connections of one packet, %s: every one is logged, memory stays within what is stated',
  async (_, perSecond) => {
    const { summary, lines, peak } = await readScan(FLOWS, perSecond, []);
    expect(summary).toMatchObject({ packets: FLOWS, flows: FLOWS });
    expect(lines).toBe(FLOWS);
    expect(peak).toBeGreaterThan(0);
    expect(peak).toBeLessThan(memoryBound(DEFAULT_MAX_FLOWS));
  },
);
