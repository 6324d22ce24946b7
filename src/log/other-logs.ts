import {
  type Connected,
  communityIdField,
  connectionFields,
  count,
  type Field,
  interval,
  type LogSchema,
  number,
  text,
  time,
} from './schema.ts';

/**
 * What happened to a shunt: it began, it ended, the gate would not take it; its run was killed, and this one goes on with
 * the connection, or cannot.
 */
/** `noted`: a policy holds that only counts or logs. */
export type ShuntLogEvent = 'start' | 'end' | 'refused' | 'recovered' | 'orphaned' | 'noted';

/** One line of shunt.log. Counts are of dropped packets; bytes are IP bytes. */
export interface ShuntLogRecord extends Connected {
  ts: number;
  proto: string;
  event: ShuntLogEvent;
  /** The policy that asked for it. */
  trigger: string | undefined;
  /** Why it ended or was refused: fin, rst, syn, idle, full, local, … */
  reason?: string | undefined;
  origPkts?: number | undefined;
  origBytes?: number | undefined;
  respPkts?: number | undefined;
  respBytes?: number | undefined;
  /** Seconds from the packet that triggered the shunt to the first one dropped. */
  delay?: number | undefined;
  /** Time of the last dropped packet. */
  last?: number | undefined;
  communityId?: string | undefined;
}

export const shuntSchema: LogSchema<ShuntLogRecord> = {
  log: 'shunt',
  fields: [
    time('ts', (r) => r.ts),
    ...connectionFields,
    text('proto', (r) => r.proto, 'enum'),
    text('event', (r) => r.event),
    text('shunt_trigger', (r) => r.trigger),
    text('reason', (r) => r.reason),
    count('orig_shunted_pkts', (r) => r.origPkts),
    count('orig_shunted_bytes', (r) => r.origBytes),
    count('resp_shunted_pkts', (r) => r.respPkts),
    count('resp_shunted_bytes', (r) => r.respBytes),
    interval('delay', (r) => r.delay),
    time('last_packet', (r) => r.last),
    communityIdField,
  ],
};

export const STATS_PROTOCOLS = ['tcp', 'udp', 'icmp'] as const;
export type StatsProtocol = (typeof STATS_PROTOCOLS)[number];

/** One line of stats.log: totals since the start (names from Zeek's policy/misc/stats, which writes differences). */
export interface StatsRecord {
  ts: number;
  /** The sources; of one worker its source. */
  peer: string;
  /** The line is of this worker of the source alone, counted from 0. */
  worker?: number | undefined;
  /** MiB of memory in use. */
  mem?: number | undefined;
  pktsProc: number;
  bytesRecv: number;
  /** Packets that the capture ring or the socket had no room for. */
  pktsDropped?: number | undefined;
  /** How often the capture ring was full. */
  ringFreezes?: number | undefined;
  /** Connections of which the rings kept the headers alone from some packet on. */
  cutConns?: number | undefined;
  /** Packets that reached the link, dropped and shunted ones included. */
  pktsLink?: number | undefined;
  /** Seconds between the time of the last packet and when it was handled. */
  pktLag?: number | undefined;
  /** Open connections, and all that there have been, by protocol. */
  byProtocol?: Readonly<Record<StatsProtocol, { active: number; conns: number }>> | undefined;
  /** Connections that are open, of all protocols. */
  activeConns?: number | undefined;
  /** Connections that have ended. */
  conns?: number | undefined;
  /** Live entries of the gate. */
  shunts?: number | undefined;
  /** Log lines that were lost. */
  logLost?: number | undefined;
  /** Local bypass: connections, packets that were counted and not analysed, their IP bytes. */
  bypass?: { connections: number; pkts: number; bytes: number } | undefined;
  /** TCP connections that tell whether both directions were seen, and those of which one was not. */
  judged?: number | undefined;
  oneWay?: number | undefined;
  /** The gate's verdicts: packets and L2 bytes each, by their name in the ledger. */
  ledger?: Readonly<Record<string, { pkts: number; bytes: number }>> | undefined;
  /** The books of UDP listeners: datagrams, by their name there. */
  udp?: Readonly<Record<string, number>> | undefined;
}

/** Which columns stats.log has beside those of all runs. */
export interface StatsColumns {
  /** Verdicts of the gate's ledger. */
  verdicts?: readonly string[];
  /** Counters of UDP listeners. */
  udp?: readonly string[];
}

export function statsSchema({ verdicts = [], udp = [] }: StatsColumns): LogSchema<StatsRecord> {
  const ledger = verdicts.flatMap((verdict): Field<StatsRecord>[] => [
    count(`ledger.${verdict}.pkts`, (r) => r.ledger?.[verdict]?.pkts),
    count(`ledger.${verdict}.bytes`, (r) => r.ledger?.[verdict]?.bytes),
  ]);
  return {
    log: 'stats',
    fields: [
      time('ts', (r) => r.ts),
      text('peer', (r) => r.peer),
      count('worker', (r) => r.worker),
      count('mem', (r) => r.mem),
      count('pkts_proc', (r) => r.pktsProc),
      count('bytes_recv', (r) => r.bytesRecv),
      count('pkts_dropped', (r) => r.pktsDropped),
      count('ring_freezes', (r) => r.ringFreezes),
      count('cut_conns', (r) => r.cutConns),
      count('pkts_link', (r) => r.pktsLink),
      interval('pkt_lag', (r) => r.pktLag),
      ...STATS_PROTOCOLS.map((name) =>
        count<StatsRecord>(`active_${name}_conns`, (r) => r.byProtocol?.[name].active),
      ),
      ...STATS_PROTOCOLS.map((name) =>
        count<StatsRecord>(`${name}_conns`, (r) => r.byProtocol?.[name].conns),
      ),
      count('active_conns', (r) => r.activeConns),
      count('conns', (r) => r.conns),
      count('shunts', (r) => r.shunts),
      count('log_lost', (r) => r.logLost),
      count('bypass.conns', (r) => r.bypass?.connections),
      count('bypass.pkts', (r) => r.bypass?.pkts),
      count('bypass.bytes', (r) => r.bypass?.bytes),
      count('tcp_judged', (r) => r.judged),
      count('tcp_one_way', (r) => r.oneWay),
      number('one_way_share', 'double', shareOf),
      ...ledger,
      ...udp.map((name) => count<StatsRecord>(`udp.${name}`, (r) => r.udp?.[name])),
    ],
  };
}

/** Four decimals; unset as long as none was judged. */
function shareOf({ judged = 0, oneWay = 0 }: StatsRecord): number | undefined {
  return judged === 0 ? undefined : Math.round((oneWay / judged) * 1e4) / 1e4;
}

/** One line of capture_loss.log (policy/misc/capture-loss), of one interval of one worker. */
export interface CaptureLossRecord {
  ts: number;
  /** Seconds of the interval. */
  tsDelta: number;
  peer: string;
  /** Acknowledgements of what was not seen; all of them. */
  gaps: number;
  acks: number;
  percentLost: number;
}

export const captureLossSchema: LogSchema<CaptureLossRecord> = {
  log: 'capture_loss',
  fields: [
    time('ts', (r) => r.ts),
    interval('ts_delta', (r) => r.tsDelta),
    text('peer', (r) => r.peer),
    count('gaps', (r) => r.gaps),
    count('acks', (r) => r.acks),
    number('percent_lost', 'double', (r) => Math.round(r.percentLost * 1e6) / 1e6),
  ],
};

/** One line of notice.log (base/frameworks/notice). */
export interface NoticeRecord {
  ts: number;
  /** Kind of the notice, in Zeek's style: Sluice::Torn_Line. */
  note: string;
  msg: string;
  sub?: string | undefined;
  peer?: string | undefined;
}

export const noticeSchema: LogSchema<NoticeRecord> = {
  log: 'notice',
  fields: [
    time('ts', (r) => r.ts),
    text('note', (r) => r.note, 'enum'),
    text('msg', (r) => r.msg),
    text('sub', (r) => r.sub),
    text('peer_descr', (r) => r.peer),
  ],
};
