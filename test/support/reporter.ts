/**
 * Says at the end what tests have measured (their annotations), how many kernel tests ran, which were skipped and why, and
 * how many tests there were in all.
 */
import type { Reporter, TestModule } from 'vitest/node';
import type { KernelMeta } from './kernel.ts';

export default class KernelReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[]): void {
    let ran = 0;
    const skipped: string[] = [];
    const measured: string[] = [];
    const totals = { passed: 0, failed: 0, skipped: 0, pending: 0 };
    for (const module of modules) {
      for (const test of module.children.allTests()) {
        totals[test.result().state]++;
        const notes = test.annotations().map(({ message }) => `  ${message}`);
        if (notes.length > 0) measured.push(`${test.fullName}:`, ...notes);
        const kernel: KernelMeta | undefined = test.meta().kernel;
        if (kernel === undefined) continue;
        if (kernel.skipped === undefined) ran++;
        else skipped.push(`${test.fullName} (${kernel.skipped})`);
      }
    }
    const lines = [
      ...measured,
      `kernel tests: ${ran} ran, ${skipped.length} skipped`,
      ...skipped.map((line) => `  skipped: ${line}`),
      `all tests: ${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`,
    ];
    process.stdout.write(`${lines.join('\n')}\n`);
  }
}
