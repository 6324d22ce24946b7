import { grouped } from '../../base/units.ts';
import { type LossLine, lossLines, percentText } from '../../gate/losses/index.ts';
import type { LossReport } from './keeper.ts';

/** The ledger of losses of a run for people, with the order that packets came in. */
export function reportLines(report: LossReport): LossLine[] {
  const lines = lossLines(report);
  for (const { source, worker, byTime, byTcp } of report.order) {
    if (byTime.packets + byTcp.segments === 0) continue;
    const parts = [
      byTime.packets > 0
        ? `${percentText(byTime.share)} by time, up to ${(byTime.seconds * 1000).toFixed(1)} ms`
        : '',
      byTcp.segments > 0 ? `${percentText(byTcp.share)} by TCP, up to ${grouped(byTcp.bytes)} bytes` : '',
    ].filter((part) => part !== '');
    lines.push(['out of order', `${source} worker ${worker}: ${parts.join('; ')}`]);
  }
  return lines;
}
