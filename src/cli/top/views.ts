import type { CommandIo } from '../../base/io.ts';
import { clockText, grouped, scaled } from '../../base/units.ts';
import type { Sort, TopFlow, TopFrame, TopRule } from './frame.ts';
import type { AttackLine, TalkerLine } from './reading.ts';

/** What stands below the figures: all in short, or one of them as long as the window has room. */
export const VIEWS = ['overview', 'flows', 'talkers', 'rules', 'attacks', 'losses'] as const;
export type View = (typeof VIEWS)[number];

/** What is said around a frame. */
export interface Around {
  columns: number;
  /** Lines that there is room for. */
  rows: number;
  view: View;
  sort: Sort;
  paused: boolean;
  /** Seconds without an answer; undefined: the figures are of now. */
  silent: number | undefined;
  paint: CommandIo['paint'];
  /** Keys are read. */
  keys: boolean;
}

const WIDE = 76;
/** Rules in the overview. */
const RULES = 6;

export const clip = (text: string, columns: number): string =>
  text.length <= columns ? text : `${text.slice(0, Math.max(0, columns - 1))}…`;
/** Text that other programs or people have chosen: no control characters reach the terminal. */
export const safe = (text: string): string => text.replaceAll(/\p{Cc}/gu, '?');

/** How rates over so many seconds are written: not at all while there are none, or while they are of the past. */
export const rateOf =
  (seconds: number, { silent }: Pick<Around, 'silent'>) =>
  (text: string): string =>
    silent === undefined && seconds > 0 ? text : '–';

/** The lists of a view. */
export function viewLines(frame: TopFrame, around: Around): string[] {
  switch (around.view) {
    case 'flows':
      return flowLines(frame, around);
    case 'talkers':
      return talkerLines(frame, around);
    case 'rules':
      return frame.rules.length === 0
        ? [clip('there are no rules', around.columns)]
        : ruleLines(frame, around, frame.rules.length);
    case 'attacks':
      return attackLines(frame, around);
    default:
      return overviewLines(frame, around);
  }
}

function overviewLines(frame: TopFrame, around: Around): string[] {
  const { columns, paint } = around;
  const lines = frame.attacks.map(({ id, kind, target, peak }) =>
    paint(
      'red',
      clip(`attack ${safe(id)}  ${safe(kind)}  ${safe(target)}  peak ${grouped(peak)}/s`, columns),
    ),
  );
  if (frame.rules.length > 0) lines.push('', ...ruleLines(frame, around, RULES));
  return [...lines, '', ...flowLines(frame, around)];
}

function flowLines(frame: TopFrame, around: Around): string[] {
  const { columns, sort, paint } = around;
  const { listed, top, live } = frame.shunts;
  if (!listed) return live === 0 ? [] : [clip('too many shunted flows: they are not listed', columns)];
  const rate = rateOf(frame.listSeconds, around);
  const wide = columns >= WIDE;
  const head = wide
    ? `${'bit/s'.padStart(12)}${'pkt/s'.padStart(12)}${'dropped'.padStart(10)}  shunted flow, by ${sort}`
    : `${'bit/s'.padStart(10)}  shunted flow`;
  const line = (flow: TopFlow): string => {
    const name = [flow.proto, flow.a, flow.b, flow.ids].filter((text) => text !== '').join(' ');
    const bits = rate(scaled(flow.bitRate, '').trim());
    if (!wide) return `${bits.padStart(10)}  ${name}`;
    const by = [flow.owner, flow.trigger].filter((text) => text !== '').map(safe);
    return `${bits.padStart(12)}${rate(scaled(flow.pktRate, '').trim()).padStart(12)}${scaled(flow.bytes, 'B').padStart(10)}  ${name}  ${by.join(' ')}`;
  };
  return [paint('bold', clip(head, columns)), ...top.map((flow) => clip(line(flow), columns))];
}

function talkerLines({ talkers: { seconds, top } }: TopFrame, { columns, paint }: Around): string[] {
  const wide = columns >= WIDE;
  const of = seconds === null ? 'of what is shunted' : `of ${clockText(seconds)}, and of what is shunted`;
  const head = wide
    ? `${'bytes'.padStart(12)}${'dropped'.padStart(12)}${'connections'.padStart(14)}  talkers ${of}`
    : `${'bytes'.padStart(10)}  talkers ${of}`;
  const line = ({ host, bytes, dropped, connections }: TalkerLine): string =>
    wide
      ? `${scaled(bytes, 'B').padStart(12)}${scaled(dropped, 'B').padStart(12)}${grouped(connections).padStart(14)}  ${safe(host)}`
      : `${scaled(bytes, 'B').padStart(10)}  ${safe(host)}`;
  return [paint('bold', clip(head, columns)), ...top.map((talker) => clip(line(talker), columns))];
}

function ruleLines(frame: TopFrame, around: Around, most: number): string[] {
  const { columns, paint } = around;
  const rate = rateOf(frame.listSeconds, around);
  const wide = columns >= WIDE;
  const { rules } = frame;
  const head = wide
    ? `rules (${rules.length})`.padEnd(12) + 'dropped/s'.padStart(12) + 'dropped'.padStart(14)
    : `rules (${rules.length})  dropped/s`;
  const line = ({ enabled, dropRate, dropped, action, expr, id }: TopRule): string => {
    const state = enabled ? 'on ' : 'off';
    const now = rate(grouped(Math.round(dropRate)));
    return wide
      ? `${state}${' '.repeat(9)}${now.padStart(12)}${grouped(dropped).padStart(14)}  ${safe(action)}  ${safe(expr)}  (${safe(id)})`
      : `${state}${now.padStart(12)}  ${safe(action)} ${safe(expr)}`;
  };
  return [
    paint('bold', clip(head, columns)),
    ...rules
      .toSorted((a, b) => b.dropRate - a.dropRate || b.dropped - a.dropped)
      .slice(0, most)
      .map((rule) => clip(line(rule), columns)),
  ];
}

function attackLines({ attacks, at }: TopFrame, { columns, paint }: Around): string[] {
  if (attacks.length === 0) return [clip('no attack is under way', columns)];
  const wide = columns >= WIDE;
  const head = wide
    ? `${'peak/s'.padStart(12)}${'usual/s'.padStart(12)}${'since'.padStart(10)}  attack`
    : `${'peak/s'.padStart(12)}  attack`;
  const line = ({ id, kind, target, peak, usual, began, why }: AttackLine): string => {
    const name = `${safe(kind)}  ${safe(target)}`;
    return wide
      ? `${grouped(Math.round(peak)).padStart(12)}${grouped(Math.round(usual)).padStart(12)}${clockText(Math.max(0, at - began)).padStart(10)}  ${name}  ${safe(id)}  ${safe(why)}`
      : `${grouped(Math.round(peak)).padStart(12)}  ${name}`;
  };
  return [
    paint('bold', clip(head, columns)),
    ...attacks.toSorted((a, b) => b.peak - a.peak).map((attack) => paint('red', clip(line(attack), columns))),
  ];
}
