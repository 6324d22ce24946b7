import { PassThrough } from 'node:stream';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { SluiceError } from '../../src/base/errors.ts';
import { causeText, sayError } from '../../src/cli/report-error.ts';
import { Terminal } from '../../src/cli/terminal.ts';

const OUTPUT = { json: false, quiet: false, verbose: false, color: false };

function make(isTTY: boolean) {
  const stdout = new PassThrough();
  const stderr = Object.assign(new PassThrough(), { isTTY, columns: 20 });
  const terminal = new Terminal({ stdout, stderr }, {});
  terminal.configure(OUTPUT);
  return { terminal, out: () => String(stdout.read() ?? ''), err: () => String(stderr.read() ?? '') };
}

afterEach(() => {
  vi.useRealTimers();
});

describe('progress', () => {
  it('on a terminal replaces itself, makes room for lines, and leaves nothing', () => {
    const { terminal, err } = make(true);
    terminal.progress('one\ntwo');
    terminal.say('a line');
    terminal.progress('three');
    terminal.progressDone();
    // Up one line and clear, whenever the two lines have to go.
    expect(err()).toBe('one\ntwo\x1b[1A\r\x1b[Ja line\none\ntwo\x1b[1A\r\x1b[Jthree\r\x1b[J');
  });

  it('is cut to the width, colours not counted', () => {
    const { terminal, err } = make(true);
    terminal.progress('x'.repeat(50));
    expect(err()).toBe('x'.repeat(19));
    terminal.progressDone();
    err();
    terminal.progress(`\x1b[32m${'x'.repeat(19)}\x1b[0m`);
    expect(err()).toBe(`\x1b[32m${'x'.repeat(19)}\x1b[0m`);
  });

  it('elsewhere is a plain line every five seconds', () => {
    vi.useFakeTimers({ toFake: ['performance'] });
    const { terminal, err } = make(false);
    for (let n = 0; n < 12; n++) {
      terminal.progress(`\x1b[32m${n}\x1b[0m\nmore`);
      vi.advanceTimersByTime(1000);
    }
    expect(err()).toBe('5 · more\n10 · more\n');
  });

  it('is held back by --quiet, as is talk, but no warning', () => {
    const { terminal, err } = make(true);
    terminal.configure({ ...OUTPUT, quiet: true });
    terminal.progress('one');
    terminal.say('talk');
    terminal.detail('detail');
    terminal.warn('warning');
    expect(err()).toBe('warning\n');
    terminal.configure({ ...OUTPUT, verbose: true });
    terminal.detail('detail');
    expect(err()).toBe('detail\n');
  });
});

describe('errors', () => {
  it('show the chain of causes once each, and the next step', () => {
    const { terminal, err } = make(false);
    const root = new Error('ENOSPC: no space left');
    const error = new SluiceError('FILE', 'cannot write', {
      cause: new Error('cannot write', { cause: root }),
      help: 'make room',
    });
    sayError(terminal, error, false);
    expect(err()).toBe('error[FILE]: cannot write\n  ENOSPC: no space left\nhelp: make room\n');
  });

  it('cut a long cause (a verifier log) to its end unless --verbose', () => {
    const { terminal, err } = make(false);
    const log = Array.from({ length: 100 }, (_, n) => `line ${n}`).join('\n');
    const error = new SluiceError('VERIFIER', 'refused', { cause: log });
    sayError(terminal, error, false);
    const lines = err().trimEnd().split('\n');
    expect(lines).toHaveLength(32);
    expect(lines[1]).toContain('70 lines before');
    expect(lines.at(-1)).toBe('  line 99');
    sayError(terminal, error, true);
    expect(err().trimEnd().split('\n')).toHaveLength(101);
    // The document has all of it.
    expect(causeText(error)).toBe(log);
  });

  it('do not hang on causes that go in a circle', () => {
    const error = new Error('a');
    error.cause = error;
    expect(causeText(new SluiceError('FILE', 'x', { cause: error }))).toBe('a');
  });
});

describe('stopping', () => {
  it('aborts once, and knows when it is asked again', () => {
    const { terminal } = make(false);
    expect(terminal.stop.aborted).toBe(false);
    expect(terminal.requestStop('SIGINT')).toBe(false);
    expect(terminal.stop.aborted).toBe(true);
    expect(terminal.requestStop('SIGINT')).toBe(true);
  });
});
