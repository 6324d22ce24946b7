import { addLedger, emptyLedger, type Ledger } from '../gate/index.ts';
import { SPARED, type SparedWhy } from '../policy/index.ts';
import { POLICY_STATS, PolicyStat, Stat } from './setup.ts';
import type { Station } from './station.ts';
import { UdpStat } from './udp-books.ts';

/** Sums of what the workers of all sources count, and the ledger of all gates. */
/** What a policy did. */
export interface PolicyCounts {
  /** Connections that it shunted, their dropped packets and IP bytes. */
  connections: number;
  pkts: number;
  bytes: number;
  /** Connections for which it held, where it only counts or logs. */
  noted: number;
  /** Connections that it would have taken, or (never) has kept others from taking. */
  spared: Record<SparedWhy, number>;
}

export interface Snapshot {
  /** CLOCK_MONOTONIC seconds. */
  at: number;
  packets: number;
  bytes: number;
  activeFlows: number;
  connections: number;
  shuntedConnections: number;
  shuntsLive: number;
  shuntsStarted: number;
  refused: number;
  latePackets: number;
  recovered: number;
  notesLost: number;
  ringPackets: number;
  ringDrops: number;
  ringFreezes: number;
  /** Connections of which headers alone were kept from some packet on. */
  cutConnections: number;
  /** Datagrams that UDP sockets had no room for. */
  socketDrops: number;
  /** Connections, packets that were counted and not analysed, their IP bytes. */
  localBypass: { connections: number; pkts: number; bytes: number };
  /** TCP connections that tell whether both directions were seen, and those of which one was not. */
  judged: number;
  oneWay: number;
  logLinesLost: number;
  /** CPU seconds of this process, all threads. */
  cpu: number;
  policies: ({ name: string } & PolicyCounts)[];
  /** Undefined without a gate. */
  ledger: Ledger | undefined;
}

function sparedOf(count: (place: number) => number): PolicyCounts['spared'] {
  return Object.fromEntries(SPARED.map((why, place) => [why, count(place)])) as PolicyCounts['spared'];
}

/** `policyNames` by their places (PolicyBook). */
export function takeSnapshot(stations: readonly Station[], policyNames: readonly string[]): Snapshot {
  const usage = process.cpuUsage();
  const sum = (place: number, kind?: Station['kind']): number => {
    let total = 0;
    for (const station of stations)
      if (kind === undefined || station.kind === kind)
        for (const stats of station.stats) total += stats[place];
    return total;
  };
  let ledger: Ledger | undefined;
  // Several mirrors have one before them.
  for (const gate of new Set(stations.map((station) => station.gate))) {
    if (gate === undefined) continue;
    ledger ??= emptyLedger();
    addLedger(ledger, gate.ledger());
  }
  return {
    at: performance.now() / 1000,
    packets: sum(Stat.packets),
    bytes: sum(Stat.bytes),
    activeFlows: sum(Stat.activeFlows),
    connections: sum(Stat.connections),
    shuntedConnections: sum(Stat.shuntedConnections),
    shuntsLive: sum(Stat.shuntsLive),
    shuntsStarted: sum(Stat.shuntsStarted),
    refused: sum(Stat.refused),
    latePackets: sum(Stat.latePackets),
    recovered: sum(Stat.recovered),
    notesLost: sum(Stat.notesLost),
    ringPackets: sum(Stat.ringPackets, 'interface'),
    ringDrops: sum(Stat.ringDrops, 'interface'),
    ringFreezes: sum(Stat.ringFreezes, 'interface'),
    cutConnections: sum(Stat.cutConnections, 'interface'),
    socketDrops: sum(Stat.source + UdpStat.dropped, 'udp'),
    localBypass: {
      connections: sum(Stat.bypassedConnections),
      pkts: sum(Stat.bypassedPackets),
      bytes: sum(Stat.bypassedBytes),
    },
    judged: sum(Stat.judged),
    oneWay: sum(Stat.oneWay),
    logLinesLost: sum(Stat.logLinesLost),
    cpu: (usage.user + usage.system) / 1e6,
    policies: policyNames.map((name, i) => ({
      name,
      connections: sum(Stat.policies + i * POLICY_STATS + PolicyStat.connections),
      pkts: sum(Stat.policies + i * POLICY_STATS + PolicyStat.packets),
      bytes: sum(Stat.policies + i * POLICY_STATS + PolicyStat.bytes),
      noted: sum(Stat.policies + i * POLICY_STATS + PolicyStat.noted),
      spared: sparedOf((place) => sum(Stat.policies + i * POLICY_STATS + PolicyStat.spared + place)),
    })),
    ledger,
  };
}
