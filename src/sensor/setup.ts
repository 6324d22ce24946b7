import type { FlowTimeouts } from '../flow/index.ts';
import type { GateHandles } from '../gate/ops.ts';
import type { LogLink } from '../log/log-link.ts';

/** What a capture worker is started with: plain data, descriptors by number, and its way to the log thread. */
export interface WorkerSetup {
  ifname: string;
  ifindex: number;
  ringBytes: number;
  ringBlock: number;
  retireMs: number;
  /** Set when several workers share the interface. */
  fanoutId: number | undefined;
  gate: GateHandles | undefined;
  leaseSeconds: number;
  shuntIdleSeconds: number;
  policies: readonly string[];
  checksums: boolean;
  bare: boolean;
  vlanKey: boolean;
  tunnelKey: boolean;
  localNets: readonly string[];
  maxFlows: number;
  timeouts: Partial<FlowTimeouts>;
  shuntFields: 'within' | 'added';
  /** Addresses of this host as they stand in gate keys, in hexadecimal: such flows are never shunted. */
  localAddresses: readonly string[];
  log: LogLink;
  /** Float64 counters, see Stat: written by the worker, read by the main thread. */
  stats: SharedArrayBuffer;
}

/** Places of the counters in WorkerSetup.stats. */
export const Stat = {
  packets: 0,
  bytes: 1,
  activeFlows: 2,
  connections: 3,
  shuntedConnections: 4,
  shuntsStarted: 5,
  shuntsLive: 6,
  refused: 7,
  /** Packets that the gate counted after their connection's record was written. */
  latePackets: 8,
  ringPackets: 9,
  ringDrops: 10,
  /** CLOCK_MONOTONIC seconds of the last finished turn. */
  lastTurn: 11,
  logLinesLost: 12,
  sweptEntries: 13,
  sweepSeconds: 14,
  /** Three for each policy: connections, dropped packets, their IP bytes. */
  policies: 16,
} as const;
export const POLICY_STATS = 3;

export function statsBuffer(policies: number): SharedArrayBuffer {
  return new SharedArrayBuffer((Stat.policies + policies * POLICY_STATS) * 8);
}

export type ToWorker = { kind: 'stop' };
export type FromWorker =
  | { kind: 'ready' }
  /** The interface went down or away, or was down when the ring was opened. */
  | { kind: 'link' }
  /** `delays`: seconds from the triggering packet to the first dropped one, a sample. */
  | { kind: 'stopped'; delays: Float64Array }
  | { kind: 'failed'; code: string; message: string; help: string | undefined };
