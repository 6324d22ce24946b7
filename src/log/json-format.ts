import { LineBuffer } from './line-buffer.ts';
import { type Field, Kind, type LogSchema } from './schema.ts';

const QUOTE = 34;
const BACKSLASH = 92;
const COMMA = 44;
const BRACE = 123;
const BRACE_END = 125;
const BRACKET = 91;
const BRACKET_END = 93;
const TRUE = Buffer.from('true');
const FALSE = Buffer.from('false');

/** A line of a log, written behind what `out` holds, without newline. */
export type LineWriter<R> = (record: R, out: LineBuffer) => void;

/** `epoch`: seconds with six decimals. `iso`: RFC 3339 in UTC, as Zeek's JSON::TS_ISO8601. */
export type JsonTimes = 'epoch' | 'iso';

/** JSON as Zeek's own writer makes it: times and intervals with six decimals, unset fields absent. */
export function jsonWriter<R>(schema: LogSchema<R>, times: JsonTimes = 'epoch'): LineWriter<R> {
  const { fields } = schema;
  const keys = fields.map((field) => Buffer.from(`,${JSON.stringify(field.name)}:`));
  return (record, out) => {
    const begin = out.at;
    for (let i = 0; i < fields.length; i++) write(fields[i], keys[i], record, out, times);
    // Every field brings a comma: the first one makes place for the brace.
    if (out.at === begin) out.byte(BRACE);
    else out.bytes[begin] = BRACE;
    out.byte(BRACE_END);
  };
}

const single = new LineBuffer(1024);

/** A single record as a line of its own. */
export function lineOf<R>(write: LineWriter<R>, record: R): string {
  single.at = 0;
  write(record, single);
  return single.bytes.toString('utf8', 0, single.at);
}

function write<R>(field: Field<R>, key: Uint8Array, record: R, out: LineBuffer, times: JsonTimes): void {
  switch (field.kind) {
    case Kind.number: {
      const value = field.get(record);
      // JSON has no NaN and no infinity: such a value is left out.
      if (value === undefined || !Number.isFinite(value)) return;
      out.piece(key);
      out.number(value);
      return;
    }
    case Kind.text: {
      const value = field.get(record);
      if (value === undefined) return;
      out.piece(key);
      quoted(value, out);
      return;
    }
    case Kind.time:
    case Kind.interval: {
      const value = field.get(record);
      if (value === undefined) return;
      out.piece(key);
      if (times === 'iso' && field.kind === Kind.time) isoTime(value, out);
      else out.sixDecimals(value);
      return;
    }
    case Kind.bool: {
      const value = field.get(record);
      if (value === undefined) return;
      out.piece(key);
      out.piece(value ? TRUE : FALSE);
      return;
    }
    case Kind.texts: {
      const value = field.get(record);
      if (value === undefined) return;
      out.piece(key);
      out.byte(BRACKET);
      for (let i = 0; i < value.length; i++) {
        if (i > 0) out.byte(COMMA);
        quoted(value[i], out);
      }
      out.byte(BRACKET_END);
      return;
    }
    default:
      field satisfies never;
  }
}

function quoted(value: string, out: LineBuffer): void {
  const begin = out.at;
  out.byte(QUOTE);
  if (out.plain(value, QUOTE, BACKSLASH, 0)) {
    out.byte(QUOTE);
    return;
  }
  out.at = begin;
  out.text(JSON.stringify(value));
}

/** The last time of a Date, in seconds. */
const LAST_DATE = 8.64e12;

function isoTime(seconds: number, out: LineBuffer): void {
  const micros = Math.round(seconds * 1e6);
  const whole = Math.floor(micros / 1e6);
  out.byte(QUOTE);
  if (Math.abs(whole) <= LAST_DATE) {
    out.text(new Date(whole * 1000).toISOString().slice(0, -5));
    out.text(`.${String(micros - whole * 1e6).padStart(6, '0')}Z`);
  }
  out.byte(QUOTE);
}
