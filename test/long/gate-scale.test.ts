import { expect } from 'vitest';
import { changeAll, keysOf } from '../../bench/entries.ts';
import { GateTables } from '../../bench/tables.ts';
import { readEntry } from '../../src/gate/entry.ts';
import { bpfObjectPath } from '../../src/gate/index.ts';
import { kernelTest } from '../support/kernel.ts';

const MILLION = 1_000_000;
const EEXIST = -17;
const E2BIG = -7;

for (const family of [4, 6] as const) {
  kernelTest(
    `a million entries, IPv${family}: all are made, none twice, and each is read once`,
    ['xdpFrags', 'syscallProgram'],
    async () => {
      using tables = new GateTables(
        bpfObjectPath('gate'),
        family === 4 ? MILLION : 1,
        family === 6 ? MILLION : 1,
      );
      const { client } = tables;
      // Throws when one of them fails.
      changeAll(tables, family, 'arm', MILLION);
      changeAll(tables, family, 'flip', MILLION);
      // A second time, in batches as well: every one of them is refused, and one more has no room.
      const { ops, owner } = client;
      let n = 0;
      const refused = new Map<number, number>();
      const run = (): void => {
        ops.run();
        for (let row = 0; row < ops.count; row++)
          refused.set(ops.result(row), (refused.get(ops.result(row)) ?? 0) + 1);
        ops.clear();
      };
      ops.clear();
      for (const key of keysOf(family, MILLION + 1)) {
        ops.push('arm', family, key, owner, 0, n++, [0, 0], [0, 0]);
        if (ops.full) run();
      }
      run();
      expect(Object.fromEntries(refused)).toEqual({ [EEXIST]: MILLION, [E2BIG]: 1 });
      const seen = new Uint8Array(MILLION);
      const total = await client.sweep(family, (_keys, _offset, values, at) => {
        readEntry(values, at, family, true, tables.entry);
        seen[tables.entry.cookie]++;
      });
      expect(total).toBe(MILLION);
      expect(seen.every((times) => times === 1)).toBe(true);
    },
  );
}
