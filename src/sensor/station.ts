import type { RunConfig } from '../base/config.ts';
import type { SluiceError } from '../base/errors.ts';
import { tunnelPorts } from '../base/tunnels.ts';
import type { Gate } from '../gate/index.ts';
import type { LossTable } from '../gate/losses/index.ts';
import type { LogLink } from '../log/log-link.ts';
import { logSettings } from '../log/log-setup.ts';
import type { ShuntLogRecord } from '../log/other-logs.ts';
import type { FlowDetection } from './flow-detection.ts';
import type { LiveGate } from './live-gate.ts';
import type { PlacedPlan } from './policy-book.ts';
import type { EndStep, WorkerSetup } from './setup.ts';
import type { TallyNews } from './tallies.ts';

/**
 * Where a source can drop what is shunted before its workers see it: in XDP, in a filter on their sockets, or nowhere. Where
 * it can nowhere, a shunted flow is only counted from then on (local bypass).
 */
export type EarlyDrop = 'xdp' | 'socket' | 'none';

/** All that runs on one source: its capture workers, what stands before them, and what was changed for them. */
export interface Station {
  readonly kind: 'interface' | 'udp';
  /** How it is named to people and in logs. */
  readonly name: string;
  /** Known once it has started. */
  readonly earlyDrop: EarlyDrop;
  readonly gate: Gate | undefined;
  /** How the gate is attached; `none` without one. */
  readonly mode: string;
  /** Its gate for whoever shows it; undefined where no client could ask it. */
  readonly live: LiveGate | undefined;
  /** How packets reach its workers. */
  readonly capture: string;
  /** The counters of each worker, see Stat. */
  readonly stats: readonly Float64Array[];
  /** Resolves once its workers handle packets. Errors: SluiceError. */
  start(): Promise<void>;
  /** To be called twice a second. */
  lookAfter(): void;
  /** Other policies from now on. */
  setPolicies(policies: PlacedPlan): void;
  /** Lets go of the clients of its control socket: before the end begins. */
  dismiss(): Promise<void>;
  /** Tells all workers to take a step of the end. */
  tell(kind: EndStep): void;
  /** Resolves when all have taken it, or have had their time; what they say then, see FromWorker. */
  reached(kind: EndStep): Promise<Float64Array[]>;
  /** Lets go of everything, in whatever state it is; the second time does nothing. */
  close(): Promise<void>;
}

/** What a station works for. */
export interface StationHost {
  readonly config: RunConfig;
  /** Those that hold now. */
  readonly policies: PlacedPlan;
  /** A way to the log thread, for one worker. */
  log(): LogLink;
  /** A line of talk; one that is for who wants to know more; a warning. */
  say(line: string): void;
  detail(line: string): void;
  warn(line: string): void;
  /** Something that people should know, with its kind for notice.log. */
  notice(note: string, message: string): void;
  logShunt(record: ShuntLogRecord): void;
  /** Finds attacks in what workers sample; undefined unless a source is to be looked at so. */
  readonly detection: FlowDetection | undefined;
  /** What a worker has counted of its connections. */
  tallied(news: TallyNews): void;
  /** The ledger of losses of the run. */
  losses(): LossTable;
  /** It cannot go on. */
  failed(error: SluiceError): void;
}

/** What the workers of all sources are started with alike. */
export function commonSetup({
  config: c,
  policies,
}: StationHost): Omit<
  WorkerSetup,
  | 'source'
  | 'samples'
  | 'holdMs'
  | 'number'
  | 'workers'
  | 'gate'
  | 'returning'
  | 'log'
  | 'stats'
  | 'localBypass'
> {
  return {
    lease: c.lease,
    shuntIdle: c.shuntIdle,
    policies,
    checksums: c.checksums,
    bare: c.bare,
    vlanKey: c.vlanKey,
    tunnelKey: c.tunnelKey,
    tunnelPorts: tunnelPorts(c.tunnelPorts),
    tunnels: c.tunnels,
    localNets: c.localNets,
    maxFlows: c.maxFlows,
    timeouts: {
      tcp: c.timeoutTcp,
      attempt: c.timeoutTcpAttempt,
      udp: c.timeoutUdp,
      icmp: c.timeoutIcmp,
      other: c.timeoutIcmp,
    },
    shuntFields: c.shuntFields,
    logs: logSettings(c),
    tallies: c.api !== undefined,
  };
}
