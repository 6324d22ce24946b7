import { readdirSync, renameSync, rmSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { SluiceError } from '../base/errors.ts';
import type { History } from './history.ts';
import { sqlText } from './views.ts';

export interface ExportOptions {
  /** Where the Parquet files go. */
  to: string;
  /** Removes what has been exported. */
  remove: boolean;
  /** Removes Parquet files that were written so many seconds ago. */
  keep?: number | undefined;
  /** Seconds since the epoch. */
  now: number;
}

export interface ExportReport {
  exported: { from: string; to: string; rows: number; bytes: number }[];
  removed: string[];
}

/**
 * Turns each finished log (rotated, not written to any more) into a Parquet file of its own; a file is whole or not there.
 * What has been exported before is not exported again.
 * @throws SluiceError QUERY, FILE
 */
export async function exportLogs(history: History, options: ExportOptions): Promise<ExportReport> {
  const report: ExportReport = { exported: [], removed: [] };
  try {
    const there = new Set(readdirSync(options.to));
    for (const { log, path, kind, finished } of history.files) {
      if (kind !== 'json' || !finished) continue;
      const name = basename(path).replace(/\.log(\.gz|\.zst)?$/, '.parquet');
      const to = join(options.to, name);
      if (!there.has(name)) {
        const part = `${to}.part`;
        await history.run(
          `COPY (${history.flat(log, [path])}) TO ${sqlText(part)} (FORMAT parquet, COMPRESSION zstd)`,
        );
        renameSync(part, to);
        let rows = 0;
        for await (const page of history.pages(`SELECT count(*) FROM read_parquet(${sqlText(to)})`))
          rows += Number(page.rows[0]?.[0] ?? 0);
        report.exported.push({ from: path, to, rows, bytes: statSync(to).size });
      }
      if (!options.remove) continue;
      rmSync(path);
      report.removed.push(path);
    }
    if (options.keep !== undefined) {
      const before = options.now - options.keep;
      for (const name of readdirSync(options.to)) {
        const path = join(options.to, name);
        if (!/^[a-z_]+\.\d{4}(?:-\d\d){5}(?:-\d+)?\.parquet$/.test(name)) continue;
        if (statSync(path).mtimeMs / 1000 >= before) continue;
        rmSync(path);
        report.removed.push(path);
      }
    }
  } catch (cause) {
    if (cause instanceof SluiceError) throw cause;
    throw new SluiceError('FILE', `logs cannot be exported to ${options.to}`, { cause });
  }
  return report;
}
