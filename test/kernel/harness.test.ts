import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { packageRoot } from '../../src/kernel/index.ts';
import { kernelTest } from '../support/kernel.ts';

const config = join(import.meta.dirname, 'fixtures', 'harness', 'vitest.config.ts');
const vitest = join(packageRoot(), 'node_modules', 'vitest', 'vitest.mjs');

/** Runs a fixture file under the project's test support, perhaps with no capability at all. */
function run(
  file: string,
  env: Record<string, string>,
  bare = false,
): { status: number | null; output: string } {
  const command = [process.execPath, vitest, 'run', '--config', config, file];
  const drop = ['setpriv', '--bounding-set', '-all', '--inh-caps', '-all', '--securebits', '+noroot'];
  const [program = '', ...args] = bare ? [...drop, ...command] : command;
  const { CI: _, SLUICE_ALLOW_SKIPS: __, VITEST: ___, ...rest } = process.env;
  const result = spawnSync(program, args, { encoding: 'utf8', env: { ...rest, NO_COLOR: '1', ...env } });
  return { status: result.status, output: result.stdout + result.stderr };
}

describe('kernel tests', () => {
  kernelTest('are counted at the end of the run', ['ringBuffer'], () => {
    const { status, output } = run('kernel.fixture.ts', {});
    expect(output).toContain('kernel tests: 1 ran, 0 skipped');
    expect(output).toContain('all tests: 2 passed, 0 failed, 0 skipped');
    expect(status).toBe(0);
  });

  test('without privilege are skipped, and the reason is told', () => {
    const { status, output } = run('kernel.fixture.ts', {}, true);
    expect(output).toContain('kernel tests: 0 ran, 1 skipped');
    expect(output).toMatch(/skipped: needs the kernel \(privilege: without .*netAdmin/);
    expect(status).toBe(0);
  });

  test('that are skipped in CI fail, unless that is allowed by name', () => {
    const refused = run('kernel.fixture.ts', { CI: 'true' }, true);
    expect(refused.status).toBe(1);
    expect(refused.output).toContain('1 failed');
    expect(run('kernel.fixture.ts', { CI: 'true', SLUICE_ALLOW_SKIPS: 'tcx' }, true).status).toBe(1);
    const allowed = run('kernel.fixture.ts', { CI: 'true', SLUICE_ALLOW_SKIPS: 'tcx,privilege' }, true);
    expect(allowed.output).toContain('kernel tests: 0 ran, 1 skipped');
    expect(allowed.status).toBe(0);
  });
});

describe('leaks', () => {
  kernelTest('a file that closes everything passes', ['mmapableArray'], () => {
    expect(run('leaky.fixture.ts', {}).status).toBe(0);
  });

  kernelTest('what is left open fails the run and is named', ['mmapableArray', 'packetRing'], () => {
    const folder = mkdtempSync(join(tmpdir(), 'sluice-leaks-'));
    try {
      const { status, output } = run('leaky.fixture.ts', { LEAKS: folder, LEAK_PATIENCE_MS: '1000' });
      const pin = readFileSync(join(folder, 'pin'), 'utf8');
      rmdirSync(pin);
      expect(status).toBe(1);
      expect(output).toMatch(/anon_inode:bpf-map \(map_type: 2/);
      expect(output).toMatch(/anon_inode:bpf-prog \(prog_type: 6/);
      expect(output).toMatch(/descriptor \d+ socket:/);
      expect(output).toMatch(/descriptor \d+ \/proc\/\d+\/status/);
      expect(output).toContain('2 mappings of kernel memory');
      expect(output).toContain('1 watches of descriptors');
      expect(output).toContain(`pin ${pin}`);
      expect(output.match(/^ {2}(descriptor|pin) /gm)).toHaveLength(5);
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});
