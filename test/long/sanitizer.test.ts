import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect } from 'vitest';
import { packageRoot } from '../../src/kernel/index.ts';
import { kernelTest, sh } from '../support/kernel.ts';

const root = packageRoot();
const SANITIZED = join(root, 'build', 'sluice-san.node');

/**
 * Reports of the leak sanitizer that our own code has a part in. The engine itself leaves a little behind, also the 8
 * bytes of a promise whose worker was terminated before it settled: nothing can settle or free it then.
 */
function ownLeaks(output: string): string[] {
  return output
    .split(/\n(?=(?:Direct|Indirect) leak of )/)
    .filter(
      (part) =>
        /^(Direct|Indirect) leak of /.test(part) &&
        /native\/|sluice/.test(part) &&
        !/#1 \S+ in napi_create_promise/.test(part),
    );
}

describe('addon under the address and undefined-behaviour sanitizers', () => {
  kernelTest(
    'everything it does, right and wrong, without a report',
    ['xdpLink', 'xdpNativeVeth', 'tcx', 'syscallProgram', 'ringBuffer', 'packetRing', 'membarrier'],
    () => {
      sh('make', '--no-print-directory', '-s', '-C', root, 'sanitized', 'bpf');
      expect(existsSync(SANITIZED)).toBe(true);
      // The sanitizer is in it, or the test would pass whatever the addon does.
      expect(readFileSync(SANITIZED).includes('__asan_init')).toBe(true);
      expect(readFileSync(SANITIZED).includes('__ubsan_handle')).toBe(true);
      const script = join(root, 'test', 'long', 'fixtures', 'exercise-addon.ts');
      const result = spawnSync(process.execPath, ['--expose-gc', script], {
        encoding: 'utf8',
        timeout: 600_000,
        env: {
          ...process.env,
          LD_PRELOAD: sh('g++', '-print-file-name=libasan.so').trim(),
          ASAN_OPTIONS: 'detect_leaks=1:detect_stack_use_after_return=1',
          LSAN_OPTIONS: 'exitcode=0',
          UBSAN_OPTIONS: 'halt_on_error=1:print_stacktrace=1',
          SLUICE_ADDON: SANITIZED,
        },
      });
      expect(result.stderr).not.toMatch(/runtime error:|ERROR: AddressSanitizer/);
      expect(ownLeaks(result.stderr)).toEqual([]);
      expect(result.stdout).toBe('done\n');
      expect(result.status).toBe(0);
    },
  );
});
