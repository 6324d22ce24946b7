import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { corpusRoot, readCases, runCase } from './support/corpus.ts';

const root = corpusRoot();

interface Line {
  uid: string;
  proto: string;
  ends: string[];
  parents: string[];
}

/** What tells a connection from others, whoever began it. */
const nameOf = ({ proto, ends }: Line) => `${proto} ${ends.toSorted().join(' ')}`;

/** Each connection that has tunnels around it, with their connections: `none` for a tunnel without a line of its own. */
function inside(lines: readonly Line[]): string[] {
  const names = new Map(lines.map((line) => [line.uid, nameOf(line)]));
  return lines
    .filter(({ parents }) => parents.length > 0)
    .map(
      (line) =>
        `${nameOf(line)} in ${line.parents
          .map((uid) => names.get(uid) ?? 'none')
          .toSorted()
          .join(', ')}`,
    )
    .toSorted();
}

function expected(file: string): Line[] | undefined {
  let columns: string[] = [];
  const lines: Line[] = [];
  for (const text of readFileSync(file, 'utf8').split('\n')) {
    if (text.startsWith('#fields\t')) columns = text.split('\t').slice(1);
    if (text === '' || text.startsWith('#')) continue;
    const cells = text.split('\t');
    const cell = (name: string) => cells[columns.indexOf(name)] ?? '-';
    const parents = cell('tunnel_parents');
    lines.push({
      uid: cell('uid'),
      proto: cell('proto'),
      ends: [`${cell('id.orig_h')}:${cell('id.orig_p')}`, `${cell('id.resp_h')}:${cell('id.resp_p')}`],
      parents: parents === '-' ? [] : parents.split(','),
    });
  }
  return columns.length === 0 ? undefined : lines;
}

test.skipIf(root === undefined)('tunnel_parents of the corpus name the same connections', () => {
  let compared = 0;
  for (const entry of readCases(root as string).filter(({ tags }) => tags.includes('tunnel'))) {
    const wanted = expected(join(root as string, entry.name, 'conn.log'));
    // A log without its columns has not all that it takes.
    if (wanted === undefined) continue;
    const lines = runCase(root as string, entry).map(
      ({ uid, proto, origHost, origPort, respHost, respPort, tunnelParents }) => ({
        uid,
        proto,
        ends: [`${origHost}:${origPort}`, `${respHost}:${respPort}`],
        parents: tunnelParents ?? [],
      }),
    );
    expect(inside(lines), entry.name).toEqual(inside(wanted));
    compared += inside(wanted).length;
  }
  expect(compared).toBe(29);
});
