import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SluiceError } from '../../src/base/errors.ts';
import {
  BpfMap,
  KernelError,
  loadInstructions,
  loadObject,
  MapType,
  ProgramFlag,
  ProgramType,
  VerifierError,
} from '../../src/kernel/index.ts';
import { bpfObject, kernelTest } from '../support/kernel.ts';

const FRAME = new Uint8Array(64);
const OBJECT = bpfObject('test_kernel');

/** Raw instructions from [opcode, dst | src << 4, offset, imm]. */
function code(...instructions: [number, number, number, number][]): Uint8Array {
  const bytes = new Uint8Array(instructions.length * 8);
  const view = new DataView(bytes.buffer);
  instructions.forEach(([opcode, registers, offset, imm], i) => {
    view.setUint8(i * 8, opcode);
    view.setUint8(i * 8 + 1, registers);
    view.setInt16(i * 8 + 2, offset, true);
    view.setInt32(i * 8 + 4, imm, true);
  });
  return bytes;
}
const MOVE = 0xb7;
const EXIT = 0x95;

function caught(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

describe('objects', () => {
  kernelTest('constants are set by name, of every width', ['syscallProgram', 'ringBuffer'], () => {
    using object = loadObject(OBJECT, {
      constants: {
        test_verdict: 1,
        test_wide: 2n ** 63n + 5n,
        test_short: -3,
        test_mac: Uint8Array.of(0, 0, 0, 0, 0, 7),
      },
    });
    expect(object.program('test_xdp').testRun({ data: FRAME }).retval).toBe(1);
    const args = new BigUint64Array(3);
    args[0] = 100n;
    expect(object.program('test_syscall').runSyscall(new Uint8Array(args.buffer))).toBe(0);
    expect(args[1]).toBe(100n + 2n ** 63n + 5n + 7n - 3n);
  });

  kernelTest('without options the constants keep the values of the source', ['xdpFrags'], () => {
    using object = loadObject(OBJECT);
    expect(object.program('test_xdp').testRun({ data: FRAME }).retval).toBe(2);
  });

  kernelTest('a constant that does not exist, or does not fit, is refused and not cut', [], () => {
    for (const constants of [
      { no_such: 1 },
      { test_short: 70_000 },
      { test_mac: 1n << 60n },
      { test_mac: Uint8Array.of(1, 2) },
    ]) {
      const error = caught(() => loadObject(OBJECT, { constants }));
      expect(error).toMatchObject({ code: 'OBJECT_INVALID' });
      expect((error as Error).message).toContain(Object.keys(constants)[0]);
    }
    expect(() => loadObject(OBJECT, { constants: { test_wide: 1.5 } })).toThrow(RangeError);
    expect(() => loadObject(OBJECT, { constants: { test_wide: 2n ** 64n } })).toThrow(RangeError);
  });

  kernelTest('map sizes are set and maps of others are used', ['mmapableArray'], () => {
    using first = loadObject(OBJECT, { mapSizes: { table: 3 } });
    expect(first.map('table').maxEntries).toBe(3);
    using second = loadObject(OBJECT, { reuseMaps: { counters: first.map('counters') } });
    expect(second.map('counters').id).toBe(first.map('counters').id);
    second.program('test_xdp').testRun({ data: FRAME, repeat: 5 });
    const value = new BigUint64Array(1);
    expect(first.map('counters').get(new Uint8Array(4), new Uint8Array(value.buffer))).toBe(true);
    expect(value[0]).toBe(5n);
    expect(caught(() => loadObject(OBJECT, { mapSizes: { nowhere: 3 } }))).toMatchObject({
      code: 'OBJECT_INVALID',
    });
    expect(caught(() => loadObject(OBJECT, { reuseMaps: { table: first.map('counters') } }))).toBeInstanceOf(
      SluiceError,
    );
  });

  kernelTest('programs that are not asked for are left out', [], () => {
    using object = loadObject(bpfObject('test_refused'), { programs: { test_refused: { autoload: false } } });
    expect([...object.programs.keys()]).toEqual(['test_fine']);
    expect(caught(() => object.program('test_refused'))).toMatchObject({ code: 'OBJECT_INVALID' });
  });

  kernelTest(
    'a tail call reaches a program from elsewhere: everything loads with attach type 0',
    ['xdpFrags'],
    () => {
      using object = loadObject(OBJECT);
      using other = loadInstructions(code([MOVE, 0, 0, 3], [EXIT, 0, 0, 0]), {
        type: ProgramType.xdp,
        flags: ProgramFlag.xdpHasFrags,
      });
      const fd = new Uint8Array(Int32Array.of(other.fd).buffer);
      object.map('next').set(new Uint8Array(4), fd);
      expect(object.program('test_xdp').testRun({ data: FRAME }).retval).toBe(3);
      expect(object.map('next').delete(new Uint8Array(4))).toBe(true);
      expect(object.program('test_xdp').testRun({ data: FRAME }).retval).toBe(2);
      using different = loadInstructions(code([MOVE, 0, 0, 3], [EXIT, 0, 0, 0]), {
        type: ProgramType.xdp,
        expectedAttachType: 37,
        flags: ProgramFlag.xdpHasFrags,
      });
      expect(different.type).toBe(ProgramType.xdp);
    },
  );

  kernelTest('information and a dump of a program', [], () => {
    using object = loadObject(OBJECT);
    const program = object.program('test_xdp');
    const info = program.info(true);
    expect(info).toMatchObject({ id: program.id, name: 'test_xdp', type: ProgramType.xdp, tag: program.tag });
    expect(info.xlated?.length).toBe(info.xlatedBytes);
    expect(info.xlatedBytes % 8).toBe(0);
    expect(info.jitedBytes).toBeGreaterThan(0);
    expect(info.verifiedInstructions).toBeGreaterThan(10);
    expect(info.tag).toMatch(/^[0-9a-f]{16}$/);
    expect(program.info().xlated).toBeUndefined();
  });

  kernelTest('closing twice is fine, using a closed handle is CLOSED', [], () => {
    const object = loadObject(OBJECT);
    const map = object.map('table');
    const program = object.program('test_xdp');
    object.close();
    object.close();
    map.close();
    expect(map.closed).toBe(true);
    expect(caught(() => map.get(new Uint8Array(4), new Uint8Array(64)))).toMatchObject({ code: 'CLOSED' });
    expect(caught(() => program.testRun({ data: FRAME }))).toMatchObject({ code: 'CLOSED' });
  });

  test('a missing, a damaged and a foreign file are coded errors', () => {
    const folder = mkdtempSync(join(tmpdir(), 'sluice-object-'));
    try {
      expect(caught(() => loadObject(join(folder, 'none.o')))).toMatchObject({
        code: 'OBJECT_INVALID',
        exit: 1,
      });
      const path = join(folder, 'some.o');
      writeFileSync(path, 'this is text');
      expect(caught(() => loadObject(path))).toBeInstanceOf(SluiceError);
      const whole = readFileSync(OBJECT);
      for (const size of [0, 4, 64, 1000, whole.length - 100]) {
        writeFileSync(path, whole.subarray(0, size));
        expect(caught(() => loadObject(path))).toBeInstanceOf(SluiceError);
      }
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('whatever the bytes, an object either loads or is refused with a code', () => {
    const folder = mkdtempSync(join(tmpdir(), 'sluice-object-'));
    const path = join(folder, 'some.o');
    const whole = readFileSync(bpfObject('test_refused'));
    try {
      fc.assert(
        fc.property(
          fc.array(fc.tuple(fc.nat(whole.length - 1), fc.nat(255)), { minLength: 1, maxLength: 8 }),
          (edits) => {
            const bytes = new Uint8Array(whole);
            for (const [at, value] of edits) bytes[at] = value;
            writeFileSync(path, bytes);
            try {
              loadObject(path, { programs: { test_refused: { autoload: false } } }).close();
            } catch (error) {
              if (!(error instanceof SluiceError)) throw error;
            }
          },
        ),
        // libbpf's reader is not ours to mend: always the same edits, so that this never fails by chance.
        { numRuns: 150, seed: 1 },
      );
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe('what the verifier refuses', () => {
  kernelTest('in an object: program, reason, instruction and the whole log', [], () => {
    const error = caught(() => loadObject(bpfObject('test_refused')));
    expect(error).toBeInstanceOf(VerifierError);
    const refusal = error as VerifierError;
    expect(refusal).toMatchObject({ code: 'VERIFIER', errnoName: 'EACCES', exit: 1 });
    expect(refusal.message).toContain('test_refused');
    expect(refusal.summary).toMatch(/invalid access to packet/);
    expect(refusal.log.some((line) => line.startsWith('processed '))).toBe(true);
    expect(refusal.log.length).toBeGreaterThan(3);
    expect(refusal.insn).toBeGreaterThan(0);
    expect(refusal.log.some((line) => line.startsWith(`${refusal.insn}: (`))).toBe(true);
  });

  kernelTest('in raw instructions', [], () => {
    const error = caught(() =>
      loadInstructions(code([MOVE, 1, 0, 0], [EXIT, 0, 0, 0]), { type: ProgramType.xdp, name: 'no_result' }),
    ) as VerifierError;
    expect(error).toBeInstanceOf(VerifierError);
    expect(error.insn).toBe(1);
    expect(error.summary).toBe('R0 !read_ok');
    expect(error.message).toContain('no_result');
  });

  kernelTest('a log of many megabytes comes whole', [], () => {
    // The log has a line for each instruction; the fault comes last.
    const body: [number, number, number, number][] = [];
    for (let i = 0; i < 60_000; i++) body.push([MOVE, 6, 0, i]);
    body.push([0xbf, 0x20, 0, 0], [EXIT, 0, 0, 0]);
    const error = caught(() => loadInstructions(code(...body), { type: ProgramType.xdp })) as VerifierError;
    expect(error).toBeInstanceOf(VerifierError);
    const size = error.log.reduce((sum, line) => sum + line.length + 1, 0);
    expect(size).toBeGreaterThan(1024 * 1024);
    expect(error.log.slice(0, 3).join('\n')).toMatch(/^0: \(b7\)/m);
    expect(error.log.at(-1)).toMatch(/^processed /);
    expect(error.summary).toBe('R2 !read_ok');
  });

  kernelTest('nothing that was made on the way stays', [], () => {
    const path = bpfObject('test_refused');
    for (let i = 0; i < 20; i++) expect(() => loadObject(path)).toThrow(VerifierError);
    // The leak check of this file compares the descriptors.
    expect(existsSync(path)).toBe(true);
  });

  test('instructions of a wrong length are refused before the kernel sees them', () => {
    expect(() => loadInstructions(new Uint8Array(7), { type: ProgramType.xdp })).toThrow(RangeError);
    expect(() => loadInstructions(new Uint8Array(0), { type: ProgramType.xdp })).toThrow(RangeError);
  });
});

describe('errno becomes advice', () => {
  const cases = [
    ['map.update', 7, 'MAP_FULL', 'E2BIG'],
    ['xdp.attach', 16, 'INTERFACE_BUSY', 'EBUSY'],
    ['xdp.attach', 19, 'INTERFACE_UNKNOWN', 'ENODEV'],
    ['xdp.attach', 95, 'KERNEL_FEATURE', 'EOPNOTSUPP'],
    ['netlink', 1, 'PRIVILEGE', 'EPERM'],
    ['pin.open', 22, 'PIN_FOREIGN', 'EINVAL'],
    ['map.lookup', 5, 'KERNEL_CALL', 'EIO'],
  ] as const;
  test.each(cases)('%s, %i is %s', (operation, errno, expected, name) => {
    const error = new KernelError(operation, errno, 'do it');
    expect(error).toMatchObject({ code: expected, errno, errnoName: name, operation });
    expect(error.message).toContain(`(${name})`);
    if (expected !== 'KERNEL_CALL') expect(error.help).toBeTruthy();
  });

  kernelTest('a full map is MAP_FULL', [], () => {
    using map = BpfMap.create({ type: MapType.hash, keySize: 4, valueSize: 4, maxEntries: 1 });
    map.set(new Uint8Array(4), new Uint8Array(4));
    expect(caught(() => map.set(Uint8Array.of(1, 0, 0, 0), new Uint8Array(4)))).toMatchObject({
      code: 'MAP_FULL',
      errnoName: 'E2BIG',
    });
  });
});
