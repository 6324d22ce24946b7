import { grouped } from '../../base/units.ts';
import { type LossLine, lossLines, percentText } from '../../gate/losses/index.ts';
import type { LossReport } from './keeper.ts';
import type { OrderReport } from './order.ts';

const timeText = ({ share, seconds }: OrderReport['byTime']): string =>
  `${percentText(share)} by time, up to ${(seconds * 1000).toFixed(1)} ms`;

/** The ledger of losses of a run for people, with the order that packets came in. */
export function reportLines(report: LossReport): LossLine[] {
  const lines = lossLines(report);
  for (const { source, worker, byTime, byTcp, queues = [] } of report.order) {
    for (const { queue, byTime: of } of queues)
      if (of.packets > 0)
        lines.push(['out of order', `${source} worker ${worker}, queue ${queue}: ${timeText(of)}`]);
    if (byTime.packets + byTcp.segments === 0) continue;
    const parts = [
      byTime.packets > 0 ? timeText(byTime) : '',
      byTcp.segments > 0 ? `${percentText(byTcp.share)} by TCP, up to ${grouped(byTcp.bytes)} bytes` : '',
    ].filter((part) => part !== '');
    lines.push(['out of order', `${source} worker ${worker}: ${parts.join('; ')}`]);
  }
  return lines;
}
