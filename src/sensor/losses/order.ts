import { Loss } from '../../flow/index.ts';
import { type QueueOrderReport, queueOrders } from '../frames.ts';
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
  /** With AF_XDP by the card's queue; a ring does not say which one a packet came by. */
  queues?: { queue: number; packets: number; byTime: { packets: number; share: number; seconds: number } }[];
}

const share = (part: number, whole: number): number => (whole > 0 ? part / whole : 0);

const queueOf = ({ queue, packets, late, seconds }: QueueOrderReport) => ({
  queue,
  packets,
  byTime: { packets: late, share: share(late, packets), seconds },
});

export function orderOf(stations: readonly Station[]): OrderReport[] {
  return stations.flatMap(({ name, capture, stats }) =>
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
        ...(capture.startsWith('afxdp') ? { queues: queueOrders(of).map(queueOf) } : {}),
      };
    }),
  );
}
