import * as fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SluiceError } from '../../src/base/errors.ts';
import {
  bytesText,
  clockText,
  durationText,
  parseBytes,
  parseDuration,
  scaled,
} from '../../src/base/units.ts';

const usage = (run: () => unknown) => {
  try {
    run();
  } catch (error) {
    return error instanceof SluiceError ? error.code : error;
  }
  return 'nothing thrown';
};

describe('bytes', () => {
  it.each([
    ['0', 0],
    ['1500', 1500],
    [1500, 1500],
    ['1MB', 1_000_000],
    ['1 MB', 1_000_000],
    ['1MiB', 1_048_576],
    ['64KiB', 65_536],
    ['1.5kB', 1500],
    ['2gib', 2 ** 31],
  ])('%s is %d', (text, bytes) => expect(parseBytes(text)).toBe(bytes));

  it.each(['', 'MB', '-1', '1e6', '1.5', '1 XB', '0x10', 'NaN', '1MB2', ' ', '99999999999999999999'])(
    'refuses %j',
    (text) => expect(usage(() => parseBytes(text))).toBe('USAGE'),
  );

  it('refuses numbers that are no sizes', () => {
    for (const value of [-1, 0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 60])
      expect(usage(() => parseBytes(value))).toBe('USAGE');
  });

  it('prints what it reads back as the same number', () => {
    fc.assert(fc.property(fc.maxSafeNat(), (bytes) => parseBytes(bytesText(bytes)) === bytes));
    expect(bytesText(64 * 2 ** 20)).toBe('64MiB');
    expect(bytesText(1_000_000)).toBe('1MB');
  });
});

describe('durations', () => {
  it.each([
    ['500ms', 0.5],
    ['2s', 2],
    ['2', 2],
    [0.25, 0.25],
    ['5m', 300],
    ['1h', 3600],
    ['1d', 86_400],
    ['300us', 0.0003],
    ['0.3s', 0.3],
    ['1.1ms', 0.0011],
  ])('%s is %d s', (text, seconds) => expect(parseDuration(text)).toBe(seconds));

  it.each(['', 's', '-1s', '5 years', '1:30', 'Infinity', '1e3'])('refuses %j', (text) =>
    expect(usage(() => parseDuration(text))).toBe('USAGE'),
  );

  it('prints what it reads back as the same number', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 10 ** 12 }),
        (micros) => parseDuration(durationText(micros / 1e6)) === micros / 1e6,
      ),
    );
    expect([0, 0.02, 0.3, 2, 300, 5400, 3600].map(durationText)).toEqual([
      '0s',
      '20ms',
      '300ms',
      '2s',
      '5m',
      '90m',
      '1h',
    ]);
  });
});

describe('figures for people', () => {
  it('have three digits and a prefix', () => {
    expect([0, 7, 999, 999.7, 1210, 84_200_000, 12_345, 0.5].map((n) => scaled(n, 'B'))).toEqual([
      '0 B',
      '7 B',
      '999 B',
      '1.00 kB',
      '1.21 kB',
      '84.2 MB',
      '12.3 kB',
      '0.50 B',
    ]);
    expect(scaled(Number.NaN, 'B')).toBe('- B');
  });

  it('show time as on a clock', () => {
    expect([0.4, 59, 60, 245, 3723].map(clockText)).toEqual(['0 s', '59 s', '1:00', '4:05', '1:02:03']);
  });
});
