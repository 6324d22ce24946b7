import { addLedger, emptyLedger, type Ledger } from '../gate/index.ts';
import { POLICY_STATS, Stat } from './setup.ts';
import type { Station } from './station.ts';
import { UdpStat } from './udp-books.ts';

/** Sums of what the workers of all sources count, and the ledger of all gates. */
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
  policies: { name: string; connections: number; pkts: number; bytes: number }[];
  /** Undefined without a gate. */
  ledger: Ledger | undefined;
}

/** `policyNames` in the order of the workers' policies. */
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
  for (const { gate } of stations) {
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
      connections: sum(Stat.policies + i * POLICY_STATS),
      pkts: sum(Stat.policies + i * POLICY_STATS + 1),
      bytes: sum(Stat.policies + i * POLICY_STATS + 2),
    })),
    ledger,
  };
}
