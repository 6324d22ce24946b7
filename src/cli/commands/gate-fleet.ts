import { readFileSync } from 'node:fs';
import { fileError } from '../../base/file-error.ts';
import type { FleetStatus } from '../../gate/daemon-fleet.ts';

/** @throws SluiceError FILE */
export function readText(path: string): string {
  try {
    return readFileSync(path === '-' ? 0 : path, 'utf8');
  } catch (cause) {
    throw fileError(path, cause, { missing: 'check the path; - reads standard input' });
  }
}

/** Whose programs an edge runs. */
export function programsText({ from, taken, here, why }: NonNullable<FleetStatus['programs']>): string {
  if (from === null) return `compiled here; ${why ?? 'none came of a key of --trust-programs'}`;
  const what = `of ${from.key}, ${from.hash.slice(0, 12)} of revision ${from.revision}`;
  const note = why === null ? '' : ` (${why})`;
  return taken === 0
    ? `compiled here, none ${what}${note}`
    : `${what}: ${taken} rules taken, ${here} compiled here${note}`;
}

/** Of `gate status`. */
export function fleetLines(s: FleetStatus): [string, string][] {
  const age = s.age === null ? 'never heard of' : `heard of ${Math.round(s.age)} s ago`;
  const state = s.connected ? age : `${age}, not there now${s.problem === null ? '' : ` (${s.problem})`}`;
  const lines: [string, string][] = [
    ['rules from', `${s.source}, ${state}`],
    ['', `${s.inForce} in force here of ${s.rules}; ${s.refused} refused`],
  ];
  if (s.programs !== null) lines.push(['programs', programsText(s.programs)]);
  for (const { id, revision, why } of s.bad) lines.push(['', `bad: ${id} revision ${revision}: ${why}`]);
  for (const { where, id, why } of s.lines.filter(({ refused }) => refused !== 'older'))
    lines.push(['', `refused: ${where}, rule ${id ?? '(nameless)'}: ${why}`]);
  return lines;
}
