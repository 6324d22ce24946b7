import type { Columns } from './columns.ts';

/** A text in SQL. */
export const sqlText = (value: string): string => `'${value.replaceAll("'", "''")}'`;
/** A name in SQL. */
export const sqlName = (name: string): string => `"${name.replaceAll('"', '""')}"`;
const sqlList = (values: readonly string[]): string => `[${values.map(sqlText).join(', ')}]`;

/** Times are seconds since the epoch or, with `json-timestamps: iso`, texts: UTC without a zone in both cases. */
const asTime = (name: string): string => {
  const n = sqlName(name);
  return `coalesce(make_timestamp((try_cast(${n} AS DOUBLE) * 1e6)::BIGINT), try_cast(${n} AS TIMESTAMP)) AS ${n}`;
};

/** The lines of JSON files, fields that are missing unset; what is no line of this log (a torn one) is not there. */
export function jsonLines(paths: readonly string[], columns: Columns | undefined): string {
  const common = `${sqlList(paths)}, format = 'newline_delimited', ignore_errors = true`;
  if (columns === undefined)
    return `SELECT * REPLACE (${asTime('ts')}) FROM read_json(${common}, union_by_name = true, sample_size = -1) WHERE ts IS NOT NULL`;
  const types = Array.from(
    columns,
    ([name, type]) => `${sqlText(name)}: ${sqlText(type === 'TIME' ? 'VARCHAR' : type)}`,
  );
  const times = Array.from(columns).flatMap(([name, type]) => (type === 'TIME' ? [asTime(name)] : []));
  return `SELECT * REPLACE (${times.join(', ')}) FROM read_json(${common}, columns = {${types.join(', ')}}) WHERE ts IS NOT NULL`;
}

export function parquetLines(paths: readonly string[]): string {
  return `SELECT * FROM read_parquet(${sqlList(paths)}, union_by_name = true)`;
}

interface Branch {
  readonly leaves: Map<string, string | Branch>;
}

/**
 * A select list that turns fields with dots into nested ones, so that `id.orig_h` is written in SQL as it is in the log.
 */
export function nested(names: readonly string[]): string {
  const root: Branch = { leaves: new Map() };
  for (const name of names) {
    const parts = name.split('.');
    const last = parts.pop() as string;
    let branch = root;
    for (const part of parts) {
      const next = branch.leaves.get(part);
      const child: Branch = typeof next === 'object' ? next : { leaves: new Map() };
      branch.leaves.set(part, child);
      branch = child;
    }
    branch.leaves.set(last, name);
  }
  const expression = (value: string | Branch): string =>
    typeof value === 'string'
      ? sqlName(value)
      : `struct_pack(${Array.from(value.leaves, ([name, inner]) => `${sqlName(name)} := ${expression(inner)}`).join(', ')})`;
  return Array.from(root.leaves, ([name, value]) => `${expression(value)} AS ${sqlName(name)}`).join(', ');
}

const bound = (seconds: number): string => `make_timestamp(${Math.round(seconds * 1e6)})`;

/** A condition on `ts`; bounds are seconds since the epoch. */
export function between(since: number | undefined, until: number | undefined): string {
  const parts = [
    ...(since === undefined ? [] : [`ts >= ${bound(since)}`]),
    ...(until === undefined ? [] : [`ts < ${bound(until)}`]),
  ];
  return parts.length === 0 ? '' : ` WHERE ${parts.join(' AND ')}`;
}
