import type { Page, Plain } from './history.ts';

/** Columns wider than this are cut in a table. */
const WIDEST = 60;

function cell(value: Plain): string {
  if (value === null) return '-';
  const text = typeof value === 'object' ? JSON.stringify(value) : String(value);
  // A control character from a log shall not reach the terminal.
  const clean = text.replace(/\p{Cc}/gu, '?');
  return clean.length > WIDEST ? `${clean.slice(0, WIDEST - 1)}…` : clean;
}

/** Columns beside each other; numbers to the right. */
export function table({ names, rows }: Page): string {
  const cells = rows.map((row) => row.map(cell));
  const right = names.map(
    (_, i) => rows.length > 0 && rows.every((row) => row[i] === null || typeof row[i] === 'number'),
  );
  const width = names.map((name, i) => Math.max(name.length, ...cells.map((row) => row[i].length)));
  const line = (row: readonly string[]): string =>
    `${row
      .map((text, i) => (right[i] ? text.padStart(width[i]) : text.padEnd(width[i])))
      .join('  ')
      .trimEnd()}\n`;
  return [names, ...cells].map(line).join('');
}

/** RFC 4180, with a line of names. */
export function csvLine(row: readonly Plain[]): string {
  const quoted = row.map((value) => {
    const text = value === null ? '' : typeof value === 'object' ? JSON.stringify(value) : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  });
  return `${quoted.join(',')}\r\n`;
}

export const jsonRow = (names: readonly string[], row: readonly Plain[]): string =>
  JSON.stringify(Object.fromEntries(names.map((name, i) => [name, row[i]])));
