import { SluiceError } from '../base/errors.ts';

/** Deeper than any statement is; what is hostile must not use up the stack. */
const MAX_DEPTH = 16;

/**
 * JSON in one form only (RFC 8785): members by their names' UTF-16 code units, no white space, numbers and strings as ECMAScript writes
 * them. @throws SluiceError FILE_FORMAT for what JSON does not have, or what is nested too deep
 */
export function canonicalJson(value: unknown, depth = 0): string {
  if (depth > MAX_DEPTH) throw new SluiceError('FILE_FORMAT', 'it is nested too deep');
  if (Array.isArray(value)) return `[${value.map((item) => canonicalJson(item, depth + 1)).join(',')}]`;
  if (typeof value === 'object' && value !== null) {
    const members = Object.entries(value)
      .filter(([, item]) => item !== undefined)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, item]) => `${JSON.stringify(name)}:${canonicalJson(item, depth + 1)}`);
    return `{${members.join(',')}}`;
  }
  if (typeof value === 'string' && /\p{Surrogate}/u.test(value))
    throw new SluiceError('FILE_FORMAT', 'it has half of a surrogate pair');
  if (typeof value === 'number' && !Number.isFinite(value))
    throw new SluiceError('FILE_FORMAT', 'it has a number that JSON does not have');
  if (value === null || ['string', 'number', 'boolean'].includes(typeof value)) return JSON.stringify(value);
  throw new SluiceError('FILE_FORMAT', 'it has what JSON does not have');
}
