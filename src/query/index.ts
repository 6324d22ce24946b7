export { type ExportOptions, type ExportReport, exportLogs } from './export.ts';
export { History, type HistoryOptions, type Page, type Plain } from './history.ts';
export { type Preset, QUERY_PRESETS } from './presets.ts';
export { csvLine, jsonRow, table } from './render.ts';
