import { describe, expect, it } from 'vitest';
import { compileFilterText, KernelEngine, type Language, loadFilter } from '../../src/filter/index.ts';
import { kernelTest } from '../support/kernel.ts';
import { corpusFrames, engineTests, lengths } from './engine-table.ts';

const names = (count: number, name: (i: number) => string) =>
  Array.from({ length: count }, (_, i) => name(i)).join(' ');

/** Programs of thousands of instructions, and how many of them the verifier may go through. */
const LONG: [Language, string, number][] = [
  ['dns', names(100, (i) => `host${i}.example.com`), 60_000],
  ['suffix', names(100, (i) => `d${i}.com`), 150_000],
  ['suffix', 'com a.com b.a.com c.b.a.com d.c.b.a.com e.d.c.b.a.com f.e.d.c.b.a.com', 60_000],
  ['dns', `valid ${names(20, (i) => `host${i}.example.com`)} **.x.y`, 120_000],
];

describe('all engines agree', () => {
  const corpus = corpusFrames();
  const hard = corpus.filter(({ bytes, wire }) => bytes.length > 3504 || bytes.length < wire);
  it.skipIf(corpus.length === 0)('the corpus has frames that are hard for a test run', () => {
    expect(hard.filter(({ bytes }) => bytes.length > 3520).length).toBeGreaterThan(100);
    expect(hard.filter(({ bytes, wire }) => bytes.length < wire).length).toBeGreaterThan(100);
  });
  // Every frame of the corpus is run in test/long.
  const some = corpus.filter((_, index) => index % 7 === 0);
  engineTests([...some, ...hard.filter((_, index) => index % 10 === 0), ...lengths()]);

  for (const [language, text, verified] of LONG) {
    kernelTest(`${language}: a long program, ${text.slice(0, 40)}…`, [], () => {
      using program = loadFilter(compileFilterText(text, language));
      // The verifier gives up at a million; what each way in is gone through anew for would grow with their number.
      expect(program.info().verifiedInstructions).toBeLessThan(verified);
    });
  }

  kernelTest('what is longer than a test run takes is refused, not guessed', [], () => {
    using engine = new KernelEngine(compileFilterText('ether[70000] = 1', 'tcpdump'));
    expect(engine.frame(new Uint8Array(65_519))).toBe(0);
    expect(() => engine.frame(new Uint8Array(65_520), 65_520, 7)).toThrow(
      expect.objectContaining({
        code: 'FILTER_UNSUPPORTED',
        message: expect.stringContaining('packet 7 has 65520 bytes'),
      }),
    );
  });
});
