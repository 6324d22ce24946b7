import { describe, expect, test } from 'vitest';
import { benchFilter } from '../../bench/filter.ts';
import { FILTER_CASES, OTHER } from '../../bench/filter-programs.ts';
import { interpretCbpf } from '../../src/ebpf/index.ts';
import { kernelTest } from '../support/kernel.ts';
import { runCompiled, runLibpcap } from './engines.ts';

describe('the fifteen filters', () => {
  test('are the programs that were measured, and have a packet each way', () => {
    expect(FILTER_CASES.map(({ program }) => program().length)).toEqual([
      12, 20, 30, 17, 8, 29, 24, 49, 6, 11, 14, 18, 17, 59, 20,
    ]);
    for (const { name, program, packet, other = OTHER } of FILTER_CASES) {
      expect(interpretCbpf(program(), packet), name).not.toBe(0);
      expect(interpretCbpf(program(), other), name).toBe(0);
    }
  });

  kernelTest('do the same on every engine', [], () => {
    for (const { name, program, packet, other = OTHER } of FILTER_CASES) {
      const packets = [packet, other, packet.subarray(0, 30)];
      const wanted = packets.map((each) => interpretCbpf(program(), each));
      // libpcap's interpreter has no tags beside a frame: it fails such loads.
      if (!name.includes('live')) expect(runLibpcap(program(), packets), name).toEqual(wanted);
      expect(runCompiled(program(), packets), name).toEqual(wanted);
      expect(runCompiled(program(), packets, { frags: true }), name).toEqual(wanted);
    }
  });

  // Sizes depend on the kernel's translation and machine code, not on the machine's speed.
  kernelTest(
    'are no larger in total than what clang makes of them, and none is larger than cbpfc’s',
    [],
    async () => {
      const { tables } = await benchFilter(1, { progress: () => {}, stop: new AbortController().signal }, 1);
      const rows = tables[0].rows;
      expect(rows).toHaveLength(FILTER_CASES.length + 1);
      for (const row of rows) {
        expect(row['xlated'], String(row['name'])).toBeGreaterThan(5);
        if (row['cbpfc'] === undefined) continue;
        expect(Number(row['xlated']), String(row['name'])).toBeLessThanOrEqual(Number(row['cbpfc']));
        expect(Number(row['jited']), String(row['name'])).toBeLessThanOrEqual(Number(row['cbpfcJited']));
      }
      const sums = rows[rows.length - 1];
      expect(Number(sums['xlated'])).toBeLessThanOrEqual(Number(sums['clang']));
      expect(Number(sums['jited'])).toBeLessThanOrEqual(Number(sums['clangJited']));
    },
  );
});
