import { closeSync, openSync, readdirSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '../base/errors.ts';

/** One file of a log. */
export interface StoredLog {
  /** The log's name: conn, ssl, … */
  log: string;
  path: string;
  kind: 'json' | 'parquet';
  /** It is not written to any more: rotated, or exported. */
  finished: boolean;
}

export interface StoredLogs {
  files: StoredLog[];
  /** Paths of what is there in Zeek's TSV, which is not read. */
  passedOver: string[];
}

/** `conn.log`, `conn.2026-11-21-10-45-00.log`, either compressed, and the same as Parquet. */
const NAME = /^([a-z_]+)(\.\d{4}(?:-\d\d){5}(?:-\d+)?)?\.(log|log\.gz|log\.zst|parquet)$/;
const HASH = 0x23;

/** Whether the file begins as Zeek's TSV does; a compressed one is taken for JSON. */
function isTsv(path: string): boolean {
  const fd = openSync(path, 'r');
  try {
    const first = new Uint8Array(1);
    return readSync(fd, first, 0, 1, 0) === 1 && first[0] === HASH;
  } finally {
    closeSync(fd);
  }
}

/**
 * The logs of a directory, by name. Of a file that is there as Parquet as well only that one is taken.
 * @throws SluiceError FILE
 */
export function storedLogs(directory: string): StoredLogs {
  const found: StoredLogs = { files: [], passedOver: [] };
  try {
    const names = new Set(readdirSync(directory));
    for (const name of [...names].toSorted()) {
      const [, log, stamp = '', ending] = NAME.exec(name) ?? [];
      if (log === undefined) continue;
      const path = join(directory, name);
      if (ending === 'parquet') found.files.push({ log, path, kind: 'parquet', finished: true });
      else if (names.has(`${log}${stamp}.parquet`)) continue;
      else if (ending === 'log' && isTsv(path)) found.passedOver.push(path);
      else found.files.push({ log, path, kind: 'json', finished: stamp !== '' });
    }
  } catch (cause) {
    throw new SluiceError('FILE', `the logs in ${directory} cannot be read`, {
      cause,
      help: '--log-dir names the directory that sluice run or sluice read has written to',
    });
  }
  return found;
}
