import { closeSync, openSync, readSync } from 'node:fs';
import { SluiceError } from '../base/errors.ts';
import { fileError } from '../base/file-error.ts';
import type { TornLine } from './target.ts';

const NEWLINE = 10;
const STEP = 65_536;
/** No record is longer; a file without newlines is not held in memory. */
const LONGEST_LINE = 16 * 2 ** 20;

/**
 * The whole lines of a log, without their newlines. A torn last line, which is what a killed writer leaves, is not given out
 * but reported at the end.
 * @throws SluiceError FILE when it cannot be read, FILE_FORMAT when a line is longer than any record
 */
export function* logLines(path: string, onTorn?: (torn: TornLine) => void): Generator<string> {
  let fd: number;
  try {
    fd = openSync(path, 'r');
  } catch (cause) {
    throw fileError(path, cause);
  }
  try {
    let buffer = Buffer.alloc(STEP);
    let filled = 0;
    for (;;) {
      if (filled === buffer.length) {
        if (filled >= LONGEST_LINE) {
          throw new SluiceError(
            'FILE_FORMAT',
            `${path} is not a log: a line of more than ${LONGEST_LINE} bytes`,
          );
        }
        buffer = Buffer.concat([buffer, Buffer.alloc(filled)]);
      }
      let n: number;
      try {
        n = readSync(fd, buffer, filled, buffer.length - filled, null);
      } catch (cause) {
        throw fileError(path, cause);
      }
      if (n === 0) break;
      const end = filled + n;
      let begin = 0;
      for (let at = buffer.subarray(filled, end).indexOf(NEWLINE); at >= 0; ) {
        const newline = Math.max(begin, filled) + at;
        yield buffer.toString('utf8', begin, newline);
        begin = newline + 1;
        at = buffer.subarray(begin, end).indexOf(NEWLINE);
      }
      buffer.copyWithin(0, begin, end);
      filled = end - begin;
    }
    if (filled > 0) onTorn?.({ path, bytes: filled });
  } finally {
    closeSync(fd);
  }
}

export interface LogContents {
  records: Record<string, unknown>[];
  torn: TornLine | undefined;
  /** Whole lines that are no JSON object. */
  malformed: number;
}

/** A log in JSON lines, read whole. @throws as logLines */
export function readLog(path: string): LogContents {
  const contents: LogContents = { records: [], torn: undefined, malformed: 0 };
  const lines = logLines(path, (torn) => {
    contents.torn = torn;
  });
  for (const line of lines) {
    let value: unknown;
    try {
      value = JSON.parse(line);
    } catch {
      value = undefined;
    }
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) {
      contents.records.push(value as Record<string, unknown>);
    } else {
      contents.malformed++;
    }
  }
  return contents;
}
