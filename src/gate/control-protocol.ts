import { isIP } from 'node:net';
import { z } from 'zod';
import type { SenderStatus } from '../detect/sample-sender.ts';
import type { AppliedRules } from '../rules/live-rules.ts';
import type { FleetStatus } from './daemon-fleet.ts';
import type { Features } from './features.ts';
import { protocolNumber } from './flow-key.ts';
import type { Count, Ledger } from './ledger.ts';
import type { SlotStatus } from './slots.ts';
import type { SteeringReport } from './steer.ts';
import type { WatchReport } from './watch.ts';
import type { ZeekStatus } from './zeek-bridge.ts';

/** The control protocol (docs/control.md): JSON lines over a Unix socket, a request each, answered by its `id`. */
export const PROTOCOL_VERSION = 1;

export const LIMITS = {
  /** Bytes of a request. */
  line: 65_536,
  /** Flows in one request. */
  flows: 256,
  /** Rules in one request. */
  rules: 256,
  /** Requests per second of one client, and how many it may save up. */
  requestsPerSecond: 1000,
  burst: 2000,
  clients: 64,
  /** Of these, most of one user who is not the superuser. */
  clientsPerUser: 32,
  /** And kept free for the superuser. */
  reservedClients: 8,
  /** Milliseconds until the first request. */
  silentMs: 10_000,
  /** Requests of one client that are being worked on; what comes after waits. */
  pending: 16,
  /** Bytes that wait for a client that does not read; then events are left out. */
  backlog: 1_048_576,
  owners: 64,
  /** Flows that are held, and those of one owner, or of one user by hand. */
  holds: 16_384,
  holdsPerHolder: 4096,
  /** Entries of one owner unless it asks for fewer. */
  entriesPerOwner: 65_536,
  /** Longest time of an entry made by hand. */
  ttl: 7 * 86_400,
} as const;

const DAY = 86_400;
const ttl = z.number().min(1).max(LIMITS.ttl);
const vlan = z.number().int().min(0).max(4094);
const address = z.string().refine((text) => isIP(text) !== 0, { error: 'must be an IP address' });
const endpoint = z.strictObject({ addr: address, port: z.number().int().min(0).max(65_535) });
const traced = z.strictObject({ addr: address, port: z.number().int().min(0).max(65_535).optional() });
const sequences = z.tuple([z.number().int().min(0).max(0xffffffff), z.number().int().min(0).max(0xffffffff)]);

const flow = z.strictObject({
  proto: z.string().refine((name) => protocolNumber(name) !== undefined, { error: 'must be a protocol' }),
  a: endpoint,
  b: endpoint,
  vlan: vlan.default(0),
  innerVlan: vlan.default(0),
  vni: z.number().int().min(0).max(0xffffff).default(0),
  geneveVni: z.number().int().min(0).max(0xffffff).optional(),
});

function isPrefix(text: string): boolean {
  const [addr = '', length, more] = text.split('/');
  const family = isIP(addr);
  if (family === 0 || more !== undefined || addr.includes('%')) return false;
  return length === undefined || (/^\d{1,3}$/.test(length) && Number(length) <= (family === 4 ? 32 : 128));
}

const name = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,31}$/, {
  error: 'must be 1 to 32 letters, digits, dots, dashes or underscores',
});
const reason = z.string().max(256);
const size = z
  .number()
  .int()
  .min(1)
  .max(2 ** 24);
const id = z.union([z.number().int(), z.string().max(64)]);

/** An address, or one with a prefix length. */
const prefix = z.string().refine(isPrefix, { error: 'must be an address, or one with a prefix length' });
const pair = { a: prefix, b: prefix, vlan: vlan.default(0), innerVlan: vlan.default(0) };

const idleLimit = z.union([
  z
    .number()
    .min(1)
    .max(7 * DAY),
  z.literal('off'),
]);

const allowance = z
  .number()
  .int()
  .min(1)
  .max(2 ** 31 - 1);
const threshold = z.union([z.strictObject({ bytes: allowance }), z.strictObject({ packets: allowance })]);

const ruleId = z.string().min(1).max(64);

const requests = {
  hello: { version: z.number().int() },
  status: {},
  /** The ledger of losses: LossTable of src/gate/losses. */
  losses: {},
  add: {
    /** Nobody: made by hand. */
    owner: name.optional(),
    flows: z
      .array(
        flow.extend({
          ttl: ttl.optional(),
          /** Seconds, in place of the owner's idle limit; off only where there is a lease or a time limit. */
          idle: idleLimit.optional(),
          /** TCP: highest sequence end and acknowledgement that a and b have sent; learned when not given. */
          seq: sequences.optional(),
          ack: sequences.optional(),
          trigger: reason.optional(),
          /** Passes until one direction has had so much, then the gate shunts it by itself. */
          after: threshold.optional(),
        }),
      )
      .min(1)
      .max(LIMITS.flows),
    why: reason.optional(),
  },
  remove: { flows: z.array(flow).min(1).max(LIMITS.flows), why: reason.optional() },
  query: { flows: z.array(flow).min(1).max(LIMITS.flows) },
  list: { owner: name.optional(), page: z.number().int().min(1).max(1024).default(256) },
  watch: {
    /** Seconds between two events with the counters; 0: none. */
    interval: z.number().min(0).max(3600).default(1),
  },
  unwatch: {},
  'owner.register': {
    name,
    /** Seconds, or off: one of the two may be off, never both. */
    lease: z.union([z.number().min(0.1).max(3600), z.literal('off')]).default(2),
    idle: idleLimit.default(300),
    maxEntries: z.number().int().min(1).max(LIMITS.entriesPerOwner).default(LIMITS.entriesPerOwner),
  },
  'owner.unregister': { name },
  renew: { owner: name },
  'pair.add': { ...pair, owner: name.optional(), ttl: ttl.optional(), why: reason.optional() },
  'pair.remove': { ...pair, why: reason.optional() },
  'pair.list': {},
  'exception.add': { prefix, why: reason.optional() },
  'exception.remove': { prefix, why: reason.optional() },
  'exception.list': {},
  /** Flows that somebody still needs; without an owner and without a time for 300 s. */
  'hold.add': {
    owner: name.optional(),
    flows: z
      .array(flow.extend({ ttl: ttl.optional() }))
      .min(1)
      .max(LIMITS.flows),
    why: reason.optional(),
  },
  'hold.remove': {
    owner: name.optional(),
    flows: z.array(flow).min(1).max(LIMITS.flows),
    why: reason.optional(),
  },
  'hold.list': { page: z.number().int().min(1).max(1024).default(256) },
  /** Each as the schema of a rule has it (docs/rules.md). `replace`: those that are there change. */
  'rule.add': {
    rules: z.array(z.record(z.string(), z.unknown())).min(1).max(LIMITS.rules),
    replace: z.boolean().default(false),
    why: reason.optional(),
  },
  'rule.remove': { ids: z.array(ruleId).min(1).max(LIMITS.rules), why: reason.optional() },
  'rule.switch': { ids: z.array(ruleId).min(1).max(LIMITS.rules), on: z.boolean(), why: reason.optional() },
  'rule.list': { page: z.number().int().min(1).max(1024).default(256) },
  /** A program pinned somewhere, to run behind the gate; null: none. */
  next: { pin: z.string().min(1).max(4096).nullable() },
  /** Which packets to tell of; what is left out may be anything. */
  'trace.start': {
    proto: z
      .string()
      .refine((text) => protocolNumber(text) !== undefined, { error: 'must be a protocol' })
      .optional(),
    a: traced.optional(),
    b: traced.optional(),
  },
  'trace.read': {},
  'trace.stop': {},
  resize: { maxShunts4: size.optional(), maxShunts6: size.optional() },
  stop: {},
} as const;

export type Op = keyof typeof requests;
export type RequestOf<O extends Op> = z.output<z.ZodObject<(typeof requests)[O]>>;

const schemas = new Map<string, z.ZodType>(
  Object.entries(requests).map(([op, shape]) => [op, z.strictObject({ id, op: z.literal(op), ...shape })]),
);
export const OPS: readonly string[] = [...schemas.keys()];

export type Id = number | string | null;
export type Request = { [O in Op]: { id: Id; op: O } & RequestOf<O> }[Op];

/** What of a value was not understood, as one line. */
export type Parsed = { request: Request } | { id: Id; problem: string };

/** Reads one line; never throws. */
export function parseRequest(line: string): Parsed {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch {
    return { id: null, problem: 'the line is not JSON' };
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    return { id: null, problem: 'a request is a JSON object' };
  const given = value as Record<string, unknown>;
  const known = id.safeParse(given['id']);
  const requestId = known.success ? known.data : null;
  const schema = typeof given['op'] === 'string' ? schemas.get(given['op']) : undefined;
  if (schema === undefined) return { id: requestId, problem: `op is one of ${OPS.join(', ')}` };
  const parsed = schema.safeParse(value);
  if (parsed.success) return { request: parsed.data as Request };
  const issues = parsed.error.issues.slice(0, 3);
  return {
    id: requestId,
    problem: issues.map(({ path, message }) => `${path.join('.') || 'request'}: ${message}`).join('; '),
  };
}

export interface SideRow {
  pkts: number;
  /** L2 bytes as derived: 14 for the Ethernet header and 4 for each VLAN id of the key on top of each packet. */
  bytes: number;
  ipBytes: number;
  /** TCP whose start is not known: at most this much, from the packets' least headers. */
  payloadBytes: number;
}

/** An entry of the live table, as `sluice shunt ls --json` prints it. Times in seconds since the epoch. */
export interface ShuntRow {
  proto: string;
  a: { addr: string; port: number };
  b: { addr: string; port: number };
  vlan: number;
  innerVlan: number;
  vni: number;
  geneveVni?: number | undefined;
  /** Empty: made by hand. */
  owner: string;
  trigger: string;
  /** When it was added; of entries found after a restart, the first dropped packet. Null: not known. */
  since: number | null;
  /** Last dropped packet; null: none. */
  last: number | null;
  /** When its time is over; null: it has a lease instead. */
  expires: number | null;
  state: 'armed' | 'shunted' | 'ending';
  ab: SideRow;
  ba: SideRow;
  /** Per side: what the gate tracks of the stream. */
  tcp: {
    seq: [number, number];
    ack: [number, number];
    rexmits: [number, number];
    zeroWindows: [number, number];
    /** The sequence state was given when it was added, so that payloadBytes is exact. */
    exact: boolean;
  } | null;
}

/** A pair of addresses or prefixes. Times in seconds since the epoch. */
export interface PairRow {
  a: string;
  b: string;
  vlan: number;
  innerVlan: number;
  /** Empty: made by hand. */
  owner: string;
  expires: number | null;
  last: number | null;
  ab: { pkts: number; ipBytes: number };
  ba: { pkts: number; ipBytes: number };
}

/** A flow that somebody still needs. Times in seconds since the epoch. */
export interface HoldRow {
  proto: string;
  a: { addr: string; port: number };
  b: { addr: string; port: number };
  vlan: number;
  innerVlan: number;
  vni: number;
  geneveVni?: number | undefined;
  /** Empty: by hand. */
  owner: string;
  /** The owner, or which user. */
  holder: string;
  why: string;
  since: number;
  /** Null: as long as its owner's lease. */
  expires: number | null;
  /** How often it kept the flow from being shunted. */
  kept: number;
}

/** What has come in as EVE records. */
export interface EveCounts {
  records: number;
  /** Other kinds of records, and connections without ports. */
  others: number;
  /** Lines that are no record, or longer than one may be. */
  bad: number;
  /** Taken by a policy. */
  taken: number;
  /** Taken, and not added as too many were waiting. */
  dropped: number;
  /** A policy would have: it only logs, or something spared the connection. */
  noted: number;
  spared: number;
}

/** How many entries other sensors have in their tables; null: not served. */
export interface PeerStatus {
  zeek: { flows: number; pairs: number; max: number } | null;
  suricata: { flows4: number; flows6: number; max: number } | null;
}

export interface OwnerRow {
  name: string;
  slot: number;
  uid: number | null;
  /** Seconds, or off. */
  lease: number | 'off';
  idle: number | 'off';
  maxEntries: number;
  entries: number;
  /** Seconds since the lease was last renewed; null without one. */
  age: number | null;
  lapsed: boolean;
}

/** A rule, as `sluice rule ls --json` prints it. */
export interface RuleRow {
  id: string;
  expr: string;
  lang: string;
  /** As people write it: `drop`, `limit=1000pps,burst=100ms`. */
  action: string;
  priority: number;
  scope: object;
  /** The scope has this gate in it. */
  inScope: boolean;
  enabled: boolean;
  /** Seconds since the epoch; null: never. */
  expires: number | null;
  note: string;
  /** Of samples and traces, until the rule changes; null: there are no programs yet. */
  number: number | null;
  matched: { pkts: number; bytes: number };
  dropped: { pkts: number; bytes: number };
  /** Null: it has not been asked for. What a NIC drops is in no count. */
  offload: OffloadState | null;
}

/** Where a rule is that should be in the NIC. In XDP it is in both cases. */
export interface OffloadState {
  wanted: 'nic';
  state: 'nic' | 'xdp';
  /** Why it is in XDP only. */
  reason: string | null;
}

/** What `rule add` answers. */
export interface RulesAdded {
  added: string[];
  /** The programs that are live now. */
  programs: AppliedRules | null;
  /** Of those added that ask for it. */
  offload: (OffloadState & { id: string })[];
}

/** Totals of the control socket. */
export interface ControlCounts {
  /** Connected now, those that were refused for want of room. */
  clients: number;
  clientsRefused: number;
  requests: number;
  /** Refused, as a client asked more often than it may. */
  limited: number;
  /** Lines that were no request. */
  malformed: number;
}

export interface InterfaceRow {
  interface: string;
  ifindex: number;
  mode: string;
  /** Why it is not the best mode; null: it is. */
  modeReason: string | null;
}

/** What `gate status --json` prints: the ledger and what stands around it; the interface is the first one. */
export type StatusReport = Ledger &
  InterfaceRow & {
    /** All that share the tables; everything else is over all of them. */
    interfaces: InterfaceRow[];
    programId: number | null;
    layout: number;
    vlanKey: boolean;
    /** What the program does besides, each for its cost; null when the daemon that knows is dead. */
    features: Features | null;
    /** `driven`: `sluice run` in place of a daemon. */
    daemon: { alive: boolean; driven?: boolean; pid: number | null; socket: string; uptime: number | null };
    /** With `--mitigate`, packets: sampled, and due but lost or beyond the budget. */
    sampled: Count;
    sampleLost: Count;
    tables: Record<'flows4' | 'flows6', { entries: number; max: number }>;
    owners: OwnerRow[];
    /** Holds that are live; shunts that holds have kept from beginning, and that they have ended. Null: no daemon. */
    holds: { live: number; kept: number; released: number } | null;
    /** What has come over the control socket since the start; `limited`: refused as too many. Null: no daemon. */
    control: ControlCounts | null;
    slots: SlotStatus;
    /** Entries of other sensors in their own tables (`--abi`), as last looked at; null: none is served, or no daemon. */
    peers: PeerStatus | null;
    /** Of EVE records (`--eve`), since the start; null: none are read, or no daemon. */
    eve: EveCounts | null;
    pins: Record<string, string>;
    /** Null where the gate does not steer, or the daemon that knows is dead. */
    steering: SteeringReport | null;
    /** Null where no Zeek drives the gate by its WebSocket, or the daemon is dead. */
    zeek: ZeekStatus | null;
    /** What the gate watches and shunts by itself; null: it does not, or the daemon that knows is dead. */
    watch: WatchReport | null;
    /** Of samples for a fleet's detectors (`--samples-to`); null: none are sent, or no daemon. */
    samples: SenderStatus | null;
    /** Of signed rules (`--rules-from`); null: none are followed, or no daemon. */
    fleet: FleetStatus | null;
  };

/** What a watcher is told. */
export type WatchEvent =
  | { event: 'start'; ts: number; shunt: ShuntRow }
  | { event: 'end'; ts: number; reason: string; shunt: ShuntRow }
  | {
      event: 'counters';
      ts: number;
      shunts: number;
      ledger: { seen: Count; passed: Count; shunted: Count };
      /** Events that this watcher did not get, as it did not read. */
      lost: number;
    };
