export { type ConnLogOptions, connLine, type ShuntedPart } from './conn-log.ts';
export { LogFiles, type LogFilesOptions } from './log-files.ts';
export { LinkTarget, type LogLink } from './log-link.ts';
export { LogThread, type LogThreadOptions } from './log-thread.ts';
export { LogWriter } from './log-writer.ts';
export { noticeLine, type ShuntLogRecord, type StatsRecord, shuntLine, statsLine } from './other-logs.ts';
export { type LogContents, logLines, readLog } from './reader.ts';
export type { LogName, LogTarget, LogTotals, TornLine } from './target.ts';
