import type { Case } from './gate-case.ts';
import { difference, paired, ratio, type Table } from './measure.ts';

/** What the gate has to keep to, and what it aims at. */
interface Bar {
  name: string;
  /** Of a case over its floor. */
  of: string;
  over: string;
  unit: '×' | 'ns';
  bar: number;
  aim: number | undefined;
}

const HIT = { over: 'bare drop', unit: '×', bar: 5.5, aim: 4.5 } as const;
const MISS = { over: 'bare pass', unit: '×', bar: 4, aim: 3 } as const;

const BARS: readonly Bar[] = [
  { name: 'hit', of: 'hit, IPv4 TCP', ...HIT },
  { name: 'miss', of: 'miss, IPv4 TCP', ...MISS },
  { name: 'hit, one rule in the slot', of: 'hit, one rule in the slot', ...HIT },
  { name: 'miss, one rule in the slot', of: 'miss, one rule in the slot', ...MISS },
];

const LOOKUP = 'one 16-byte look-up, in turn';

/** Rows of the two-CPU table, and how many times one CPU they may take. */
const TWO_CPUS = [
  { row: 'two CPUs, a direction each', bar: 1.1 },
  { row: 'two CPUs, one direction', bar: 3 },
] as const;

/** What two ways cost over a third, the one as a multiple of the other. */
function overLookup(mine: readonly number[], lookup: readonly number[], bare: readonly number[]): number {
  return paired(mine, bare, difference) / paired(lookup, bare, difference);
}

/** What was measured beside what it is held to. */
export function barsTable(
  cases: readonly Case[],
  values: readonly number[][],
  twoCpus: Table | undefined,
): Table {
  const at = (name: string): readonly number[] | undefined =>
    values[cases.findIndex((one) => one.name === name)];
  const spread = cases.find(({ name }) => /^hit, .* in turn$/.test(name))?.name;
  const bars: Bar[] = [...BARS];
  if (spread !== undefined)
    bars.push(
      { name: spread, of: spread, over: 'bare drop, in turn', unit: 'ns', bar: 210, aim: 150 },
      // The bar is of a machine on which one look-up took 93 ns this way: what memory costs is in both.
      {
        name: `${spread}, over one look-up`,
        of: spread,
        over: LOOKUP,
        unit: '×',
        bar: 210 / 93,
        aim: 150 / 93,
      },
    );
  const rows: Table['rows'] = bars.flatMap(({ name, of, over, unit, bar, aim }) => {
    const mine = at(of);
    const floor = at(over);
    if (mine === undefined || floor === undefined) return [];
    const value =
      over === LOOKUP
        ? overLookup(mine, floor, at('bare drop, in turn') ?? [])
        : paired(mine, floor, unit === '×' ? ratio : difference);
    return [{ name, value, unit, bar, aim, met: value <= bar ? 'yes' : 'no' }];
  });
  for (const { row, bar } of TWO_CPUS) {
    const found = twoCpus?.rows.find(({ name }) => name === row);
    if (found === undefined) continue;
    const value = Number(found['ratio']);
    const met = value <= bar && found['lost'] === 0 ? 'yes' : 'no';
    rows.push({ name: row, value, unit: '× one CPU', bar, aim: undefined, met });
  }
  return {
    title: 'bars (over a bare drop or pass)',
    columns: [
      { key: 'name', title: 'case' },
      { key: 'value', title: 'measured', digits: 2 },
      { key: 'unit', title: '' },
      { key: 'bar', title: 'bar', digits: 1 },
      { key: 'aim', title: 'aim', digits: 1 },
      { key: 'met', title: 'kept' },
    ],
    rows,
  };
}
