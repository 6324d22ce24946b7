import { SluiceError } from './errors.ts';

/** A number with a unit: `1MB`, `2.5 s`. No sign, no exponent: both are more often a slip than meant. */
const QUANTITY = /^\s*(\d{1,16}(?:\.\d{1,9})?)\s*([a-zA-Z]*)\s*$/;

const BYTE_UNITS: Record<string, number> = {
  '': 1,
  b: 1,
  kb: 1e3,
  mb: 1e6,
  gb: 1e9,
  tb: 1e12,
  kib: 2 ** 10,
  mib: 2 ** 20,
  gib: 2 ** 30,
  tib: 2 ** 40,
};

const SECOND_UNITS: Record<string, number> = {
  '': 1,
  us: 1e-6,
  ms: 1e-3,
  s: 1,
  sec: 1,
  m: 60,
  min: 60,
  h: 3600,
  d: 86_400,
};

function quantity(
  value: string | number,
  units: Record<string, number>,
  what: string,
  example: string,
): number {
  const text = typeof value === 'number' ? plain(value) : value;
  const match = QUANTITY.exec(text);
  const unit = match === null ? undefined : units[match[2].toLowerCase()];
  if (match === null || unit === undefined) {
    throw new SluiceError('USAGE', `'${text}' is not ${what}`, { help: `write it like ${example}` });
  }
  return Number(match[1]) * unit;
}

function plain(value: number): string {
  return Number.isFinite(value) && Math.abs(value) < 1e9 ? String(Number(value.toFixed(9))) : String(value);
}

/**
 * Bytes from `1500`, `64KiB`, `1MB`: kB, MB, GB are powers of 1000, KiB, MiB, GiB powers of 1024, as in IEC 80000-13.
 * @throws SluiceError USAGE
 */
export function parseBytes(value: string | number): number {
  const bytes = quantity(value, BYTE_UNITS, 'a number of bytes', '1MB (10^6) or 1MiB (2^20)');
  if (!Number.isSafeInteger(bytes)) {
    throw new SluiceError('USAGE', `'${value}' is not a whole number of bytes`, {
      help: 'write it like 1500000 or 1.5MB',
    });
  }
  return bytes;
}

/**
 * Seconds from `500ms`, `2s`, `5m`, `1h`, `1d`; a bare number is seconds.
 * @throws SluiceError USAGE
 */
export function parseDuration(value: string | number): number {
  const seconds = quantity(value, SECOND_UNITS, 'a duration', '500ms, 2s, 5m or 1h');
  // Multiplying by 1e-3 leaves binary dust (0.3 s as 0.30000000000000004): nanoseconds are finer than any timer here.
  return Math.round(seconds * 1e9) / 1e9;
}

/** The shortest exact form that parseBytes reads back: `64MiB`, `1MB`, `1500`. */
export function bytesText(bytes: number): string {
  for (const [unit, size] of [
    ['TiB', 2 ** 40],
    ['TB', 1e12],
    ['GiB', 2 ** 30],
    ['GB', 1e9],
    ['MiB', 2 ** 20],
    ['MB', 1e6],
    ['KiB', 2 ** 10],
    ['kB', 1e3],
  ] as const) {
    if (bytes >= size && bytes % size === 0) return `${bytes / size}${unit}`;
  }
  return String(bytes);
}

/** The form that parseDuration reads back: `20ms`, `2s`, `5m`. */
export function durationText(seconds: number): string {
  if (seconds === 0) return '0s';
  for (const [unit, size] of [
    ['d', 86_400],
    ['h', 3600],
    ['m', 60],
  ] as const) {
    if (seconds % size === 0) return `${seconds / size}${unit}`;
  }
  if (seconds >= 1) return `${plain(seconds)}s`;
  return seconds >= 1e-3 ? `${plain(seconds * 1e3)}ms` : `${plain(seconds * 1e6)}us`;
}

const SCALE = ['', 'k', 'M', 'G', 'T', 'P'] as const;

/** For people: three significant digits and a decimal prefix: `842 MB/s`, `1.21 Mpps`, `7.4 Gb/s`. */
export function scaled(value: number, unit: string): string {
  if (!Number.isFinite(value)) return `- ${unit}`;
  let rest = Math.abs(value);
  let step = 0;
  while (rest >= 999.5 && step < SCALE.length - 1) {
    rest /= 1000;
    step++;
  }
  const digits = step === 0 && Number.isInteger(rest) ? 0 : rest >= 99.95 ? 0 : rest >= 9.995 ? 1 : 2;
  return `${value < 0 ? '-' : ''}${rest.toFixed(digits)} ${SCALE[step]}${unit}`;
}

const two = (n: number) => String(n).padStart(2, '0');

/** For people: `1:02:03`, `4:05`, `12 s`. */
export function clockText(seconds: number): string {
  if (!Number.isFinite(seconds)) return '-';
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  return minutes < 60
    ? `${minutes}:${two(whole % 60)}`
    : `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}

/** Beyond this a threshold is none: the kernel counts down a signed word. */
const MOST = 2 ** 31 - 1;

/**
 * How much may pass: IP bytes from `500kB`, packets from `100 packets` or `1packet`.
 * @throws SluiceError USAGE
 */
export function parseThreshold(value: string | number): { bytes: number } | { packets: number } {
  const packets = /^\s*(\d{1,10})\s*packets?\s*$/.exec(String(value))?.[1];
  const amount = packets === undefined ? parseBytes(value) : Number(packets);
  if (amount < 1 || amount > MOST)
    throw new SluiceError('USAGE', `'${value}' is not from 1 to ${MOST}`, {
      help: 'write it like 1MB or 100packets',
    });
  return packets === undefined ? { bytes: amount } : { packets: amount };
}

/** A count for people, in groups of three digits: `12,345`. */
export const grouped = (count: number): string => count.toLocaleString('en-US');
