import { describe, expect, it } from 'vitest';
import { compileFilterText, KernelEngine } from '../../src/filter/index.ts';
import { kernelTest } from '../support/kernel.ts';
import { corpusFrames, engineTests, lengths } from './engine-table.ts';

describe('all engines agree', () => {
  const corpus = corpusFrames();
  const hard = corpus.filter(({ bytes, wire }) => bytes.length > 3504 || bytes.length < wire);
  it.skipIf(corpus.length === 0)('the corpus has frames that are hard for a test run', () => {
    expect(hard.filter(({ bytes }) => bytes.length > 3520).length).toBeGreaterThan(100);
    expect(hard.filter(({ bytes, wire }) => bytes.length < wire).length).toBeGreaterThan(100);
  });
  // Every frame of the corpus and every filter is run in test/long.
  const some = corpus.filter((_, index) => index % 7 === 0);
  engineTests([...some, ...hard.filter((_, index) => index % 10 === 0), ...lengths()], 2);

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
