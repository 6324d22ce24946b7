export {
  type ConnLogOptions,
  type ConnLogRecord,
  connSchema,
  type ShuntedPart,
} from './conn-log.ts';
export type { JsonTimes } from './json-format.ts';
export { LogFiles, type LogFilesOptions } from './log-files.ts';
export { LinkTarget, type LogLink } from './log-link.ts';
export { LogThread, type LogThreadOptions } from './log-thread.ts';
export { type LineFormat, LogWriter } from './log-writer.ts';
export {
  noticeSchema,
  type ShuntLogRecord,
  type StatsRecord,
  shuntSchema,
  statsSchema,
} from './other-logs.ts';
export { type LogContents, logLines, readLog } from './reader.ts';
export type { Field, LogSchema } from './schema.ts';
export type { LogName, LogTarget, LogTotals, TornLine } from './target.ts';
export { type ZeekHeading, zeekHeading } from './zeek-format.ts';
