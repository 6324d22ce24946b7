import { closeSync, openSync, writeSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { systemText } from '../../src/base/file-error.ts';

const thrownBy = (call: () => void): unknown => {
  try {
    call();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
};

describe('what the system says of a file', () => {
  it('is said as Node.js says it', () => {
    const fd = openSync('/dev/full', 'w');
    const error = thrownBy(() => writeSync(fd, 'x'));
    closeSync(fd);
    expect(systemText(error)).toBe('ENOSPC: no space left on device, write');
  });

  it.each([
    [-122, 'EDQUOT: disk quota exceeded, write'],
    [-4000, 'UNKNOWN: unknown error, write'],
  ])('and with a name where it has none (%i)', (errno, text) => {
    const error = Object.assign(new Error('UNKNOWN: unknown error, write'), { code: 'UNKNOWN', errno });
    expect(systemText(error)).toBe(text);
  });
});
