import { coarseStep } from '../../src/kernel/index.ts';

/** Record against record of two conn.logs of the same traffic, in every field that Zeek's own comparison looks at. */
export type ConnLine = Record<string, unknown> & { ts: number };

/** What Zeek's own comparison looks at, times apart. */
export const EXACT = [
  'id.orig_h',
  'id.orig_p',
  'id.resp_h',
  'id.resp_p',
  'proto',
  'service',
  'orig_bytes',
  'resp_bytes',
  'conn_state',
  'history',
  'missed_bytes',
  'orig_pkts',
  'orig_ip_bytes',
  'resp_pkts',
  'resp_ip_bytes',
] as const;

/**
 * What XDP cannot know: that there was a gap (G), that a checksum is bad (C), for which Zeek passes over a packet. All other
 * fields are the same for such connections too.
 */
const OF_GAPS: readonly string[] = ['history', 'missed_bytes'];
const OF_CHECKSUMS: readonly string[] = EXACT.filter((field) => /missed|history|bytes|pkts/.test(field));

/** What ends by silence has the gate's clock, which is one tick at most behind. */
const CLOSED_SECONDS = 0.0005;
const TICK_SECONDS = coarseStep();

/**
 * For a shunted connection: seconds by which its last dropped frame came late to the gate, by somebody who saw it dropped,
 * after the time that the reference record states for the connection's last frame; what the gate's clock was late by more
 * than a tick is in it. 0 where no frame was dropped so late.
 */
export type Held = (reference: ConnLine) => number;

export interface Comparison {
  connections: number;
  shunted: number;
  /**
   * Connections that differ in nothing but what a gap or a bad checksum changes, and have one in the record of the
   * reference tap: XDP cannot know those.
   */
  apart: number;
  /** How many connections there are of each kind: protocol, address family, closing. */
  kinds: Record<string, number>;
  /** What differs in any other field than the duration, or is missing. */
  differences: string[];
  /** Durations that differ by more than they may. */
  late: string[];
  largestClosed: number;
  largestIdle: number;
  /** The most that a last frame was held up before the gate. */
  largestHeld: number;
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '');

export function key(r: ConnLine): string {
  const ends = [
    JSON.stringify([r['id.orig_h'], r['id.orig_p']]),
    JSON.stringify([r['id.resp_h'], r['id.resp_p']]),
  ].sort();
  return [r['proto'], ...ends].join(' ');
}

function grouped(records: readonly ConnLine[]): Map<string, ConnLine[]> {
  const groups = new Map<string, ConnLine[]>();
  for (const record of records.toSorted((a, b) => a.ts - b.ts)) {
    const k = key(record);
    groups.set(k, [...(groups.get(k) ?? []), record]);
  }
  return groups;
}

function closing(history: string): string {
  if (/r/i.test(history)) return 'rst';
  return /f/i.test(history) ? 'fin' : 'idle';
}

export function compare(
  gated: readonly ConnLine[],
  reference: readonly ConnLine[],
  held: Held = () => 0,
): Comparison {
  const out: Comparison = {
    connections: 0,
    shunted: 0,
    apart: 0,
    kinds: {},
    differences: [],
    late: [],
    largestClosed: 0,
    largestIdle: 0,
    largestHeld: 0,
  };
  const a = grouped(gated);
  const b = grouped(reference);
  for (const k of new Set([...a.keys(), ...b.keys()])) {
    const [mine, theirs] = [a.get(k) ?? [], b.get(k) ?? []];
    if (mine.length !== theirs.length) {
      out.differences.push(`${k}: ${mine.length} records with the gate, ${theirs.length} without`);
      continue;
    }
    // Of several on one tuple the witness knows the last only.
    const witness = mine.length === 1 ? held : () => 0;
    mine.forEach((x, i) => one(k, x, theirs[i], out, witness));
  }
  return out;
}

function one(k: string, x: ConnLine, y: ConnLine, out: Comparison, held: Held): void {
  out.connections++;
  const shunted = x['is_shunted'] === true;
  if (shunted) out.shunted++;
  const history = textOf(y['history']);
  const end = closing(history);
  if (shunted) {
    const family = textOf(y['id.orig_h']).includes(':') ? 'IPv6' : 'IPv4';
    const kind = `${textOf(y['service'] ?? y['proto'])} ${family} ${end}`;
    out.kinds[kind] = (out.kinds[kind] ?? 0) + 1;
  }
  const unknowable = /c/i.test(history) ? OF_CHECKSUMS : /g/i.test(history) ? OF_GAPS : [];
  const fields = EXACT.filter((field) => x[field] !== y[field]);
  const wrong = fields.filter((field) => !unknowable.includes(field)).map((f) => difference(x, y, f));
  const [dx, dy] = [x['duration'] as number | undefined, y['duration'] as number | undefined];
  let late = false;
  if ((dx === undefined) !== (dy === undefined)) wrong.push(difference(x, y, 'duration'));
  else if (dx !== undefined && dy !== undefined) {
    const off = Math.abs(dx - dy);
    const idle = shunted && end === 'idle';
    if (idle) {
      const delay = held(y);
      out.largestIdle = Math.max(out.largestIdle, off);
      out.largestHeld = Math.max(out.largestHeld, delay);
      late = off > TICK_SECONDS + delay;
    } else {
      out.largestClosed = Math.max(out.largestClosed, off);
      late = off > CLOSED_SECONDS;
    }
  }
  const what = `${k}${shunted ? ' (shunted)' : ''}: `;
  if (wrong.length > 0) out.differences.push(what + wrong.join(', '));
  else if (fields.length > 0) out.apart++;
  if (late) {
    const about = `history ${history}, last drop held up by ${held(y)} s, ${JSON.stringify(x)}`;
    out.late.push(`${what}${difference(x, y, 'duration')}; ${about}`);
  }
}

function difference(x: ConnLine, y: ConnLine, field: string): string {
  return `${field} ${JSON.stringify(x[field])} (without the gate ${JSON.stringify(y[field])})`;
}
