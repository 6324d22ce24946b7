import type { ShuntEvent, Side } from '../flow/types.ts';
import { SlDir, SlFlow, SlSpare, SlValue4, SlValue6 } from './layout.gen.ts';
import {
  AFTER_BYTES,
  AFTER_PACKETS,
  AHEAD,
  END_REASONS,
  type EndReason,
  LEARN,
  LOG_EVENTS,
  MADE,
  State,
  SYNC_DONE,
  TIED,
} from './layout.ts';

/** One direction of an entry as the gate counted it. Totals since the entry was armed. */
export interface DirectionCounts {
  state: number;
  reason: EndReason;
  pkts: number;
  /** Sum of IP total lengths. */
  ipBytes: number;
  /** Sum of UDP or ICMP payload; meaningless for TCP. */
  payloadBytes: number;
  /** TCP: highest sequence end, 32 bits, and how often it wrapped since the entry was armed. */
  seq: number;
  seqWraps: number;
  /** TCP: highest acknowledgement, 32 bits. */
  ack: number;
  /** TCP, shunted: what follows this, up to `seq`, was not seen, 32 bits; -1: nothing is known to be missing. */
  edge: number;
  /** TCP: retransmissions and zero windows since the mark, or the packet that passed it (bpf/gate.h). */
  rexmits: number;
  zeroWindows: number;
  /** Armed, TCP: whether a packet has passed the mark, and sequence end and acknowledgement after it. */
  synced: boolean;
  syncSeq: number;
  syncAck: number;
  /** CLOCK_MONOTONIC seconds of the last packet, coarse (one kernel tick). */
  last: number;
  /** Shunted by the gate itself, TCP: where the sequence stood then, unless nothing told. */
  began: number | undefined;
}

const direction = (): DirectionCounts => ({
  state: 0,
  reason: '',
  pkts: 0,
  ipBytes: 0,
  payloadBytes: 0,
  seq: 0,
  seqWraps: 0,
  ack: 0,
  edge: -1,
  rexmits: 0,
  zeroWindows: 0,
  synced: false,
  syncSeq: 0,
  syncAck: 0,
  last: 0,
  began: undefined,
});

/** A value of the flow tables, decoded; reused from read to read. */
export class Entry {
  readonly dirs: readonly [DirectionCounts, DirectionCounts] = [direction(), direction()];
  owner = 0;
  cookie = 0;
  /** The gate made it itself: when, in CLOCK_MONOTONIC seconds; 0: it did not. The cookie says why. */
  made = 0;
  /** It waits, or waited, for a threshold, after which the gate shunts it by itself. */
  threshold = false;
  /** The idle limit that the kernel holds it to, in ms; 0: none. */
  idleMs = 0;
  /** CLOCK_MONOTONIC seconds of the first dropped packet; 0: none yet. */
  first = 0;
  /** Raw history events, 4 bits each, oldest first; `logLength` says how many are complete. */
  readonly log = new Uint8Array(LOG_EVENTS);
  logLength = 0;

  /** Both directions hold nothing back any more: what is counted stays as it is. */
  get ending(): boolean {
    return this.dirs[0].state === State.ending && this.dirs[1].state === State.ending;
  }

  get pkts(): number {
    return this.dirs[0].pkts + this.dirs[1].pkts;
  }

  /** Latest packet of either direction that was dropped, CLOCK_MONOTONIC seconds; 0: none. */
  get last(): number {
    const [a, b] = this.dirs;
    return Math.max(a.pkts > 0 ? a.last : 0, b.pkts > 0 ? b.last : 0);
  }
}

export const VALUE_SIZE = { 4: SlValue4.size, 6: SlValue6.size } as const;
const FLOW_AT = { 4: SlValue4.members.flow, 6: SlValue6.members.flow } as const;
const F = SlFlow.members;
const D = SlDir.members;

function u64(view: DataView, at: number): number {
  return view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
}

const AFTER = AFTER_BYTES | AFTER_PACKETS;
const EVENT_LETTERS = [undefined, 'D', 'A', 'T', 'W'] as const;
const EVENT_SIDE1 = 8;

/** Decodes the value at `at` into `out`. `tcp` says how the sequence fields are to be read. */
export function readEntry(view: DataView, at: number, family: 4 | 6, tcp: boolean, out: Entry): void {
  const flow = at + FLOW_AT[family];
  let made = false;
  for (let side = 0; side < 2; side++) {
    const d = flow + F.dir + side * SlDir.size;
    const s = flow + F.spare + side * SlSpare.size;
    const dir = out.dirs[side as Side];
    const word = view.getUint32(d + D.state, true);
    dir.state = word & 0xff;
    dir.reason = END_REASONS[(word >> 8) & 0xff] ?? 'asked';
    out.owner = word >>> 16;
    dir.pkts = u64(view, d + D.pkts) + u64(view, s + SlSpare.members.pkts);
    dir.ipBytes = u64(view, d + D.ip_bytes) + u64(view, s + SlSpare.members.ip_bytes);
    dir.seq = view.getUint32(d + D.seq, true);
    dir.seqWraps = view.getUint32(d + D.seq + 4, true);
    dir.payloadBytes = tcp ? 0 : u64(view, d + D.seq) + u64(view, flow + F.log + side * 8);
    dir.ack = view.getUint32(d + D.ack, true);
    dir.rexmits = view.getUint32(d + D.rexmits, true);
    dir.zeroWindows = view.getUint32(d + D.zero_windows, true);
    const flags = view.getUint32(d + D.cpu, true);
    dir.synced = (flags & SYNC_DONE) !== 0;
    dir.syncSeq = view.getUint32(d + D.sync_seq, true);
    dir.syncAck = view.getUint32(d + D.sync_ack, true);
    dir.edge = (flags & AHEAD) !== 0 ? dir.syncAck : -1;
    dir.last = u64(view, d + D.last) / 1e9;
    const itself = (flags & (MADE | AFTER)) !== 0 && dir.state !== State.armed;
    dir.began = itself && tcp && (flags & (LEARN | TIED)) === 0 ? dir.syncSeq : undefined;
    if (side === 0) made = (flags & MADE) !== 0;
    if (side === 0) out.threshold = (flags & AFTER) !== 0;
  }
  out.made = made ? (out.dirs[0].syncAck + out.dirs[1].syncAck * 2 ** 32) / 1e9 : 0;
  out.cookie = view.getUint32(flow + F.cookie, true);
  out.idleMs = view.getUint32(flow + F.dir + D.idle_ms, true);
  out.first = u64(view, flow + F.first) / 1e9;
  out.logLength = 0;
  if (!tcp) return;
  const length = Math.min(view.getUint32(flow + F.log_len, true), LOG_EVENTS);
  for (let i = 0; i < length; i++) {
    const event = (view.getUint32(flow + F.log + (i >> 3) * 4, true) >>> ((i & 7) * 4)) & 0xf;
    // A slot that was taken but not written yet: what follows is read next time.
    if (event === 0) break;
    out.log[i] = event;
    out.logLength = i + 1;
  }
}

/** Makes a value that is in no table now one that has ended: it passes everything, and keeps its counts. */
export function freezeValue(view: DataView, at: number, family: 4 | 6): void {
  for (let side = 0; side < 2; side++) {
    const place = at + FLOW_AT[family] + F.dir + side * SlDir.size + D.state;
    const word = view.getUint32(place, true);
    if ((word & 0xff) === State.ending) continue;
    const reason = END_REASONS.indexOf('asked') << 8;
    view.setUint32(place, ((word & 0xffff0000) | reason | State.ending) >>> 0, true);
  }
}

/** Makes a value whose end was only asked for, which is in no table now, one that counts and drops again. */
export function reviveValue(view: DataView, at: number, family: 4 | 6): void {
  for (let side = 0; side < 2; side++) {
    const place = at + FLOW_AT[family] + F.dir + side * SlDir.size + D.state;
    const word = view.getUint32(place, true);
    if ((word & 0xffff) !== (State.ending | (END_REASONS.indexOf('asked') << 8))) continue;
    view.setUint32(place, ((word & 0xffff0000) | State.shunt) >>> 0, true);
  }
}

/** The history letters of events `from` … of an entry, in order; the gate logs those that are letters, and no other. */
export function historyEvents(entry: Entry, from: number): ShuntEvent[] {
  const events: ShuntEvent[] = [];
  for (let i = from; i < entry.logLength; i++) {
    const letter = EVENT_LETTERS[entry.log[i] & ~EVENT_SIDE1];
    if (letter !== undefined) events.push({ letter, side: (entry.log[i] & EVENT_SIDE1) !== 0 ? 1 : 0 });
  }
  return events;
}
