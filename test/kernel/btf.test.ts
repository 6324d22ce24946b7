import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SluiceError } from '../../src/base/errors.ts';
import { readBtf } from '../../src/kernel/btf.ts';
import { packageRoot } from '../../src/kernel/index.ts';
import { bpfObject } from '../support/kernel.ts';

const elf = readFileSync(bpfObject('test_kernel'));

describe('layouts from BTF', () => {
  test('sizes, offsets, arrays, nested and anonymous members, bit fields', () => {
    const layout = readBtf(elf).struct('test_layout');
    expect(layout).toMatchObject({ kind: 'struct', size: 56 });
    const members = Object.fromEntries(layout.members.map((member) => [member.name, member]));
    expect(Object.keys(members)).toEqual(['wide', 'inner', 'one', 'other', 'low', 'high', 'negative']);
    expect(members['wide']).toMatchObject({ offset: 0, size: 8, kind: 'int', signed: false, count: 1 });
    expect(members['inner']).toMatchObject({ offset: 8, size: 32, kind: 'array', count: 2 });
    expect(members['inner']?.layout).toMatchObject({ name: 'test_inner', size: 16 });
    expect(
      members['inner']?.layout?.members.map(({ name, offset, size, count }) => [name, offset, size, count]),
    ).toEqual([
      ['small', 0, 1, 1],
      ['words', 4, 12, 3],
    ]);
    expect(members['one']).toMatchObject({ offset: 40, size: 4 });
    expect(members['other']).toMatchObject({ offset: 40, size: 2 });
    expect(members['low']).toMatchObject({ offset: 44, bits: { offset: 0, size: 5 } });
    expect(members['high']).toMatchObject({ offset: 44, bits: { offset: 5, size: 27 } });
    expect(members['negative']).toMatchObject({ offset: 48, size: 2, signed: true });
  });

  test('structures are listed, and one that is not there is an error', () => {
    const btf = readBtf(elf);
    const names = btf.structs().map((layout) => layout.name);
    expect(names).toEqual(expect.arrayContaining(['test_layout', 'test_inner', 'test_args', 'xdp_md']));
    expect(() => btf.struct('no_such')).toThrow(expect.objectContaining({ code: 'OBJECT_INVALID' }));
    expect(btf.enums().find((each) => each.name === 'test_state')?.values).toEqual([
      { name: 'TEST_ON', value: 1 },
      { name: 'TEST_ODD', value: -2 },
    ]);
  });

  test('the generated layouts match the compiled gate', () => {
    const script = join(packageRoot(), 'scripts', 'gen-layouts.ts');
    const result = spawnSync(process.execPath, [script, '--check'], { encoding: 'utf8' });
    expect(result.stderr).toBe('');
    expect(result.status).toBe(0);
  });

  test('whatever the bytes, reading ends in a layout or in a coded error', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(elf.length - 1), fc.nat(255)), { minLength: 1, maxLength: 20 }),
        fc.nat(elf.length),
        (edits, size) => {
          const bytes = new Uint8Array(elf);
          for (const [at, value] of edits) bytes[at] = value;
          for (const candidate of [bytes, bytes.subarray(0, size)]) {
            try {
              readBtf(candidate).structs();
              readBtf(candidate).enums();
            } catch (error) {
              if (!(error instanceof SluiceError)) throw error;
            }
          }
        },
      ),
      { numRuns: 300 },
    );
  });
});
