import type { TunnelKind, TunnelPorts } from '../base/tunnels.ts';
import type { FanoutTicket } from '../capture/fanout.ts';
import type { SnapHandles } from '../capture/snap.ts';
import type { UdpAddress } from '../capture/udp-url.ts';
import type { FlowTimeouts } from '../flow/index.ts';
import type { GateHandles } from '../gate/ops.ts';
import type { LogLink } from '../log/log-link.ts';
import type { LogSettings } from '../log/log-setup.ts';
import type { OrderNews, Orders } from './client-orders.ts';
import type { PairRequest } from './pair-shunts.ts';
import { type PlacedPlan, POLICY_ROOM } from './policy-book.ts';
import type { Returning } from './recovery.ts';
import type { TallyNews } from './tallies.ts';

/** A capture ring on an interface. */
export interface InterfaceSource {
  kind: 'interface';
  ifname: string;
  ifindex: number;
  ringBytes: number;
  ringBlock: number;
  retireMs: number;
  /** Set when several workers share the interface. */
  fanout: FanoutTicket | undefined;
  /** Bytes of each frame to keep. */
  snaplen: number | undefined;
  /** The filter that keeps headers of flows at whose content nobody looks any more. */
  snap: SnapHandles | undefined;
  /** The worker runs on this CPU, and its ring is made there. */
  cpu: number | undefined;
}

/** A UDP socket that a mirror sends to, alone or one of several that share the port. */
export interface MirrorSource {
  kind: 'udp';
  name: string;
  address: UdpAddress;
  bufferBytes: number;
  /** Descriptor of the eBPF program that shares the datagrams out; classic BPF does where there is none. */
  balancer: number | undefined;
}

/** AF_XDP sockets on some of an interface's queues. */
export interface FrameSource {
  kind: 'afxdp';
  ifname: string;
  ifindex: number;
  /** For the frames of all of them. */
  ringBytes: number;
  retireMs: number;
  queues: readonly number[];
  /** Descriptor of the map by which the program behind the gate finds the sockets. */
  sockets: number;
  /** The worker runs on this CPU, and the memory of its frames is made there. */
  cpu: number | undefined;
}

/** What a worker receives from. */
export type SourceSetup = InterfaceSource | FrameSource | MirrorSource;

/** What a capture worker is started with: plain data, descriptors by number, and its way to the log thread. */
export interface WorkerSetup {
  source: SourceSetup;
  /** Milliseconds that the source may hold a packet back before it hands it out. */
  holdMs: number;
  /** Which of the source's workers this is, from 0, and how many there are. */
  number: number;
  workers: number;
  gate: GateHandles | undefined;
  /** Nothing drops early: flows that a policy says to shunt are counted and no longer analysed. */
  localBypass: boolean;
  /** What a dead run has left to go on with. */
  returning: Returning | undefined;
  /** Seconds. One of the two may be off. */
  lease: number | 'off';
  shuntIdle: number | 'off';
  policies: PlacedPlan;
  checksums: boolean;
  bare: boolean;
  vlanKey: boolean;
  tunnelKey: boolean;
  tunnelPorts: TunnelPorts;
  /** What the gate looks into. */
  tunnels: readonly TunnelKind[];
  localNets: readonly string[];
  maxFlows: number;
  timeouts: Partial<FlowTimeouts>;
  shuntFields: 'within' | 'added';
  /** Samples a second that this worker takes of its packets, for finding attacks (FlowDetection). */
  samples: number | undefined;
  logs: LogSettings;
  /** Connections that end are counted by service and by address: somebody may look at that. */
  tallies: boolean;
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
  /** Connections that began in an earlier run. */
  recovered: 15,
  /** Notes for a later run that found no room. */
  notesLost: 16,
  /** Local bypass: connections, packets that were counted and not analysed, their IP bytes. */
  bypassedConnections: 17,
  bypassedPackets: 18,
  bypassedBytes: 19,
  /** TCP connections that have ended and tell whether both directions were seen, and those of which one was not. */
  judged: 20,
  oneWay: 21,
  /** Packets from before all workers of the source were there: none of them has handled them. */
  early: 22,
  /** How often the ring was full. */
  ringFreezes: 23,
  /** Connections of which the ring kept the headers alone from some packet on. */
  cutConnections: 24,
  /** What the flow engine has missed, see Loss. */
  losses: 25,
  /** Packets of which no connection could be made out: cut, malformed, not IP. */
  unparsed: 33,
  /** Connections that ended early, as the table was full. */
  evicted: 34,
  /** Shunts that have ended, by END_REASONS. */
  ended: 35,
  /** CPU seconds of the worker's thread; NaN where Node.js cannot tell. */
  cpu: 51,
  /** Connections that are open, by STATS_PROTOCOLS, as of the last sweep; those that have ended. */
  active: 45,
  closed: 48,
  /** Seconds between the time of the last packet and when it was handled. */
  lag: 52,
  /** Of the source, by its kind; SOURCE_STATS. */
  source: 53,
  /** For each policy, see PolicyStat. */
  policies: 117,
} as const;
export const SOURCE_STATS = Stat.policies - Stat.source;

/** Counters of a policy. */
export const PolicyStat = {
  connections: 0,
  /** Dropped. */
  packets: 1,
  bytes: 2,
  /** Connections for which it held, and only counts or logs. */
  noted: 3,
  /** Connections that it spared; by SPARED. */
  spared: 4,
} as const;
export const POLICY_STATS = 8;

export function statsBuffer(): SharedArrayBuffer {
  return new SharedArrayBuffer((Stat.policies + POLICY_ROOM * POLICY_STATS) * 8);
}

/**
 * The end, in steps that all workers take together: `settle` ends their shunts, `deafen` lets no further packet come
 * into their rings (a ring that closes first would hand its connections to the others), `stop` handles what is there
 * and writes every record.
 */
export const END_STEPS = ['settle', 'deafen', 'stop'] as const;
export type EndStep = (typeof END_STEPS)[number];
export type ToWorker =
  | { kind: EndStep | 'go' }
  /** From now on these policies hold. */
  | { kind: 'policies'; policies: PlacedPlan }
  /** Clients of the control socket want something; answered by the same `id`. */
  | { kind: 'orders'; id: number; orders: Orders }
  /** The program with this descriptor says what comes into its socket from now on. */
  | { kind: 'filter'; program: number };
export type FromWorker =
  /** A policy says to shunt all between two addresses. */
  | { kind: 'pair'; pair: PairRequest }
  /** For each flow that was asked about an answer, see Order. */
  | { kind: 'orders'; id: number; answers: number[] }
  | { kind: 'order-news'; news: OrderNews }
  /** Packets that were sampled: columns of the capacity BATCH (src/mitigation). */
  | { kind: 'samples'; buffer: ArrayBuffer; count: number }
  | { kind: 'tallies'; news: TallyNews }
  /** The ring is there, and has joined those of the other workers. */
  | { kind: 'ready' }
  /** From now on packets are handled (`go`): all rings were there before. */
  | { kind: 'going' }
  /** The filter is on (`filter`). */
  | { kind: 'filtered' }
  /** The interface went down or away, or was down when the ring was opened. */
  | { kind: 'link' }
  /** A step of the end has been taken. `delays`: seconds from the triggering packet to the first dropped one, a sample. */
  | { kind: 'reached'; step: EndStep; delays: Float64Array }
  | { kind: 'failed'; code: string; message: string; help: string | undefined };
