import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { packageRoot } from '../../src/kernel/index.ts';
import { kernelTest } from '../support/kernel.ts';
import { type Effort, verifierEffort } from './verifier-effort.ts';

/**
 * What the verifier had to do for each program when this file was last written: `SLUICE_WRITE_BUDGET=1 npx vitest run
 * --project short test/gate/verifier-budget` writes it anew.
 */
const BUDGET = join(import.meta.dirname, 'verifier-budget.json');

let measured: Record<string, Effort> | undefined;
const built = (): Record<string, Effort> =>
  (measured ??= verifierEffort(join(packageRoot(), 'build', 'bpf')));

kernelTest('no program costs the verifier a tenth more than recorded', ['xdpFrags', 'syscallProgram'], () => {
  const now = built();
  if (process.env['SLUICE_WRITE_BUDGET'] !== undefined) {
    const lines = Object.entries(now).map(
      ([name, { processed, instructions }]) =>
        `  ${JSON.stringify(name)}: { "processed": ${processed}, "instructions": ${instructions} }`,
    );
    writeFileSync(BUDGET, `{\n${lines.join(',\n')}\n}\n`);
  }
  const recorded = JSON.parse(readFileSync(BUDGET, 'utf8')) as Record<string, Effort>;
  expect(
    Object.keys(now).filter((name) => recorded[name] === undefined),
    'not recorded',
  ).toEqual([]);
  for (const [name, { processed }] of Object.entries(now))
    expect(processed, name).toBeLessThanOrEqual(recorded[name].processed * 1.1);
});

kernelTest('what is off is not in the program', ['xdpFrags', 'syscallProgram'], () => {
  const now = built();
  for (const [program, options] of [
    ['gate', ['VLANs in the key', 'pairs', 'rules', 'fragments', 'trace', 'notes']],
    ['filter', ['VLANs in the key', 'pairs', 'fragments']],
  ] as const) {
    const of = (option: string): number => now[`${program}, ${option}: sluice_${program}`].instructions;
    for (const option of options)
      expect(of(option), `${program}, ${option}`).toBeGreaterThan(of('nothing on'));
  }
});
