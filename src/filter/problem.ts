import { type ErrorCode, SluiceError } from '../base/errors.ts';

/** Where in a text: UTF-16 code units, the end not included; an empty span stands before its character. */
export interface Span {
  start: number;
  end: number;
}

export interface FilterErrorOptions {
  help?: string;
  code?: Extract<ErrorCode, 'FILTER_INVALID' | 'FILTER_UNSUPPORTED'>;
}

/** Columns of text shown around the place. */
const SHOWN = 72;

/** The line of the text that the span begins in, cut to what fits, and a line with carets below the span. */
export function pointed(text: string, span: Span): string {
  const begin = span.start === 0 ? 0 : text.lastIndexOf('\n', span.start - 1) + 1;
  const newline = text.indexOf('\n', span.start);
  const end = newline < 0 ? text.length : newline;
  // Far to the right of a long line: show what stands around the place.
  const from = Math.max(begin, Math.min(span.start - SHOWN / 2, end - SHOWN));
  const to = Math.min(end, from + SHOWN);
  const head = from > begin ? '…' : '';
  // One column for each character, so that the carets stand below theirs.
  const line = `${head}${text.slice(from, to).replace(/[\p{Cc}\p{Cf}]/gu, ' ')}${to < end ? '…' : ''}`;
  const carets = '^'.repeat(Math.max(1, Math.min(span.end, to) - span.start));
  return `${line}\n${' '.repeat(head.length + span.start - from)}${carets}`;
}

/** Line and column (both from 1) of a position. */
export function lineColumn(text: string, at: number): { line: number; column: number } {
  const before = text.slice(0, at);
  return { line: before.split('\n').length, column: at - before.lastIndexOf('\n') };
}

/** A filter text that is not valid (FILTER_INVALID) or that cannot be built (FILTER_UNSUPPORTED); shows the place. */
export class FilterError extends SluiceError {
  readonly text: string;
  readonly span: Span;

  constructor(text: string, span: Span, message: string, options: FilterErrorOptions = {}) {
    const { line, column } = lineColumn(text, span.start);
    const where = text.includes('\n') ? `line ${line}, column ${column}` : `column ${column}`;
    super(options.code ?? 'FILTER_INVALID', `${message} (${where})`, {
      cause: pointed(text, span),
      ...(options.help === undefined ? {} : { help: options.help }),
    });
    this.text = text;
    this.span = span;
  }
}

/** A name, number or sign of a text, with its place. */
export interface Token extends Span {
  text: string;
}

/** The pieces of a text between separators. */
export function tokens(text: string, pattern: RegExp): Token[] {
  const found: Token[] = [];
  for (const match of text.matchAll(pattern)) {
    found.push({ text: match[0], start: match.index, end: match.index + match[0].length });
  }
  return found;
}
