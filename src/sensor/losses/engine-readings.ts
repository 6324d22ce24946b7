import { Loss } from '../../flow/index.ts';
import { adder, type CounterReading, GAUGE, OURS } from '../../gate/losses/ledger.ts';
import type { LogTotals } from '../../log/target.ts';

/** The counters that a sensor has whatever it reads: of its flow engine, and of its logs. */

/** What a flow engine has made of packets. */
export interface EngineCounts {
  handled: number;
  unparsed: number;
  evicted: number;
  /** By `Loss`. */
  losses: ArrayLike<number>;
}

export function engineReadings(
  where: string,
  { handled, unparsed, evicted, losses }: EngineCounts,
  out: CounterReading[],
): void {
  const put = adder(out, 'worker', where);
  put('handled', 'count', 'packets', handled, OURS);
  put('unparsed', 'count', 'packets', unparsed, OURS);
  put('badChecksums', 'warning', 'packets', losses[Loss.badChecksums], OURS);
  put('outOfOrder', 'warning', 'packets', losses[Loss.outOfOrder], OURS);
  put('evicted', 'warning', 'entries', evicted, OURS);
  put('tcp.acks', 'count', 'events', losses[Loss.acks], OURS);
  put('tcp.gaps', 'warning', 'events', losses[Loss.gaps], OURS);
  put('tcp.late', 'warning', 'events', losses[Loss.late], OURS);
}

/** Lines that did not get into a log, and what sinks did not take. */
export function logReadings({ lines, lost, waiting, sinks = [] }: LogTotals, out: CounterReading[]): void {
  const put = adder(out, 'log', '');
  put('written', 'count', 'lines', lines, OURS);
  put('diskLost', 'loss', 'lines', lost, OURS);
  put('waiting', 'count', 'lines', waiting, GAUGE);
  for (const { name, sent, lost: left } of sinks) {
    const sink = adder(out, 'log', name);
    sink('sent', 'count', 'lines', sent, OURS);
    sink('sinkLost', 'loss', 'lines', left, OURS);
  }
}
