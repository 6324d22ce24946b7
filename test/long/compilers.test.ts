import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { packageRoot } from '../../src/kernel/index.ts';
import { verifierEffort } from '../gate/verifier-effort.ts';
import { kernelTest } from '../support/kernel.ts';

/** The compilers that the objects have to build with: the oldest that Debian stable has had, and its newest. */
for (const version of ['14', '19']) {
  kernelTest(
    `all objects build with clang ${version}, and the verifier takes them`,
    ['xdpFrags', 'syscallProgram'],
    ({ skip, task }) => {
      if (spawnSync(`clang-${version}`, ['--version']).error !== undefined)
        skip(`clang-${version} is not installed`);
      const directory = mkdtempSync(join(tmpdir(), 'sluice-clang-'));
      try {
        const made = spawnSync(
          'make',
          ['--no-print-directory', '-s', 'bpf', `BPF_OUT=${directory}`, `CLANG=clang-${version}`],
          { cwd: packageRoot(), encoding: 'utf8' },
        );
        expect(made.stderr).toBe('');
        expect(made.status, task.name).toBe(0);
        const efforts = verifierEffort(directory);
        // Room for all options, also of another kernel.
        for (const [name, { processed }] of Object.entries(efforts))
          expect(processed, name).toBeLessThan(500_000);
      } finally {
        rmSync(directory, { recursive: true });
      }
    },
  );
}
