import { SluiceError } from '../src/base/errors.ts';

/** How a connection comes to its end. `open` leaves it as it is until the traffic is ended. */
export type CloseMode = 'server-fin' | 'client-fin' | 'server-rst' | 'client-rst' | 'open';

/** A number of like transfers. Sizes are exact: the same plan moves the same bytes each time. */
export interface Transfer {
  /** https and http: a request of HTTP/1.1; tcp: plain bytes; udp: one stream of datagrams; dns: one query; ping: echoes. */
  kind: 'https' | 'http' | 'tcp' | 'udp' | 'dns' | 'ping';
  /** From the client's view. dns and ping have none. */
  direction?: 'download' | 'upload';
  /** Payload of each transfer (ping: of each echo). */
  bytes?: number;
  /** How many (default 1). */
  count?: number;
  tls?: '1.2' | '1.3';
  family?: 4 | 6;
  /** TCP only (default: server-fin for downloads, client-fin for uploads). */
  close?: CloseMode;
  /** The client: ours, or curl for http and https (default ours). */
  with?: 'node' | 'curl';
  /** udp: rate of the stream in Mb/s (default 50) and payload of a datagram (default 1,200). */
  mbps?: number;
  datagram?: number;
  /** ping: echoes (default 5). */
  echoes?: number;
}

/** What runTraffic does: plain data, so that a test can work out what must have been on the wire. */
export interface TrafficPlan {
  name: string;
  transfers: Transfer[];
  /** Transfers at the same time (default 8). */
  concurrency?: number;
  /** Starts over with the first until this many seconds have passed; without it each is done once. */
  repeatSeconds?: number;
  /** Bounds of the whole: seconds (default 120, or repeatSeconds + 10) and payload bytes (default 8 GB). */
  maxSeconds?: number;
  maxBytes?: number;
}

/** A transfer with nothing left open. */
export type Job = Required<Omit<Transfer, 'count'>>;

const LIMITS = { count: 100_000, bytes: 4e9, seconds: 3600 } as const;

/**
 * The transfers of a plan, one by one, in an order that mixes the kinds and is always the same.
 * @throws SluiceError USAGE when the plan makes no sense
 */
export function jobsOf(plan: TrafficPlan): Job[] {
  const groups = plan.transfers.map((transfer) => ({ job: jobOf(transfer), count: transfer.count ?? 1 }));
  const total = groups.reduce((sum, group) => sum + group.count, 0);
  for (const { count } of groups)
    check(Number.isInteger(count) && count > 0, 'count is a whole number from 1 up');
  check(total > 0 && total <= LIMITS.count, `a plan has 1 to ${LIMITS.count} transfers, not ${total}`);
  check((plan.repeatSeconds ?? 1) > 0, 'repeatSeconds is more than 0');
  check(
    (plan.maxSeconds ?? 1) > 0 && (plan.maxSeconds ?? 1) <= LIMITS.seconds,
    `maxSeconds is at most ${LIMITS.seconds}`,
  );
  // Each group is spread evenly over the whole.
  const placed = groups.flatMap(({ job, count }, group) =>
    Array.from({ length: count }, (_, nth) => ({ job, at: (nth + 0.5) / count, group })),
  );
  return placed.sort((a, b) => a.at - b.at || a.group - b.group).map(({ job }) => job);
}

function jobOf(transfer: Transfer): Job {
  const { kind } = transfer;
  const direction = transfer.direction ?? 'download';
  const job: Job = {
    kind,
    direction,
    bytes: transfer.bytes ?? (kind === 'ping' ? 56 : 0),
    tls: transfer.tls ?? '1.3',
    family: transfer.family ?? 4,
    close: transfer.close ?? (direction === 'upload' ? 'client-fin' : 'server-fin'),
    with: transfer.with ?? 'node',
    mbps: transfer.mbps ?? 50,
    datagram: transfer.datagram ?? 1200,
    echoes: transfer.echoes ?? 5,
  };
  check(
    Number.isSafeInteger(job.bytes) && job.bytes >= 0 && job.bytes <= LIMITS.bytes,
    `bytes is at most ${LIMITS.bytes}`,
  );
  check(job.datagram >= 16 && job.datagram <= 8000, 'datagram lies between 16 and 8,000');
  check(job.mbps > 0, 'mbps is more than 0');
  check(
    Number.isInteger(job.echoes) && job.echoes >= 1 && job.echoes <= 10_000,
    'echoes lies between 1 and 10,000',
  );
  if (job.with === 'curl') {
    check(kind === 'http' || kind === 'https', 'curl speaks http and https');
    check(job.close.endsWith('fin'), 'curl closes by FIN');
  }
  return job;
}

function check(holds: boolean, rule: string): void {
  if (!holds) throw new SluiceError('USAGE', `traffic plan: ${rule}`);
}

/** What `npm start` shows: long HTTPS transfers in both TLS versions, and the small traffic around them. */
export function demoPlan(seconds: number): TrafficPlan {
  return {
    name: 'demo',
    concurrency: 6,
    repeatSeconds: seconds,
    transfers: [
      { kind: 'https', tls: '1.3', bytes: 80_000_000, with: 'curl' },
      { kind: 'https', tls: '1.2', bytes: 60_000_000, with: 'curl', family: 6 },
      { kind: 'https', tls: '1.3', bytes: 50_000_000, family: 6 },
      { kind: 'https', tls: '1.2', bytes: 50_000_000 },
      { kind: 'https', tls: '1.3', bytes: 50_000_000, direction: 'upload', with: 'curl' },
      { kind: 'https', tls: '1.3', bytes: 15_000, count: 20 },
      { kind: 'https', tls: '1.2', bytes: 15_000, count: 10, family: 6, close: 'client-fin' },
      { kind: 'http', bytes: 40_000, count: 10 },
      { kind: 'http', bytes: 2_000, count: 4, with: 'curl' },
      { kind: 'http', bytes: 20_000, count: 2, direction: 'upload', close: 'client-rst' },
      { kind: 'tcp', bytes: 20_000_000 },
      { kind: 'dns', count: 30 },
      { kind: 'dns', count: 10, family: 6 },
      { kind: 'udp', bytes: 600_000, mbps: 20 },
      { kind: 'ping', echoes: 5 },
    ],
  };
}

/** Some 1,100 connections of every kind, size and ending, for comparisons record by record. */
export function mixedPlan(): TrafficPlan {
  const transfers: Transfer[] = [];
  for (const family of [4, 6] as const) {
    for (const tls of ['1.2', '1.3'] as const) {
      for (const close of ['server-fin', 'client-fin', 'server-rst', 'client-rst'] as const) {
        transfers.push({ kind: 'https', tls, family, close, bytes: 30_000, count: 28 });
        transfers.push({ kind: 'https', tls, family, close, bytes: 400_000, count: 4 });
        transfers.push({ kind: 'https', tls, family, close, bytes: 50_000, direction: 'upload', count: 6 });
      }
      transfers.push({ kind: 'https', tls, family, bytes: 200_000, close: 'open', count: 4 });
      transfers.push({ kind: 'https', tls, family, bytes: 100_000, with: 'curl', count: 6 });
      transfers.push({
        kind: 'https',
        tls,
        family,
        bytes: 2_000_000,
        with: 'curl',
        direction: 'upload',
        count: 1,
      });
    }
    for (const close of ['server-fin', 'client-fin', 'server-rst', 'client-rst', 'open'] as const) {
      transfers.push({ kind: 'tcp', family, close, bytes: 2_500_000, count: 3 });
      transfers.push({ kind: 'tcp', family, close, bytes: 2_500_000, direction: 'upload', count: 2 });
      transfers.push({ kind: 'tcp', family, close, bytes: 500, count: 5 });
      transfers.push({ kind: 'http', family, close, bytes: 3_000, count: 15 });
      transfers.push({ kind: 'http', family, close, bytes: 1_500_000, count: 1 });
    }
    transfers.push({ kind: 'http', family, bytes: 10_000, with: 'curl', count: 6 });
    transfers.push({ kind: 'dns', family, count: 80 });
    transfers.push({ kind: 'udp', family, bytes: 1_200_000, mbps: 20, count: 2 });
    transfers.push({ kind: 'udp', family, bytes: 200_000, direction: 'upload', count: 2 });
    transfers.push({ kind: 'ping', family, echoes: 5, count: 2 });
  }
  return { name: 'mixed', transfers, concurrency: 16 };
}

/** As much as the link carries, in few connections. */
export function bulkPlan(bytes = 200_000_000): TrafficPlan {
  return {
    name: 'bulk',
    concurrency: 2,
    transfers: [
      { kind: 'tcp', bytes },
      { kind: 'tcp', bytes, family: 6, direction: 'upload' },
    ],
  };
}

/** Presets by the name that the command line knows; `seconds` matters to those that repeat. */
export const presets: Readonly<Record<string, (seconds: number) => TrafficPlan>> = {
  demo: demoPlan,
  mixed: mixedPlan,
  bulk: () => bulkPlan(),
};
