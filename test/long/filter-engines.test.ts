import { describe, expect } from 'vitest';
import { compileFilterText, type Language, loadFilter } from '../../src/filter/index.ts';
import { corpusFrames, engineTests, lengths } from '../filter/engine-table.ts';
import { kernelTest } from '../support/kernel.ts';

const names = (count: number, name: (i: number) => string) =>
  Array.from({ length: count }, (_, i) => name(i)).join(' ');

/** Programs of thousands of instructions, and how many of them the verifier may go through. */
const LONG: [Language, string, number][] = [
  ['dns', names(100, (i) => `host${i}.example.com`), 60_000],
  ['suffix', names(100, (i) => `d${i}.com`), 150_000],
  ['suffix', 'com a.com b.a.com c.b.a.com d.c.b.a.com e.d.c.b.a.com f.e.d.c.b.a.com', 60_000],
  ['dns', `valid ${names(20, (i) => `host${i}.example.com`)} **.x.y`, 120_000],
];

describe('all engines agree on every frame of the corpus', () => {
  engineTests([...corpusFrames(), ...lengths()]);
});

describe('long programs', () => {
  for (const [language, text, verified] of LONG) {
    kernelTest(`${language}: a long program, ${text.slice(0, 40)}…`, [], () => {
      using program = loadFilter(compileFilterText(text, language));
      // The verifier gives up at a million; what each way in is gone through anew for would grow with their number.
      expect(program.info().verifiedInstructions).toBeLessThan(verified);
    });
  }
});
