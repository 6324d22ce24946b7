import { grouped } from '../../base/units.ts';
import type { LossKind, LossRow, LossTable, Stage } from './ledger.ts';

/** The ledger of losses for people: one rendering for the summary of a run, `sluice gate status` and `sluice top`. */

/** A heading and a text. */
export type LossLine = [string, string];

export interface LossTextOptions {
  /** How rates are written; without it as they are. */
  rate?: (text: string) => string;
  /** Every counter that is not 0 has a line, also what was dropped on purpose and what is no loss. */
  all?: boolean;
  /** Lines of losses at most, those that grow the most first. */
  most?: number;
}

const STAGE_NAMES: Readonly<Record<Stage, string>> = {
  nic: 'NIC',
  softnet: 'softnet',
  udp: 'UDP stack',
  gate: 'gate',
  capture: 'capture',
  worker: 'worker',
  log: 'logs',
};

/** A share of 1 for people. */
export const percentText = (share: number): string => {
  if (share === 0) return '0 %';
  return share < 0.0001 ? '< 0.01 %' : `${(share * 100).toFixed(2)} %`;
};

/** Of packets on their way to a capture, or, where there is none, to a gate. */
function offeredOf({ rows }: LossTable): number {
  const sum = (stage: Stage, counter: string): number =>
    rows.reduce((all, row) => (row.stage === stage && row.counter === counter ? all + row.total : all), 0);
  return rows.some(({ stage }) => stage === 'capture') ? sum('capture', 'received') : sum('gate', 'seen');
}

/** What was lost: one line when nothing was, otherwise every counter that says so, and the warnings. */
export function lossLines(table: LossTable, options: LossTextOptions = {}): LossLine[] {
  const { rate = (text) => text, all = false, most = Number.POSITIVE_INFINITY } = options;
  const { rows, lost, wanted } = table;
  if (rows.length === 0) return [['lost', 'not known yet']];
  const grows = (now: number): string => (now >= 0.5 ? `, ${rate(`${grouped(Math.round(now))}/s`)}` : '');
  const text = ({ where, counter, unit, total, rate: now }: LossRow): string =>
    `${where === '' ? '' : `${where}: `}${counter} ${grouped(total)} ${unit}${grows(now)}`;
  const told = (kind: LossKind): LossRow[] => rows.filter((row) => row.kind === kind && row.total > 0);
  const each = (kind: LossKind): LossLine[] =>
    told(kind).map((row) => [`  ${STAGE_NAMES[row.stage]}`, text(row)]);
  const lines: LossLine[] = [];
  const losses = told('loss');
  const end = rows.some(({ stage }) => stage === 'log') ? 'to the logs' : 'on';
  if (losses.length === 0) lines.push(['lost', `nothing, from the card ${end}`]);
  else {
    const share = lost.packets / Math.max(1, lost.packets + offeredOf(table));
    lines.push(['lost', `${grouped(lost.packets)} packets (${percentText(share)})${grows(lost.rate)}`]);
    const shown =
      losses.length <= most
        ? losses
        : losses.toSorted((a, b) => b.rate - a.rate || b.total - a.total).slice(0, most);
    for (const row of shown) lines.push([`  ${STAGE_NAMES[row.stage]}`, text(row)]);
  }
  if (all) {
    lines.push(['wanted', `${grouped(wanted.packets)} packets dropped on purpose${grows(wanted.rate)}`]);
    lines.push(
      ...each('wanted'),
      ['noted', 'in no sum'],
      ...each('warning'),
      ['counted', ''],
      ...each('count'),
    );
    return lines;
  }
  const warnings = told('warning');
  if (warnings.length > 0)
    lines.push([
      'noted',
      `${warnings.map((row) => `${STAGE_NAMES[row.stage]} ${text(row)}`).join('; ')} (in no sum)`,
    ]);
  return lines;
}
