import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { packageRoot } from '../../src/kernel/index.ts';

/** The script's own: neither a mirror of Debian nor a registry could be reached. */
const CANNOT = 77;

test('the packed tarball installs on a Debian without compilers, reads, and puts a gate up', {
  timeout: 1_200_000,
}, async (context) => {
  const { code, said } = await new Promise<{ code: unknown; said: string }>((resolve) => {
    execFile(
      'bash',
      [join(packageRoot(), 'scripts', 'package-check.sh')],
      { timeout: 1_180_000, killSignal: 'SIGINT' },
      (error, stdout, stderr) => resolve({ code: error === null ? 0 : error.code, said: stdout + stderr }),
    );
  });
  if (code === CANNOT || process.getuid?.() !== 0)
    context.skip(/skipped: (.*)/.exec(said)?.[1] ?? 'to make a root file system needs root');
  expect(code, said).toBe(0);
  expect(said).toContain('sluice read: 3 connections');
  expect(said).toContain('packets pass; a rule drops them');
  expect(said).toContain('names what is missing');
});
