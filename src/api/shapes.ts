import { z } from 'zod';
import { LOSS_KINDS, STAGES } from '../gate/losses/index.ts';
import type { LiveRun } from '../sensor/live.ts';

import type { Snapshot } from '../sensor/snapshot.ts';

/** What the API answers with; from these come the checks, the OpenAPI document and the types. */

const counter = z.number().nonnegative();
const count = z.object({ pkts: counter, bytes: counter }).describe('packets, L2 bytes');
const ledger = z
  .object({
    seen: count,
    passed: count,
    shunted: count,
    ruleDropped: count,
    rateLimited: count,
    steered: count,
    aborted: count,
    reasons: z.record(z.string(), count).describe('verdicts of the gate in detail'),
  })
  .describe('every packet that reached the gate, once: seen is the sum of what became of it');

const losses = z.object({
  packets: counter.describe('packets lost anywhere between the card and a worker (/v1/losses)'),
  ring: counter.describe('packets that a capture ring had no room for'),
  socket: counter.describe('datagrams that a UDP socket had no room for'),
  logLines: counter.describe('log lines that could not be written'),
});

export const statusShape = z.object({
  version: z.string(),
  started: z.number().describe('seconds since 1970'),
  at: z.number().describe('seconds since 1970 of these numbers'),
  healthy: z.boolean(),
  packets: counter.describe('handled by the workers'),
  bytes: counter,
  connections: z.object({ open: counter, ended: counter, shunted: counter, recovered: counter }),
  shunts: z.object({ live: counter, started: counter, refused: counter }),
  losses,
  ringFreezes: counter,
  localBypass: z.object({ connections: counter, pkts: counter, bytes: counter.describe('IP bytes') }),
  directions: z
    .object({ judged: counter, oneWay: counter })
    .describe('TCP connections that tell whether both directions were seen'),
  cpuSeconds: counter.describe('of the process, all threads'),
  memoryBytes: counter.describe('resident'),
  ledger: ledger.nullable().describe('null without a gate'),
});

export const sourcesShape = z.array(
  z.object({
    name: z.string(),
    kind: z.enum(['interface', 'udp']),
    mode: z.string().describe('how the gate is attached; none without one'),
    drop: z.enum(['xdp', 'socket', 'none']),
    capture: z.string(),
    workers: z.array(
      z.object({
        packets: counter,
        bytes: counter,
        dropped: counter,
        cpuSeconds: counter.nullable().describe('of its thread; null where that is not known'),
        idle: counter.describe('seconds since it finished a turn'),
      }),
    ),
  }),
);

export const policiesShape = z.array(
  z.object({
    name: z.string(),
    connections: counter.describe('connections that it shunted'),
    pkts: counter.describe('packets dropped of these'),
    bytes: counter.describe('their IP bytes'),
    noted: counter,
    spared: z.record(z.string(), counter),
  }),
);

const rate = z.number();
const lossSum = z.object({ packets: counter, rate }).describe('since the start; per second now');
export const lossesShape = z
  .object({
    at: z.number().describe('seconds since 1970 of these numbers'),
    seconds: z.number().describe('since the start'),
    interval: z.number().describe('seconds that rates are over'),
    lost: lossSum,
    wanted: lossSum.describe('dropped on purpose: shunts, rules, limits'),
    rows: z.array(
      z.object({
        stage: z.enum(STAGES).describe('in the order of the way'),
        where: z.string().describe('card, gate, source, worker or sink; empty: the machine'),
        counter: z.string(),
        kind: z
          .enum(LOSS_KINDS)
          .describe('loss and wanted enter their sum, warning and count enter none (docs/losses.md)'),
        unit: z.enum(['packets', 'lines', 'events', 'entries']),
        total: counter.describe('since the start; live entries: now'),
        rate,
      }),
    ),
    order: z.array(
      z.object({
        source: z.string(),
        worker: counter,
        packets: counter,
        byTime: z
          .object({ packets: counter, share: rate, seconds: counter })
          .describe('packets with an earlier time than one before, the furthest back'),
        byTcp: z
          .object({ segments: counter, share: rate, bytes: counter })
          .describe('TCP data behind data that follows it, the furthest behind'),
        queues: z
          .array(
            z.object({
              queue: counter,
              packets: counter,
              byTime: z.object({ packets: counter, share: rate, seconds: counter }),
            }),
          )
          .optional()
          .describe('with AF_XDP by the queue of the card'),
      }),
    ),
  })
  .describe('the ledger of losses');

/** Rates of a second in brief, as the history has them. */
export const pointShape = z.object({
  t: z.number().describe('seconds since 1970 of its end'),
  pkts: z.array(rate).describe('passed, shunted, dropped by rules, by limits, steered, aborted'),
  bits: z.array(rate),
  sensorPkts: rate,
  sensorBits: rate,
  lost: counter.describe('packets since the point before, not per second'),
  open: counter,
  live: counter,
  cpus: rate,
  workers: z.array(rate.nullable()).describe('processors in use, by worker'),
});
/** One line of the stream: rates since the line before, with the totals. */
export const tickShape = z.object({
  seconds: z.number().describe('since the line before'),
  rates: z.object({
    seenPkts: rate,
    seenBits: rate,
    shuntedPkts: rate,
    shuntedBits: rate,
    droppedPkts: rate.describe('by rules and limits'),
    sensorPkts: rate.describe('handled by the workers'),
    sensorBits: rate,
    lostPkts: rate,
    shuntsStarted: rate,
    connectionsEnded: rate,
    cpus: rate.describe('processors in use by the process'),
  }),
  status: statusShape,
  point: pointShape,
});

export const healthShape = z.object({ healthy: z.boolean() });
export const readyShape = z.object({ ready: z.boolean() });

export type Status = z.output<typeof statusShape>;
export type Tick = z.output<typeof tickShape>;

export function statusOf(run: LiveRun, s: Snapshot, version: string): Status {
  return {
    version,
    started: run.started,
    at: Date.now() / 1000,
    healthy: run.healthy(),
    packets: s.packets,
    bytes: s.bytes,
    connections: {
      open: s.activeFlows,
      ended: s.connections,
      shunted: s.shuntedConnections,
      recovered: s.recovered,
    },
    shunts: { live: s.shuntsLive, started: s.shuntsStarted, refused: s.refused },
    losses: {
      packets: run.losses().lost.packets,
      ring: s.ringDrops,
      socket: s.socketDrops,
      logLines: s.logLinesLost,
    },
    ringFreezes: s.ringFreezes,
    localBypass: s.localBypass,
    directions: { judged: s.judged, oneWay: s.oneWay },
    cpuSeconds: s.cpu,
    memoryBytes: process.memoryUsage.rss(),
    ledger: s.ledger === undefined ? null : { ...s.ledger, reasons: { ...s.ledger.reasons } },
  };
}

/** What changed from one status to a later one, per second. */
export function ratesOf(before: Status, now: Status): Pick<Tick, 'seconds' | 'rates' | 'status'> {
  const seconds = Math.max(0.001, now.at - before.at);
  const per = (value: (s: Status) => number): number => (value(now) - value(before)) / seconds;
  const dropped = ({ ledger: l }: Status): number =>
    l === null ? 0 : l.ruleDropped.pkts + l.rateLimited.pkts;
  return {
    seconds,
    rates: {
      seenPkts: per((s) => s.ledger?.seen.pkts ?? s.packets),
      seenBits: 8 * per((s) => s.ledger?.seen.bytes ?? s.bytes),
      shuntedPkts: per((s) => s.ledger?.shunted.pkts ?? 0),
      shuntedBits: 8 * per((s) => s.ledger?.shunted.bytes ?? 0),
      droppedPkts: per(dropped),
      sensorPkts: per((s) => s.packets),
      sensorBits: 8 * per((s) => s.bytes),
      lostPkts: per((s) => s.losses.packets),
      shuntsStarted: per((s) => s.shunts.started),
      connectionsEnded: per((s) => s.connections.ended),
      cpus: per((s) => s.cpuSeconds),
    },
    status: now,
  };
}
