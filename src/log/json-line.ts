/**
 * JSON by hand, for records whose keys are known: JSON.stringify on an object costs several times as much. Every
 * function gives a piece that begins with a comma; `object` makes a record of them.
 */

/** Anything that JSON has to escape; lone surrogates are left to JSON.stringify as well. */
const UNSAFE = /["\\\p{Cc}\p{Cs}]/u;

export function quoted(text: string): string {
  return UNSAFE.test(text) ? JSON.stringify(text) : `"${text}"`;
}

export function text(key: string, value: string | undefined): string {
  return value === undefined ? '' : `,"${key}":${quoted(value)}`;
}

/** A count. JSON has no NaN and no infinity: such a value is left out. */
export function number(key: string, value: number | undefined): string {
  return value === undefined || !Number.isFinite(value) ? '' : `,"${key}":${value}`;
}

export function truth(key: string, value: boolean | undefined): string {
  return value === undefined ? '' : `,"${key}":${value ? 'true' : 'false'}`;
}

export function texts(key: string, value: readonly string[] | undefined): string {
  return value === undefined ? '' : `,"${key}":[${value.map(quoted).join(',')}]`;
}

const MICROSECONDS = 1e6;

/** Seconds with six decimals, as Zeek writes times and intervals. */
export function sixDecimals(seconds: number): string {
  const micros = Math.round(Math.abs(seconds) * MICROSECONDS);
  // Beyond 2^53 (and for what is no number) a slower way that is never wrong.
  if (!(micros <= Number.MAX_SAFE_INTEGER)) return Number.isFinite(seconds) ? seconds.toFixed(6) : '0.000000';
  const whole = Math.floor(micros / MICROSECONDS);
  const fraction = String(micros - whole * MICROSECONDS + MICROSECONDS).slice(1);
  return `${seconds < 0 && micros > 0 ? '-' : ''}${whole}.${fraction}`;
}

export function time(key: string, seconds: number | undefined): string {
  return seconds === undefined ? '' : `,"${key}":${sixDecimals(seconds)}`;
}

/** A record of pieces, each with a comma before it. */
export function object(pieces: string): string {
  return `{${pieces.slice(1)}}`;
}
