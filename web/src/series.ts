import type { Point } from '../../src/api/point.ts';

/** Seconds of history that the page keeps. */
export const KEPT = 900;
/** A point that is missing for longer than this leaves a hole in a chart. */
const HOLE = 2.5;

/** Points in order of time, each once, none older than KEPT before the latest. */
export function merged(known: readonly Point[], more: readonly Point[]): Point[] {
  const byTime = new Map<number, Point>();
  for (const point of known) byTime.set(point.t, point);
  for (const point of more) byTime.set(point.t, point);
  const all = [...byTime.values()].sort((a, b) => a.t - b.t);
  const oldest = (all.at(-1)?.t ?? 0) - KEPT;
  return all.filter(({ t }) => t > oldest);
}

export type Column = (number | null)[];

/** Times, and one column for each value; where points are missing the columns have a hole. */
export function columns(
  points: readonly Point[],
  values: readonly ((point: Point) => number | null)[],
): [number[], ...Column[]] {
  const times: number[] = [];
  const out: Column[] = values.map(() => []);
  let before: number | undefined;
  for (const point of points) {
    if (before !== undefined && point.t - before > HOLE) {
      times.push(before + 1);
      for (const column of out) column.push(null);
    }
    before = point.t;
    times.push(point.t);
    values.forEach((value, i) => out[i]?.push(value(point)));
  }
  return [times, ...out];
}

/** Of stacked areas: each column with all before it. The last is the sum. */
export function stacked(parts: readonly Column[]): Column[] {
  const sums: Column[] = [];
  for (const part of parts) {
    const below = sums.at(-1);
    sums.push(part.map((value, i) => (value === null ? null : value + (below?.[i] ?? 0))));
  }
  return sums;
}

/** Those of the last `seconds` before the latest. */
export function latest(points: readonly Point[], seconds: number): Point[] {
  const from = (points.at(-1)?.t ?? 0) - seconds;
  return points.filter(({ t }) => t > from);
}

/** Packets lost in these points, and the latest of them. */
export function lossesOf(points: readonly Point[]): { pkts: number; last: number | undefined } {
  let pkts = 0;
  let last: number | undefined;
  for (const { t, lost } of points) {
    pkts += lost;
    if (lost > 0) last = t;
  }
  return { pkts, last };
}

/** A place of time on a line from `from` to `to`, in percent and never outside. */
export function place(t: number, from: number, to: number): number {
  return to > from ? Math.min(100, Math.max(0, (100 * (t - from)) / (to - from))) : 0;
}
