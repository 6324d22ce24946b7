import type { RingPosition } from '../capture/source.ts';
import type { FlowEngineApi } from '../flow/types.ts';
import type { GateClient } from '../gate/client.ts';
import type { EndReason } from '../gate/layout.ts';
import type { ShuntTotals } from './episode.ts';

/** What is told to the log and to the counters; all of it happens at most a few times per connection. */
export interface ShunterEvents {
  started(slot: number, trigger: number): void;
  /**
   * `dropped` during this shunt; a connection may have several. `seconds` from the triggering packet to the first dropped
   * one; undefined when none was dropped.
   */
  ended(
    slot: number,
    trigger: number,
    reason: EndReason,
    dropped: ShuntTotals,
    seconds: number | undefined,
  ): void;
  refused(slot: number, trigger: number, reason: 'full' | 'local'): void;
  /** A connection goes on that began in an earlier process; `dropped` during the shunt that ended with that one. */
  recovered(slot: number, trigger: number, dropped: ShuntTotals, last: number | undefined): void;
  /** Packets that were dropped after the connection's record had been written. */
  late(pkts: number, ipBytes: number): void;
}

/** What the record of a connection says about its shunts. */
export interface ShuntedPart {
  totals: ShuntTotals;
  trigger: number;
  recovered: boolean;
  /** It is a tunnel: what counts here was dropped inside of it, and counts in the records of that too. */
  carrier: boolean;
}

/** What a Shunter works with. */
export interface ShunterOptions {
  engine: FlowEngineApi;
  gate: GateClient;
  ring: RingPosition;
  events: ShunterEvents;
  /** Idle limit that the kernel holds each entry to, seconds. */
  idle: number | 'off';
  /** Longer than a block of the ring stays open. */
  settleMs: number;
  /** CLOCK_REALTIME − CLOCK_MONOTONIC, seconds: changes when the clock is set. */
  clockOffset: () => number;
  /** Seconds between two values of the gate's clock. */
  tick: number;
  isLocal: (family: 4 | 6, key: Uint8Array) => boolean;
  /** The gate looks into tunnels. */
  inTunnels?: boolean;
  /** How logs name the policy with this index. */
  trigger: (index: number) => string;
}
