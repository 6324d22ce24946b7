import type { Side } from '../../../src/flow/index.ts';
import type { Step } from './reference-gate.ts';

/** What one side does. */
export interface Talk {
  /** Bytes of each segment, and seconds before it. */
  sends: readonly (readonly [bytes: number, wait: number])[];
  /** Seconds until it closes, from its last segment on, or from the other side's end. */
  closes: number;
  waitsForPeer: boolean;
}

/** Sequence numbers are relative: the first byte of data is 1. */
interface Sent {
  seq: number;
  bytes: number;
  fin: boolean;
}

/** Seconds: until a segment is sent again, each time twice as long; to the other side; and of what the link holds back. */
const RTO = 0.2;
const TRIP = 0.0002;
const HELD = 0.02;
/** Segments after which a talk is broken off. */
const MOST = 2000;

/**
 * Two TCP endpoints whose link loses, doubles and holds back segments, a `share` of each, before the capture sees them: what arrives
 * is what it has, without the handshake. `starts`: initial sequence numbers. `luck` draws in [0, 1).
 */
export function impairedTalk(
  talks: readonly [Talk, Talk],
  starts: readonly [number, number],
  luck: () => number,
  share: number,
): Step[] {
  const out: Step[] = [];
  const due: { at: number; run: (now: number) => void }[] = [];
  const lastSend: [number, number] = [0, 0];
  const later = (at: number, run: (now: number) => void) => due.push({ at, run });
  const ends = ([0, 1] as const).map((side) => ({
    side,
    next: 1,
    acked: 1,
    heard: 1,
    ranges: [] as [number, number][],
    fin: -1,
    closing: false,
  }));

  const transmit = (side: Side, now: number, { seq, bytes, fin }: Sent) => {
    const me = ends[side];
    const step = {
      side,
      flags: fin ? 'FA' : bytes > 0 ? 'PA' : 'A',
      seq: (starts[side] + seq) >>> 0,
      ack: (starts[1 - side] + me.heard) >>> 0,
      bytes,
      window: 8000,
    };
    const ack = me.heard;
    const arrive = (at: number) =>
      later(at, (ts) => {
        out.push({ ...step, ts });
        receive((1 - side) as Side, ts, { seq, bytes, fin }, ack);
      });
    const draw = luck();
    if (draw < share) return;
    if (draw < 2 * share) {
      arrive(now + TRIP);
      arrive(now + TRIP);
    } else arrive(now + (draw < 3 * share ? HELD : TRIP));
  };

  const send = (side: Side, now: number, sent: Sent, rto = RTO) => {
    transmit(side, now, sent);
    const end = sent.seq + sent.bytes + (sent.fin ? 1 : 0);
    later(now + rto, (at) => {
      if (ends[side].acked < end) send(side, at, sent, rto * 2);
    });
  };

  const close = (side: Side, now: number) => {
    const me = ends[side];
    if (me.closing) return;
    me.closing = true;
    later(Math.max(now, lastSend[side]) + talks[side].closes, (at) => {
      const seq = me.next;
      me.next++;
      send(side, at, { seq, bytes: 0, fin: true });
    });
  };

  const receive = (side: Side, now: number, { seq, bytes, fin }: Sent, ack: number) => {
    const me = ends[side];
    if (ack > me.acked) me.acked = ack;
    const end = seq + bytes + (fin ? 1 : 0);
    if (end === seq) return;
    if (fin) me.fin = end;
    me.ranges.push([seq, end]);
    me.ranges.sort((a, b) => a[0] - b[0]);
    for (const [low, high] of me.ranges) if (low <= me.heard && high > me.heard) me.heard = high;
    transmit(side, now, { seq: me.next, bytes: 0, fin: false });
    if (me.fin === me.heard && talks[side].waitsForPeer) close(side, now);
  };

  for (const side of [0, 1] as const) {
    let at = 2;
    lastSend[side] = talks[side].sends.reduce((sum, [, wait]) => sum + wait, at);
    for (const [bytes, wait] of talks[side].sends) {
      at += wait;
      later(at, (now) => {
        const me = ends[side];
        const seq = me.next;
        me.next += bytes;
        send(side, now, { seq, bytes, fin: false });
      });
    }
    if (!talks[side].waitsForPeer) later(at, (now) => close(side, now));
  }
  while (due.length > 0 && out.length < MOST) {
    // Of those at the same time the one that was asked for first.
    const soonest = Math.min(...due.map(({ at }) => at));
    const [{ run }] = due.splice(
      due.findIndex(({ at }) => at === soonest),
      1,
    );
    run(soonest);
  }
  return out;
}

/** Whether a side has shown a sequence end below which not all was seen. */
export function isMissing(steps: readonly Step[]): boolean {
  return ([0, 1] as const).some((side) => {
    const ranges = steps
      .filter((step) => step.side === side)
      .map(({ flags, seq, bytes }) => [seq, seq + bytes + (/[SF]/.test(flags) ? 1 : 0)] as const)
      .toSorted((a, b) => a[0] - b[0]);
    let edge = ranges[0]?.[0] ?? 0;
    return ranges.some(([low, high]) => {
      const isHole = low > edge;
      edge = Math.max(edge, high);
      return isHole;
    });
  });
}
