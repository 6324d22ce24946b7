import { Loss } from '../../flow/index.ts';
import { Stat } from '../setup.ts';
import type { Station } from '../station.ts';

/**
 * How far packets of one worker came out of order. By capture time: packets with an earlier time than one before them, which says
 * what queues and clocks did on the way to the worker. By TCP's sequence numbers: data that came behind data that follows it,
 * out of order on the wire, or sent again after a loss before the tap; an upper bound.
 */
export interface OrderReport {
  source: string;
  worker: number;
  packets: number;
  byTime: { packets: number; share: number; seconds: number };
  byTcp: { segments: number; share: number; bytes: number };
}

const share = (part: number, whole: number): number => (whole > 0 ? part / whole : 0);

export function orderOf(stations: readonly Station[]): OrderReport[] {
  return stations.flatMap(({ name, stats }) =>
    stats.map((of, worker) => {
      const packets = of[Stat.packets];
      const late = of[Stat.losses + Loss.late];
      return {
        source: name,
        worker,
        packets,
        byTime: {
          packets: of[Stat.losses + Loss.outOfOrder],
          share: share(of[Stat.losses + Loss.outOfOrder], packets),
          seconds: of[Stat.losses + Loss.outOfOrderDepth],
        },
        byTcp: {
          segments: late,
          share: share(late, packets),
          bytes: of[Stat.losses + Loss.lateDepth],
        },
      };
    }),
  );
}
