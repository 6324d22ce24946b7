import type { FlowEngine } from '../flow/index.ts';
import { type ConnExtras, type ConnLogOptions, connSchema, extraFields } from './conn-log.ts';
import { jsonWriter, lineOf } from './json-format.ts';
import { connSchemaOf, type LogSettings } from './log-setup.ts';
import type { LogWriter } from './log-writer.ts';

/** Writes the line of a connection; false when that has to be done from its record. */
export type ConnLines = (engine: FlowEngine, slot: number, extras: ConnExtras) => boolean;

/**
 * Lines of conn.log that the flow engine makes by itself (`FlowEngine.line`), and the last columns behind: many times quicker
 * than from records. Undefined for settings that ask for other columns, or another format.
 */
export function connLines(
  writer: LogWriter,
  settings: LogSettings,
  options: ConnLogOptions = {},
): ConnLines | undefined {
  const { logFormat, jsonTimestamps, communityId } = settings;
  if (logFormat !== 'json' || jsonTimestamps !== 'epoch') return undefined;
  const last = extraFields({ ...options, communityId });
  const known = [...connSchema().fields, ...last];
  const { fields } = connSchemaOf(settings, options);
  if (fields.length !== known.length || known.some((field, i) => field !== fields[i])) return undefined;
  const behind = jsonWriter({ log: 'conn', fields: last });
  let engine: FlowEngine;
  let more: string | undefined;
  const write = writer.inPlace('conn', (slot, bytes, at) => engine.line(slot, bytes, at, more));
  return (from, slot, extras) => {
    engine = from;
    // Without its braces.
    const text = lineOf(behind, extras).slice(1, -1);
    more = text === '' ? undefined : `,${text}`;
    return write(slot);
  };
}
