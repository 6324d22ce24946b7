import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { packageRoot } from '../../src/kernel/index.ts';

const run = (args: string[], input = '') =>
  spawnSync(process.execPath, ['examples/filter-to-ebpf.mjs', ...args], {
    cwd: packageRoot(),
    input,
    encoding: 'utf8',
  });

test('the example of the package entry runs', () => {
  const { status, stdout, stderr } = run([]);
  expect(stderr).toBe('');
  expect(status).toBe(0);
  expect(stdout).toContain('(000) ldh      [12]');
  expect(stdout).toContain('it returns\n262144\n');
  expect(stdout).toContain('if w0 != 0x8 goto');
  expect(stdout).toMatch(
    /Embedded in another program:\n {3}0: \(61\) r7 = \*\(u32 \*\)\(r1 \+0\)\n[^]*exit\n/,
  );
});

test('it takes a filter of tcpdump', () => {
  const { status, stdout } = run(['-'], '1\n6 0 0 0\n');
  expect(status).toBe(0);
  expect(stdout).toContain('(000) ret      #0');
});
