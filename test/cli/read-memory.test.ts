import { expect, it } from 'vitest';
import { memoryBound, readScan } from '../support/scan.ts';

// test/long/many-flows.test.ts does the same with ten million.
it('a scan of more connections than there is room for: every one is logged, within the memory that is stated', async () => {
  const flows = 100_000;
  const { summary, lines, peak } = await readScan(flows, 1_000_000, ['--max-flows', '4096']);
  expect(summary).toMatchObject({ packets: flows, flows });
  expect(lines).toBe(flows);
  expect(peak).toBeGreaterThan(0);
  expect(peak).toBeLessThan(memoryBound(4096));
});
