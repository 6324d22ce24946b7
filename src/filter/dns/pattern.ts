import { domainToASCII } from 'node:url';
import { FilterError, type Span, type Token } from '../problem.ts';

/** One label of a pattern: bytes of which some may be any, or any label of so many bytes. */
export type Label =
  | { kind: 'literal'; bytes: number[]; any: boolean[] }
  | { kind: 'any'; min: number; max: number };

/** A pattern of names. */
export interface NamePattern {
  labels: Label[];
  /** Any number of labels may stand before these, none too. */
  openStart: boolean;
  /** Any number of labels may follow, none too; else the name ends there. */
  openEnd: boolean;
  span: Span;
}

/** RFC 1035 section 2.3.4. */
export const MAX_LABEL = 63;
const MAX_NAME = 255;

const ANY_LABEL = /^\*(?:\{(\d{1,3})-(\d{1,3})\})?$/;

/** Bytes of a label with `?` for any byte, and the escapes of master files (RFC 1035 section 5.1): \. and \046. */
function literal(text: string, source: string, span: Span): Label {
  const bytes: number[] = [];
  const any: boolean[] = [];
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    const place = { start: span.start + at, end: span.start + at + 1 };
    if (char === '\\') {
      const decimal = /^\d{3}/.exec(text.slice(at + 1))?.[0];
      const code = decimal === undefined ? text.charCodeAt(at + 1) : Number(decimal);
      if (!(code <= 255))
        throw new FilterError(source, place, 'not an escape', {
          help: '\\. is a dot within a label, \\042 the byte 42',
        });
      at += decimal === undefined ? 1 : 3;
      bytes.push(code);
      any.push(false);
    } else if (char === '*') {
      throw new FilterError(source, place, '* stands for a whole label', {
        help: '*.example.com is any name one label below, ? any single byte, \\* an asterisk itself',
      });
    } else {
      bytes.push(char.charCodeAt(0));
      any.push(char === '?');
    }
  }
  return { kind: 'literal', bytes, any };
}

function label(text: string, source: string, span: Span): Label {
  if (text === '') throw new FilterError(source, span, 'an empty label');
  const range = ANY_LABEL.exec(text);
  if (range !== null) {
    const min = Number(range[1] ?? 1);
    const max = Math.min(Number(range[2] ?? MAX_LABEL), MAX_LABEL);
    if (min < 1 || min > max) {
      throw new FilterError(source, span, `a label has 1 to ${MAX_LABEL} bytes, the smaller number first`);
    }
    return { kind: 'any', min, max };
  }
  let ascii = text;
  // oxlint-disable-next-line no-control-regex
  if (/[^\u0000-\u007f]/.test(text)) {
    ascii = domainToASCII(text);
    if (ascii === '')
      throw new FilterError(source, span, `not a label that has a form in ASCII (RFC 5890): ${text}`);
  }
  const found = literal(ascii, source, span);
  if (found.kind === 'literal' && found.bytes.length > MAX_LABEL) {
    throw new FilterError(source, span, `a label has at most ${MAX_LABEL} bytes, not ${found.bytes.length}`);
  }
  return found;
}

/** The labels of a name, split at dots that are not escaped; each with its place. */
function split(token: Token): Token[] {
  const parts: Token[] = [];
  let from = 0;
  const { text, start } = token;
  for (let at = 0; at <= text.length; at++) {
    if (text[at] === '\\') at++;
    else if (at === text.length || text[at] === '.') {
      parts.push({ text: text.slice(from, at), start: start + from, end: start + at });
      from = at + 1;
    }
  }
  return parts;
}

/**
 * A name with wildcards: `*` is any one label (`*{4-20}` one of 4 to 20 bytes), `?` any one byte, `**` at the beginning or at the
 * end any number of labels, `.` the root. Letters are compared in any case. FILTER_INVALID at the place.
 */
export function parseName(token: Token, source: string): NamePattern {
  const { start, end } = token;
  const span = { start, end };
  const pattern: NamePattern = { labels: [], openStart: false, openEnd: false, span };
  if (token.text === '.') return pattern;
  const parts = split(token);
  // A dot at the end says that the name is whole; one in front is of no meaning, but common.
  if (parts.at(-1)?.text === '') parts.pop();
  if (parts[0]?.text === '') parts.shift();
  if (parts[0]?.text === '**') {
    pattern.openStart = true;
    parts.shift();
  }
  if (parts.at(-1)?.text === '**') {
    pattern.openEnd = true;
    parts.pop();
  }
  if (pattern.openStart && pattern.openEnd && parts.length > 0) {
    throw new FilterError(source, span, '** may stand at one end of a name, not at both', {
      code: 'FILTER_UNSUPPORTED',
    });
  }
  for (const part of parts) {
    if (part.text === '**')
      throw new FilterError(source, part, '** may only stand at the beginning or the end of a name');
    pattern.labels.push(label(part.text, source, part));
  }
  const length = pattern.labels.reduce(
    (sum, each) => sum + 1 + (each.kind === 'any' ? each.min : each.bytes.length),
    1,
  );
  if (length > MAX_NAME)
    throw new FilterError(source, span, `a name has at most ${MAX_NAME} bytes, not ${length}`);
  return pattern;
}
