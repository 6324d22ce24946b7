import { number, object, text, time } from './json-line.ts';

/** What happened to a shunt: it began, it ended, the gate would not take it, or its owner was gone. */
export type ShuntLogEvent = 'start' | 'end' | 'refused' | 'orphaned';

/** One line of shunt.log. Counts are of dropped packets; bytes are IP bytes. */
export interface ShuntLogRecord {
  ts: number;
  uid: string | undefined;
  origHost: string;
  origPort: number;
  respHost: string;
  respPort: number;
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
}

export function shuntLine(record: ShuntLogRecord): string {
  return object(
    time('ts', record.ts) +
      text('uid', record.uid) +
      text('id.orig_h', record.origHost) +
      number('id.orig_p', record.origPort) +
      text('id.resp_h', record.respHost) +
      number('id.resp_p', record.respPort) +
      text('proto', record.proto) +
      text('event', record.event) +
      text('shunt_trigger', record.trigger) +
      text('reason', record.reason) +
      number('orig_shunted_pkts', record.origPkts) +
      number('orig_shunted_bytes', record.origBytes) +
      number('resp_shunted_pkts', record.respPkts) +
      number('resp_shunted_bytes', record.respBytes) +
      time('delay', record.delay) +
      time('last_packet', record.last),
  );
}

/** One line of stats.log: totals since the start (names from Zeek's policy/misc/stats, which writes differences). */
export interface StatsRecord {
  ts: number;
  /** The interface. */
  peer: string;
  /** MiB of memory in use. */
  mem?: number | undefined;
  pktsProc: number;
  bytesRecv: number;
  /** Packets that the capture ring had no room for. */
  pktsDropped?: number | undefined;
  /** Packets that reached the link, dropped and shunted ones included. */
  pktsLink?: number | undefined;
  /** Connections that are open, of all protocols. */
  activeConns?: number | undefined;
  /** Connections that have ended. */
  conns?: number | undefined;
  /** Live entries of the gate. */
  shunts?: number | undefined;
  /** Log lines that were lost. */
  logLost?: number | undefined;
  /** The gate's verdicts: packets and L2 bytes each, by their name in the ledger. */
  ledger?: Readonly<Record<string, { pkts: number; bytes: number }>> | undefined;
}

export function statsLine(record: StatsRecord): string {
  let line =
    time('ts', record.ts) +
    text('peer', record.peer) +
    number('mem', record.mem) +
    number('pkts_proc', record.pktsProc) +
    number('bytes_recv', record.bytesRecv) +
    number('pkts_dropped', record.pktsDropped) +
    number('pkts_link', record.pktsLink) +
    number('active_conns', record.activeConns) +
    number('conns', record.conns) +
    number('shunts', record.shunts) +
    number('log_lost', record.logLost);
  for (const [verdict, { pkts, bytes }] of Object.entries(record.ledger ?? {})) {
    line += number(`ledger.${verdict}.pkts`, pkts) + number(`ledger.${verdict}.bytes`, bytes);
  }
  return object(line);
}

/** One line of notice.log (base/frameworks/notice). */
export interface NoticeRecord {
  ts: number;
  /** Kind of the notice, in Zeek's style: Sluice::Torn_Line. */
  note: string;
  msg: string;
  sub?: string | undefined;
  peer?: string | undefined;
}

export function noticeLine(record: NoticeRecord): string {
  return object(
    time('ts', record.ts) +
      text('note', record.note) +
      text('msg', record.msg) +
      text('sub', record.sub) +
      text('peer_descr', record.peer),
  );
}
