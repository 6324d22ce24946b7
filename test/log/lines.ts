import {
  type ConnLogOptions,
  type ConnLogRecord,
  connSchema,
  type ShuntedPart,
} from '../../src/log/conn-log.ts';
import { jsonWriter, lineOf } from '../../src/log/json-format.ts';
import {
  type NoticeRecord,
  noticeSchema,
  type ShuntLogRecord,
  type StatsRecord,
  shuntSchema,
  statsSchema,
} from '../../src/log/other-logs.ts';

/** Single lines of JSON. */

export const connLine = (
  record: ConnLogRecord,
  shunted?: ShuntedPart,
  options: ConnLogOptions = {},
): string => lineOf(jsonWriter(connSchema({ ...options, shunts: true })), { ...record, shunted });

export const shuntLine = (record: ShuntLogRecord): string => lineOf(jsonWriter(shuntSchema), record);

export const statsLine = (record: StatsRecord): string =>
  lineOf(jsonWriter(statsSchema({ verdicts: Object.keys(record.ledger ?? {}) })), record);

export const noticeLine = (record: NoticeRecord): string => lineOf(jsonWriter(noticeSchema), record);
