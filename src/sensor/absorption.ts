import type { FlowEngineApi, ShuntEvent, Side, SideDelta, TcpSideState } from '../flow/types.ts';
import { type DirectionCounts, type Entry, historyEvents } from '../gate/entry.ts';
import type { Books, Episode, ShuntTotals, SideCount } from './episode.ts';

const NO_COUNT: SideCount = { seq: 0, ack: 0, rexmits: 0, zeroWindows: 0 };
export const NO_COUNTS = [NO_COUNT, NO_COUNT] as const;

const delta = (): SideDelta => ({
  pkts: 0,
  ipBytes: 0,
  payloadBytes: 0,
  seq: -1,
  ack: -1,
  edge: -1,
  seqWraps: 0,
  retransmits: 0,
  zeroWindows: 0,
  last: 0,
});

/** What the gate has counted, taken into the flow engine: each time what is new since the last. */
export class Absorption {
  /** CLOCK_REALTIME − CLOCK_MONOTONIC, seconds, as of the last `readClock`. */
  clockOffset: number;
  readonly #readOffset: () => number;
  readonly #engine: FlowEngineApi;
  /** Seconds between two values of the gate's clock. */
  readonly #tick: number;
  readonly #deltas: [SideDelta, SideDelta] = [delta(), delta()];
  readonly #state: TcpSideState = { seq: 0, ack: 0, retransmits: 0, zeroWindows: 0 };

  constructor(engine: FlowEngineApi, tick: number, readOffset: () => number) {
    this.#engine = engine;
    this.#tick = tick;
    this.#readOffset = readOffset;
    this.clockOffset = readOffset();
  }

  /** The clock may have been set. */
  readClock(): void {
    this.clockOffset = this.#readOffset();
  }

  /** A TCP side as the engine has it now. */
  count(slot: number, side: Side): SideCount {
    const s = this.#state;
    this.#engine.tcpSide(slot, side, s);
    return {
      seq: Math.max(0, s.seq),
      ack: Math.max(0, s.ack),
      rexmits: s.retransmits,
      zeroWindows: s.zeroWindows,
    };
  }

  /** Both sides have been seen: their sequences are known. */
  known(slot: number): boolean {
    const s = this.#state;
    return ([0, 1] as const).every((side) => {
      this.#engine.tcpSide(slot, side, s);
      return s.seq >= 0 && s.ack >= 0;
    });
  }

  /** Both sides; zeros for what is not TCP. */
  readonly counts = (e: Episode): readonly [SideCount, SideCount] =>
    e.tcp ? [this.count(e.slot, 0), this.count(e.slot, 1)] : NO_COUNTS;

  /** Everything from before the flip is in the engine: letters, and a wrap of the sequence while it was armed. */
  begin(episode: Episode): void {
    if (episode.begun) return;
    episode.begun = true;
    const now = this.counts(episode);
    for (const side of [0, 1] as const) {
      episode.absorbed[side].rexmits = now[side].rexmits;
      episode.absorbed[side].zeroWindows = now[side].zeroWindows;
      if (episode.started && now[side].seq < episode.armedSeq[side]) episode.absorbed[side].seqWraps = 1;
    }
  }

  /** Moves what `entry` has beyond what was absorbed before into the engine; all of it was dropped `until` then. */
  absorb(episode: Episode, books: Books, entry: Entry, until = Number.POSITIVE_INFINITY): void {
    this.begin(episode);
    const events: ShuntEvent[] = historyEvents(entry, episode.events);
    episode.events = entry.logLength;
    let pkts = 0;
    for (const side of [0, 1] as const) {
      const delta = this.#deltas[side];
      this.#difference(entry.dirs[side], episode, side, delta);
      delta.last = Math.min(delta.last, until);
      pkts += delta.pkts;
    }
    if (pkts === 0 && events.length === 0) return;
    const orig = this.#engine.origSide(episode.slot);
    const [o, r] = [this.#deltas[orig], this.#deltas[orig === 0 ? 1 : 0]];
    books.totals.origPkts += o.pkts;
    books.totals.origIpBytes += o.ipBytes;
    books.totals.respPkts += r.pkts;
    books.totals.respIpBytes += r.ipBytes;
    this.#engine.absorb(episode.slot, this.#deltas, events);
  }

  /** What was absorbed of this shunt. */
  dropped(episode: Episode): ShuntTotals {
    const [a, b] = episode.absorbed;
    const [o, r] = this.#engine.origSide(episode.slot) === 0 ? [a, b] : [b, a];
    return { origPkts: o.pkts, origIpBytes: o.ipBytes, respPkts: r.pkts, respIpBytes: r.ipBytes };
  }

  #difference(now: DirectionCounts, episode: Episode, side: Side, out: SideDelta): void {
    const { tcp, reason } = episode;
    const before = episode.absorbed[side];
    // The gate's clock shows the tick before. Where no packet follows that would tell the time, take the middle.
    const late = reason === 'idle' || reason === 'asked' ? this.#tick / 2 : 0;
    out.pkts = now.pkts - before.pkts;
    out.ipBytes = now.ipBytes - before.ipBytes;
    out.payloadBytes = now.payloadBytes - before.payloadBytes;
    out.retransmits = now.rexmits - before.rexmits;
    out.zeroWindows = now.zeroWindows - before.zeroWindows;
    out.seqWraps = now.seqWraps - before.seqWraps;
    out.seq = tcp && now.pkts > 0 ? now.seq : -1;
    out.ack = tcp && now.pkts > 0 ? now.ack : -1;
    out.edge = tcp && now.pkts > 0 ? now.edge : -1;
    out.last = out.pkts > 0 ? now.last + this.clockOffset + late : 0;
    before.pkts = now.pkts;
    before.ipBytes = now.ipBytes;
    before.payloadBytes = now.payloadBytes;
    before.rexmits = now.rexmits;
    before.zeroWindows = now.zeroWindows;
    before.seqWraps = now.seqWraps;
  }
}
