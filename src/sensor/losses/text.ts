import { grouped } from '../../base/units.ts';
import type { LossRow, Stage } from '../../gate/losses/index.ts';
import type { LossReport } from './keeper.ts';

/** The ledger of losses for people: pairs of a heading and a text. */

const STAGE_NAMES: Readonly<Record<Stage, string>> = {
  nic: 'NIC',
  softnet: 'softnet',
  udp: 'UDP stack',
  gate: 'gate',
  capture: 'capture',
  worker: 'worker',
  log: 'logs',
};

const percent = (share: number): string => {
  if (share === 0) return '0 %';
  return share < 0.0001 ? '< 0.01 %' : `${(share * 100).toFixed(2)} %`;
};

const row = ({ where, counter, unit, total, rate }: LossRow): string => {
  const place = where === '' ? '' : `${where}: `;
  const now = rate >= 0.5 ? `, ${grouped(Math.round(rate))}/s` : '';
  return `${place}${counter} ${grouped(total)} ${unit}${now}`;
};

/** What was lost: one line when nothing was, otherwise every counter that says so, and the warnings. */
export function lossLines(report: LossReport): [string, string][] {
  const offered = report.rows
    .filter(({ stage, counter }) => stage === 'capture' && counter === 'received')
    .reduce((sum, { total }) => sum + total, 0);
  const told = report.rows.filter(({ kind, total }) => total > 0 && (kind === 'loss' || kind === 'warning'));
  const losses = told.filter(({ kind }) => kind === 'loss');
  const lines: [string, string][] = [];
  if (losses.length === 0) lines.push(['lost', 'nothing, from the card to the logs']);
  else {
    const { packets } = report.lost;
    lines.push([
      'lost',
      `${grouped(packets)} packets (${percent(packets / Math.max(1, packets + offered))})`,
    ]);
  }
  for (const each of losses) lines.push([`  ${STAGE_NAMES[each.stage]}`, row(each)]);
  const warnings = told.filter(({ kind }) => kind === 'warning');
  if (warnings.length > 0)
    lines.push([
      'noted',
      `${warnings.map((each) => `${STAGE_NAMES[each.stage]} ${row(each)}`).join('; ')} (in no sum)`,
    ]);
  for (const { source, worker, byTime, byTcp } of report.order) {
    if (byTime.packets + byTcp.segments === 0) continue;
    const parts = [
      byTime.packets > 0
        ? `${percent(byTime.share)} by time, up to ${(byTime.seconds * 1000).toFixed(1)} ms`
        : '',
      byTcp.segments > 0 ? `${percent(byTcp.share)} by TCP, up to ${grouped(byTcp.bytes)} bytes` : '',
    ].filter((part) => part !== '');
    lines.push(['out of order', `${source} worker ${worker}: ${parts.join('; ')}`]);
  }
  return lines;
}
