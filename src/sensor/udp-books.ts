import { DECAP_REASON_NAMES, DecapReason } from '../packet/encap/index.ts';
import { Stat } from './setup.ts';

/** Places of what a UDP listener counts, behind Stat.source. */
export const UdpStat = {
  /** Datagrams that were taken from the socket. */
  received: 0,
  /** Datagrams that the socket had no room for. */
  dropped: 1,
  /** Of those received: longer than what was read of each, so that the frame in it is cut. */
  cut: 2,
  /** Bytes of receive buffer that the kernel has granted. */
  bufferBytes: 3,
  /** By DecapReason: frames, and what held none. */
  reasons: 4,
} as const;

/** Why a datagram held no frame. */
export const BAD_REASONS: readonly string[] = DECAP_REASON_NAMES.filter((name) => name !== 'frame');

/** What became of every datagram of one listener: datagrams = frames + early + dropped + the sum of bad. */
export interface UdpBooks {
  /** Datagrams that reached the sockets. */
  datagrams: number;
  /** Of these: handed to the flow engine. */
  frames: number;
  /** Came before all workers were there. */
  early: number;
  /** The sockets had no room for them. */
  dropped: number;
  /** Held no frame, by reason. */
  bad: Record<string, number>;
  /** Datagrams, frames among them, that were cut by the receiver. */
  cut: number;
  /** The smallest receive buffer that one of the sockets was granted, bytes. */
  bufferBytes: number;
}

/** The books of some workers together. */
export function udpBooks(workers: readonly Float64Array[]): UdpBooks {
  const at = Stat.source;
  const sum = (place: number): number => workers.reduce((total, stats) => total + stats[place], 0);
  const dropped = sum(at + UdpStat.dropped);
  const early = sum(Stat.early);
  const bad: Record<string, number> = {};
  for (const [name, reason] of Object.entries(DecapReason))
    if (reason !== DecapReason.frame) bad[name] = sum(at + UdpStat.reasons + reason);
  return {
    datagrams: sum(at + UdpStat.received) + dropped,
    frames: sum(at + UdpStat.reasons + DecapReason.frame) - early,
    early,
    dropped,
    bad,
    cut: sum(at + UdpStat.cut),
    bufferBytes: Math.min(...workers.map((stats) => stats[at + UdpStat.bufferBytes])),
  };
}
