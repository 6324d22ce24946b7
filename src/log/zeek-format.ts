import type { LineWriter } from './json-format.ts';
import type { LineBuffer } from './line-buffer.ts';
import { type Field, Kind, type LogSchema } from './schema.ts';

/**
 * Zeek's TSV (its ASCII writer with the default separators): a heading with #separator, #fields and #types, one record
 * a line with tabs between the fields, `-` for unset, `(empty)` for empty, `,` between the elements of a set, and a last
 * line #close. Bytes that are not printable and the separators are \xHH, a backslash is doubled; UTF-8 stays.
 */

const TAB = 9;
const COMMA = 44;
const BACKSLASH = 92;
const LETTER_F = 70;
const LETTER_T = 84;
const UNSET = 45;
const EMPTY = Buffer.from('(empty)');

/** What the head of a file says beside the time; plain data, so that it can be sent to a thread. */
export interface ZeekHeading {
  readonly path: string;
  readonly fields: readonly string[];
  readonly types: readonly string[];
}

export function zeekHeading<R>(schema: LogSchema<R>): ZeekHeading {
  return {
    path: schema.log,
    fields: schema.fields.map((field) => field.name),
    types: schema.fields.map((field) => field.type),
  };
}

/** A time as the heading has it, in UTC. */
function stamp(seconds: number): string {
  return new Date(seconds * 1000).toISOString().slice(0, 19).replace(/[T:]/g, '-');
}

/** The lines before the first record. */
export function zeekOpening(heading: ZeekHeading, seconds: number): string {
  return [
    '#separator \\x09',
    '#set_separator\t,',
    '#empty_field\t(empty)',
    '#unset_field\t-',
    `#path\t${heading.path}`,
    `#open\t${stamp(seconds)}`,
    `#fields\t${heading.fields.join('\t')}`,
    `#types\t${heading.types.join('\t')}`,
    '',
  ].join('\n');
}

/** The line behind the last record. */
export function zeekClosing(seconds: number): string {
  return `#close\t${stamp(seconds)}\n`;
}

export function zeekWriter<R>(schema: LogSchema<R>): LineWriter<R> {
  const { fields } = schema;
  return (record, out) => {
    for (let i = 0; i < fields.length; i++) {
      if (i > 0) out.byte(TAB);
      write(fields[i], record, out);
    }
  };
}

function write<R>(field: Field<R>, record: R, out: LineBuffer): void {
  switch (field.kind) {
    case Kind.number: {
      const value = field.get(record);
      if (value === undefined || !Number.isFinite(value)) out.byte(UNSET);
      else out.number(value);
      return;
    }
    case Kind.text: {
      const value = field.get(record);
      if (value === undefined) out.byte(UNSET);
      else escaped(value, 0, out);
      return;
    }
    case Kind.time:
    case Kind.interval: {
      const value = field.get(record);
      if (value === undefined) out.byte(UNSET);
      else out.sixDecimals(value);
      return;
    }
    case Kind.bool: {
      const value = field.get(record);
      out.byte(value === undefined ? UNSET : value ? LETTER_T : LETTER_F);
      return;
    }
    case Kind.texts: {
      const value = field.get(record);
      if (value === undefined) out.byte(UNSET);
      else if (value.length === 0) out.piece(EMPTY);
      else
        for (let i = 0; i < value.length; i++) {
          if (i > 0) out.byte(COMMA);
          escaped(value[i], COMMA, out);
        }
      return;
    }
    default:
      field satisfies never;
  }
}

/** Characters that the writer escapes wherever they are: control characters, and those of the C1 set. */
const UNPRINTABLE = /[\p{Cc}\\]/gu;

function escaped(value: string, separator: number, out: LineBuffer): void {
  if (value === '') {
    out.piece(EMPTY);
    return;
  }
  // What looks like a place-holder is not to be taken for one.
  if (value !== '-' && value !== '(empty)' && out.plain(value, BACKSLASH, separator, 0)) return;
  let text = value.replace(UNPRINTABLE, (char) => (char === '\\' ? '\\\\' : hex(char)));
  if (separator !== 0) text = text.replaceAll(',', '\\x2c');
  out.text(value === '-' || value === '(empty)' ? `${hex(value[0])}${value.slice(1)}` : text);
}

/** \xHH for each byte of the character. */
function hex(char: string): string {
  return Array.from(Buffer.from(char), (byte) => `\\x${byte.toString(16).padStart(2, '0')}`).join('');
}
