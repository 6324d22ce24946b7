import type { EndReason } from '../gate/layout.ts';
import type { Threshold } from '../gate/ops.ts';

/**
 * waiting   to be armed
 * armed     the gate passes and tracks; waiting for the ring to hand out what came before
 * syncing   both sides wait for the packet at which they take the same count (TCP)
 * set       the gate passes, and drops by itself once so much has passed
 * shunted   the gate drops and counts
 * ending    taken in; waiting for the grace period, then the entry is deleted
 * refused   left alone
 */
export type Phase = 'waiting' | 'armed' | 'syncing' | 'set' | 'shunted' | 'ending' | 'refused';

/** Retransmissions (T) and zero windows (W) of one side. */
export interface LetterCount {
  rexmits: number;
  zeroWindows: number;
}

/** Sequence end, acknowledgement and letter counts of one side at one packet. */
export interface SideCount extends LetterCount {
  seq: number;
  ack: number;
}

/** What of one direction has been taken into the flow engine. */
export interface Absorbed {
  pkts: number;
  ipBytes: number;
  payloadBytes: number;
  seqWraps: number;
  rexmits: number;
  zeroWindows: number;
}

/** Packets and IP bytes that the gate dropped of a connection, by originator and responder. */
export interface ShuntTotals {
  origPkts: number;
  origIpBytes: number;
  respPkts: number;
  respIpBytes: number;
}

/** All that is known of a connection's shunts, from the first until its record is written. */
export interface Books {
  totals: ShuntTotals;
  /** Index of the policy that asked for the last one that began. */
  trigger: number;
  episodes: number;
  current: Episode | undefined;
  /** Its record began in an earlier process. */
  recovered: boolean;
  /** See Episode. */
  carrier: boolean;
}

export function newBooks(trigger: number): Books {
  return {
    totals: { origPkts: 0, origIpBytes: 0, respPkts: 0, respIpBytes: 0 },
    trigger,
    episodes: 0,
    current: undefined,
    recovered: false,
    carrier: false,
  };
}

/** One stay of a connection in the gate's table. */
export interface Episode {
  readonly slot: number;
  readonly generation: number;
  readonly family: 4 | 6;
  readonly key: Uint8Array;
  readonly tcp: boolean;
  /** A tunnel over UDP: its packets pass, and count here where the gate drops what is inside. */
  readonly carrier: boolean;
  readonly trigger: number;
  /** Time of the packet that triggered it, seconds since the epoch. */
  readonly triggered: number;
  /** How much of one direction still passes once it has been handed over; undefined: nothing. */
  readonly after: Threshold | undefined;
  phase: Phase;
  /** What the ring has to have handed out before the next step: a block by its number; shunted: so many packets. */
  barrier: number;
  /** Waiting: not before this time (CLOCK_MONOTONIC seconds). */
  notBefore: number;
  /** Turns spent in the present phase. */
  tries: number;
  /** Syncing: the marks, and what the engine had at the packet that passed them; by side. */
  readonly marks: [{ seq: number; ack: number }, { seq: number; ack: number }];
  readonly passed: [SideCount | undefined, SideCount | undefined];
  /** Which sides the gate has shown to be synchronized. */
  readonly synced: [boolean, boolean];
  /** Syncing: what the gate had counted since the mark, at the last look at a side that has not passed it. */
  readonly looked: [LetterCount | undefined, LetterCount | undefined];
  /** T and W of each side up to the synchronization. */
  readonly base: [SideCount, SideCount];
  /** TCP: the engine's sequence end of each side when it was armed. */
  readonly armedSeq: [number, number];
  /** The first counts have been taken in. */
  begun: boolean;
  readonly absorbed: readonly [Absorbed, Absorbed];
  /** History events taken in. */
  events: number;
  /** Time of the last dropped packet as of the last look, CLOCK_MONOTONIC seconds. */
  lastDropped: number;
  reason: EndReason;
  /** The flip went through, and was told. */
  started: boolean;
  refusalTold: boolean;
  /** The note of the connection is to be written anew. */
  noteDue: boolean;
}

/** It has an entry that may hold something back. */
export function isLive(e: Episode): boolean {
  return e.phase === 'armed' || e.phase === 'syncing' || e.phase === 'set' || e.phase === 'shunted';
}

const nothing = (): Absorbed => ({
  pkts: 0,
  ipBytes: 0,
  payloadBytes: 0,
  seqWraps: 0,
  rexmits: 0,
  zeroWindows: 0,
});
const zero = (): SideCount => ({ seq: 0, ack: 0, rexmits: 0, zeroWindows: 0 });

export function newEpisode(
  about: Pick<
    Episode,
    'slot' | 'generation' | 'family' | 'key' | 'tcp' | 'carrier' | 'trigger' | 'triggered'
  > & { after?: Threshold | undefined },
): Episode {
  return {
    ...about,
    after: about.after,
    phase: 'waiting',
    barrier: 0,
    notBefore: 0,
    tries: 0,
    marks: [
      { seq: 0, ack: 0 },
      { seq: 0, ack: 0 },
    ],
    passed: [undefined, undefined],
    synced: [false, false],
    looked: [undefined, undefined],
    base: [zero(), zero()],
    armedSeq: [0, 0],
    begun: false,
    absorbed: [nothing(), nothing()],
    events: 0,
    lastDropped: 0,
    reason: '',
    started: false,
    refusalTold: false,
    noteDue: false,
  };
}
