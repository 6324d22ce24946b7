import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { afterAll, expect, it } from 'vitest';
import { logLines, readLog } from '../../src/log/reader.ts';

const dir = mkdtempSync(join(tmpdir(), 'sluice-reader-'));
const path = join(dir, 'conn.log');
afterAll(() => rmSync(dir, { recursive: true }));

it('gives out whole lines and passes over a torn one, saying so', () => {
  writeFileSync(path, '{"a":1}\n{"a":2}\nnot json\n[3]\n\n{"a":4');
  expect(readLog(path)).toEqual({ records: [{ a: 1 }, { a: 2 }], torn: { path, bytes: 6 }, malformed: 3 });
  writeFileSync(path, '{"a":1}\n');
  expect(readLog(path)).toEqual({ records: [{ a: 1 }], torn: undefined, malformed: 0 });
  writeFileSync(path, '');
  expect(readLog(path)).toEqual({ records: [], torn: undefined, malformed: 0 });
});

it('splits as split does, wherever the blocks end', () => {
  fc.assert(
    fc.property(
      fc.array(fc.tuple(fc.constantFrom('a', 'é', '🙂'), fc.integer({ min: 0, max: 70_000 })), {
        minLength: 1,
        maxLength: 6,
      }),
      (parts) => {
        const text = parts.map(([letter, n]) => letter.repeat(n)).join('\n');
        writeFileSync(path, text);
        let torn = 0;
        const lines = [...logLines(path, (cut) => (torn = cut.bytes))];
        const wanted = text.split('\n');
        const last = wanted.pop() as string;
        expect(torn).toBe(Buffer.byteLength(last));
        expect(lines).toEqual(wanted);
      },
    ),
    { numRuns: 40 },
  );
});

it('is FILE for what is not there, and FILE_FORMAT for what has no lines', () => {
  expect(() => readLog(join(dir, 'missing'))).toThrow(expect.objectContaining({ code: 'FILE' }));
  writeFileSync(path, Buffer.alloc(17 * 2 ** 20, 'x'));
  expect(() => readLog(path)).toThrow(expect.objectContaining({ code: 'FILE_FORMAT' }));
});
