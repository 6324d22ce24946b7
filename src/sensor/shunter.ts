import type { FlowEngineApi, ShuntEvent, Side, SideDelta, TcpSideState } from '../flow/types.ts';
import type { GateClient } from '../gate/client.ts';
import { monotonicSeconds } from '../gate/clock.ts';
import { type DirectionCounts, Entry, historyEvents, readEntry } from '../gate/entry.ts';
import type { EndReason } from '../gate/layout.ts';
import type { OpName } from '../gate/ops.ts';
import { type Episode, newEpisode, type SideCount } from './episode.ts';

const IPPROTO_TCP = 6;
/** Protocols for which gate and flow engine have the same key: ICMP, TCP, UDP, ICMPv6. */
const KEYED: ReadonlySet<number> = new Set([1, IPPROTO_TCP, 17, 58]);
const SYN_FIN_RST = 0x07;
const EEXIST = -17;
const EAGAIN = -11;

/** Turns that a flow may wait for its entry to catch up with the worker before it is armed anew. */
const ARMED_TURNS = 100;
/** Turns for a synchronization before it is tried again; a side that only repeats itself is then taken as it is. */
const SYNC_TURNS = 10;
/** A refused or ended shunt is not tried again before this many seconds. */
const RETRY_SECONDS = 5;
/** Shunts of one connection, so that spoofed SYNs and RSTs cannot keep the gate busy for good. */
const MAX_EPISODES = 64;

export interface ShuntTotals {
  origPkts: number;
  origIpBytes: number;
  respPkts: number;
  respIpBytes: number;
}

/** What is told to the log and to the counters; all of it happens at most a few times per connection. */
export interface ShunterEvents {
  started(slot: number, trigger: number): void;
  /**
   * `dropped` during this shunt; a connection may have several. `seconds` from the triggering packet to the first dropped
   * one; undefined when none was dropped.
   */
  ended(
    slot: number,
    trigger: number,
    reason: EndReason,
    dropped: ShuntTotals,
    seconds: number | undefined,
  ): void;
  refused(slot: number, trigger: number, reason: 'full' | 'local'): void;
  /** Packets that were dropped after the connection's record had been written. */
  late(pkts: number, ipBytes: number): void;
}

/** Where the source stands (src/capture/afpacket.ts). */
export interface RingPosition {
  /** Blocks handed out so far, and the number of the one that is being filled. */
  readonly sequence: number;
  openBlock(): number;
  /** Packets handed out so far, the present one among them, and those that have reached the ring. */
  readonly packets: number;
  received(): number;
}

interface Books {
  totals: ShuntTotals;
  trigger: number;
  episodes: number;
  current: Episode | undefined;
}

const NO_COUNT: SideCount = { seq: 0, ack: 0, rexmits: 0, zeroWindows: 0 };
const NO_COUNTS = [NO_COUNT, NO_COUNT] as const;

/** It has an entry that may hold something back. */
function isLive(e: Episode): boolean {
  return e.phase === 'armed' || e.phase === 'syncing' || e.phase === 'shunted';
}

const delta = (): SideDelta => ({
  pkts: 0,
  ipBytes: 0,
  payloadBytes: 0,
  seq: -1,
  ack: -1,
  seqWraps: 0,
  retransmits: 0,
  zeroWindows: 0,
  last: 0,
});

/**
 * The hand-off of connections between the flow engine and the gate (ADR 0005). XDP comes before the ring, so each
 * packet is counted on exactly one side and sums are exact by themselves; what needs care is order:
 *
 * armed    the gate passes and tracks; wait until the ring has handed out all that had reached it by then
 * syncing  gate and worker take the counts of T and W at the same packet, so that the gate can go on with them
 * shunted  the gate drops and counts; what is left in the ring from before the flip is handled as ever
 * ending   the gate passes again; before the first packet from after the end is handled, what the gate counted
 *          is absorbed; after a grace period the entry is read once more and deleted
 */
export class Shunter {
  readonly #engine: FlowEngineApi;
  readonly #gate: GateClient;
  readonly #ring: RingPosition;
  readonly #events: ShunterEvents;
  readonly #idleMs: number;
  readonly #settleMs: number;
  readonly #isLocal: (family: 4 | 6, key: Uint8Array) => boolean;
  /** CLOCK_REALTIME − CLOCK_MONOTONIC, seconds; kept up to date by the worker, as the clock may be set. */
  clockOffset: number;
  /** Seconds between two values of the gate's clock. */
  readonly #tick: number;

  readonly #books = new Map<number, Books>();
  /** Episodes that have a step to take; each is in one list. */
  #waiting: Episode[] = [];
  #armed: Episode[] = [];
  #syncing: Episode[] = [];
  #ending: Episode[] = [];
  #cleaning = false;
  #sweeping = false;
  #live = 0;
  /** Not before this time, after the table was found full. */
  #nextArm = 0;
  #stopped = false;
  readonly #entry = new Entry();
  readonly #deltas: [SideDelta, SideDelta] = [delta(), delta()];
  readonly #state: TcpSideState = { seq: 0, ack: 0, retransmits: 0, zeroWindows: 0 };

  constructor(options: {
    engine: FlowEngineApi;
    gate: GateClient;
    ring: RingPosition;
    events: ShunterEvents;
    /** Idle limit that the kernel holds each entry to. */
    idleSeconds: number;
    /** Longer than a block of the ring stays open. */
    settleMs: number;
    clockOffset: number;
    tick: number;
    isLocal: (family: 4 | 6, key: Uint8Array) => boolean;
  }) {
    this.#engine = options.engine;
    this.#gate = options.gate;
    this.#ring = options.ring;
    this.#events = options.events;
    this.#idleMs = Math.max(1, Math.round(options.idleSeconds * 1000));
    this.#settleMs = options.settleMs;
    this.clockOffset = options.clockOffset;
    this.#tick = options.tick;
    this.#isLocal = options.isLocal;
  }

  /** Shunt this flow. Call it for flows without a mark only. */
  request(slot: number, trigger: number, triggered: number): void {
    const engine = this.#engine;
    if (this.#stopped || !KEYED.has(engine.proto(slot)) || !engine.isShuntable(slot)) return;
    let books = this.#books.get(slot);
    if (books === undefined) {
      books = {
        totals: { origPkts: 0, origIpBytes: 0, respPkts: 0, respIpBytes: 0 },
        trigger,
        episodes: 0,
        current: undefined,
      };
      this.#books.set(slot, books);
    }
    if (books.current !== undefined) return;
    const key = engine.key(slot);
    const episode = newEpisode({
      slot,
      generation: engine.generation(slot),
      family: key.family,
      key: key.bytes,
      tcp: engine.proto(slot) === IPPROTO_TCP,
      trigger,
      triggered,
    });
    books.current = episode;
    engine.setMark(slot, true);
    if (books.episodes >= MAX_EPISODES) episode.phase = 'refused';
    else if (this.#isLocal(key.family, key.bytes)) {
      episode.phase = 'refused';
      this.#events.refused(slot, trigger, 'local');
    } else {
      // Again after an end: not at once, so that whoever ends it from outside cannot make work for every packet.
      if (books.episodes > 0)
        episode.notBefore = monotonicSeconds() + Math.min(RETRY_SECONDS, books.episodes - 1);
      books.episodes++;
      this.#waiting.push(episode);
    }
  }

  /** Engine hook: a packet of a marked flow is about to be accounted. */
  beforePacket(slot: number, _side: Side, tcpFlags: number): void {
    const episode = this.#books.get(slot)?.current;
    if (episode === undefined || episode.phase !== 'shunted') return;
    // Up to the barrier only the SYN, FIN or RST itself can come from after the end: the rest was passed while armed.
    if (this.#ring.packets <= episode.barrier && (tcpFlags & SYN_FIN_RST) === 0) return;
    if (!this.#gate.read(episode.family, episode.key, episode.tcp, this.#entry)) return;
    if (this.#entry.ending) this.#endEpisode(episode);
    else {
      // Passed although the flow is shunted (a fragment, say): it may acknowledge what was dropped.
      const books = this.#books.get(slot);
      if (books !== undefined) this.#absorb(episode, books);
    }
  }

  /** A packet of a marked flow has been accounted. */
  afterPacket(slot: number): void {
    const episode = this.#books.get(slot)?.current;
    if (episode === undefined || episode.phase !== 'syncing') return;
    for (const side of [0, 1] as const) {
      if (episode.passed[side] !== undefined) continue;
      const now = this.#count(slot, side);
      const mark = episode.marks[side];
      if (((now.seq - mark.seq) | 0) > 0 || ((now.ack - mark.ack) | 0) > 0) episode.passed[side] = now;
    }
  }

  /** Engine hook: a timer is about to end a marked flow. */
  mayExpire(slot: number, now: number): boolean {
    const episode = this.#books.get(slot)?.current;
    if (episode === undefined) return true;
    if (episode.phase !== 'shunted') return true;
    const timeout = this.#engine.idleTimeout(slot);
    if (now - (episode.lastDropped + this.clockOffset) < timeout) return false;
    if (!this.#gate.read(episode.family, episode.key, episode.tcp, this.#entry)) return true;
    this.#noteLast(episode, this.#entry);
    if (!this.#entry.ending) {
      const last = Math.max(episode.lastDropped + this.clockOffset, this.#engine.lastTime(slot));
      if (now - last < timeout) return false;
      // Silent on both sides of the gate: stop it.
      this.#askEnd([episode]);
      if (!this.#gate.read(episode.family, episode.key, episode.tcp, this.#entry)) return true;
    }
    // The engine looks once more, with what was taken in.
    this.#endEpisode(episode, 'idle');
    return true;
  }

  /** Engine hook: the flow has ended; its record is read after this. Returns what of it was shunted. */
  closed(slot: number): { totals: ShuntTotals; trigger: number } | undefined {
    const books = this.#books.get(slot);
    if (books === undefined) return undefined;
    this.#books.delete(slot);
    const episode = books.current;
    if (episode !== undefined) {
      // Evicted, or ended by something else than its own packets: the gate lets go first.
      if (isLive(episode)) {
        this.#askEnd([episode]);
        if (this.#gate.read(episode.family, episode.key, episode.tcp, this.#entry)) {
          episode.reason = 'asked';
          this.#absorb(episode, books);
          this.#announceEnd(episode, books);
        }
        this.#toEnding(episode);
      }
    }
    const t = books.totals;
    return t.origPkts + t.respPkts > 0 ? { totals: t, trigger: books.trigger } : undefined;
  }

  /** After the packets of a turn: takes every step that is due. */
  turn(): void {
    if (this.#waiting.length > 0) this.#arm();
    if (this.#armed.length > 0) this.#afterArmed();
    if (this.#syncing.length > 0) this.#afterSync();
    if (this.#ending.length > 0 && !this.#cleaning) void this.#clean();
  }

  /** Connections that are in the gate's table now. */
  get live(): number {
    return this.#live;
  }

  #valid(episode: Episode): boolean {
    return (
      this.#engine.generation(episode.slot) === episode.generation &&
      this.#books.get(episode.slot)?.current === episode
    );
  }

  #count(slot: number, side: Side): SideCount {
    const s = this.#state;
    this.#engine.tcpSide(slot, side, s);
    return {
      seq: Math.max(0, s.seq),
      ack: Math.max(0, s.ack),
      rexmits: s.retransmits,
      zeroWindows: s.zeroWindows,
    };
  }

  /** Runs one kind of change over episodes in batches; `done` gets each result and the row that it is in. */
  #batch(
    name: OpName,
    episodes: readonly Episode[],
    numbers: (episode: Episode) => readonly [SideCount, SideCount],
    done: (episode: Episode, result: number, row: number) => void,
  ): void {
    const ops = this.#gate.ops;
    for (let from = 0; from < episodes.length; from += ops.size) {
      const part = episodes.slice(from, from + ops.size);
      ops.clear();
      for (const e of part) {
        const [a, b] = numbers(e);
        const [first, second]: [[number, number], [number, number]] =
          name === 'flip'
            ? [
                [a.rexmits, b.rexmits],
                [a.zeroWindows, b.zeroWindows],
              ]
            : [
                [a.seq, b.seq],
                [a.ack, b.ack],
              ];
        ops.push(name, e.family, e.key, this.#gate.owner, this.#idleOf(e), e.slot, first, second);
      }
      ops.run();
      part.forEach((e, row) => done(e, ops.result(row), row));
    }
  }

  /** Both sides as the engine has them now; zeros for what is not TCP. */
  readonly #engineCounts = (e: Episode): readonly [SideCount, SideCount] =>
    e.tcp ? [this.#count(e.slot, 0), this.#count(e.slot, 1)] : NO_COUNTS;

  /** The kernel lets go no later than the engine would end the flow: the next packet then begins a new one. */
  #idleOf(e: Episode): number {
    return Math.min(this.#idleMs, Math.max(1, Math.round(this.#engine.idleTimeout(e.slot) * 1000)));
  }

  #askEnd(episodes: readonly Episode[]): void {
    this.#batch(
      'end',
      episodes,
      () => NO_COUNTS,
      () => {},
    );
  }

  #arm(): void {
    const now = monotonicSeconds();
    if (now < this.#nextArm) return;
    const later: Episode[] = [];
    const due: Episode[] = [];
    for (const e of this.#waiting) {
      if (!this.#valid(e)) continue;
      if (e.notBefore > now) later.push(e);
      else if (this.#engine.isShuntable(e.slot)) due.push(e);
      else this.#forget(e);
    }
    this.#waiting = later;
    if (due.length === 0) return;
    const armed: Episode[] = [];
    let full = false;
    const counts = (e: Episode): readonly [SideCount, SideCount] => {
      const sides = this.#engineCounts(e);
      e.armedSeq[0] = sides[0].seq;
      e.armedSeq[1] = sides[1].seq;
      return sides;
    };
    this.#batch('arm', due, counts, (e, result) => {
      if (result === 0) {
        e.phase = 'armed';
        e.tries = 0;
        this.#live++;
        armed.push(e);
      } else {
        // The entry of an earlier connection on this tuple is about to be deleted, or the table is full.
        if (result !== EEXIST) full = true;
        if (result !== EEXIST && !e.refusalTold) {
          e.refusalTold = true;
          this.#events.refused(e.slot, e.trigger, 'full');
        }
        e.notBefore = now + (result === EEXIST ? 0.1 : RETRY_SECONDS);
        this.#waiting.push(e);
      }
    });
    // A full table is not asked again by everyone who waits, turn after turn.
    this.#nextArm = full ? now + RETRY_SECONDS : 0;
    const barrier = this.#ring.openBlock();
    for (const e of armed) {
      e.barrier = barrier;
      this.#armed.push(e);
    }
  }

  /** Takes out of `list` what is through with `phase` once the ring has passed its barrier. */
  #due(list: Episode[], phase: Episode['phase'], keep: Episode[]): Episode[] {
    const due: Episode[] = [];
    for (const e of list) {
      if (!this.#valid(e) || e.phase !== phase) continue;
      if (this.#ring.sequence > e.barrier) due.push(e);
      else keep.push(e);
    }
    return due;
  }

  #afterArmed(): void {
    const keep: Episode[] = [];
    const due = this.#due(this.#armed, 'armed', keep);
    this.#armed = keep;
    // Only TCP has letters whose order depends on what came before.
    this.#flip(due.filter((e) => !e.tcp));
    const tcp = due.filter((e) => e.tcp);
    if (tcp.length === 0) return;
    this.#batch('sync', tcp, this.#engineCounts, (e, result, row) => {
      if (result !== 0) {
        if (result === EAGAIN && ++e.tries < ARMED_TURNS) this.#armed.push(e);
        else this.#giveUp(e);
        return;
      }
      e.phase = 'syncing';
      e.tries = 0;
      for (const side of [0, 1] as const) {
        e.marks[side] = this.#gate.ops.marks(row, side);
        e.passed[side] = undefined;
      }
      this.#syncing.push(e);
    });
    const barrier = this.#ring.openBlock();
    for (const e of tcp) e.barrier = barrier;
  }

  #afterSync(): void {
    const keep: Episode[] = [];
    const due = this.#due(this.#syncing, 'syncing', keep);
    this.#syncing = keep;
    const agreed: Episode[] = [];
    for (const e of due) {
      const state = this.#syncState(e);
      if (state === 'agreed') agreed.push(e);
      else if (state === 'wait' && ++e.tries < SYNC_TURNS) keep.push(e);
      else {
        // A packet between the mark and its becoming visible, or one lost in the ring: set another mark.
        e.phase = 'armed';
        this.#armed.push(e);
      }
    }
    this.#flip(agreed);
  }

  /** Whether gate and engine have taken their counts at the same packet; sets the base if so. */
  #syncState(e: Episode): 'agreed' | 'wait' | 'apart' {
    const entry = this.#entry;
    if (!this.#gate.read(e.family, e.key, true, entry)) return 'apart';
    // Ended meanwhile: the flip will find out, and nothing was dropped.
    if (entry.ending) return 'agreed';
    for (const side of [0, 1] as const) {
      const { sync, syncSeq, syncAck } = entry.dirs[side];
      const passed = e.passed[side];
      if (sync === 'done') {
        if (passed === undefined) return 'wait';
        if (passed.seq !== syncSeq || passed.ack !== syncAck) return 'apart';
        e.base[side] = passed;
      } else if (sync === 'none' || e.tries >= SYNC_TURNS - 1) {
        // Silent since the mark was set, or only repeating itself: what the engine has is all there is.
        e.base[side] = this.#count(e.slot, side);
      } else return 'wait';
    }
    return 'agreed';
  }

  #flip(episodes: readonly Episode[]): void {
    if (episodes.length === 0) return;
    this.#batch(
      'flip',
      episodes,
      (e) => e.base,
      (e, result) => {
        // Also when it has ended meanwhile: one direction may have dropped a packet or two.
        e.phase = 'shunted';
        if (result !== 0) return;
        e.started = true;
        this.#events.started(e.slot, e.trigger);
      },
    );
    for (const e of episodes) e.barrier = Number.POSITIVE_INFINITY;
    void this.#afterFlip(episodes);
  }

  /** What was passed before the flip may still be on its way from the program to the ring. */
  async #afterFlip(episodes: readonly Episode[]): Promise<void> {
    await this.#gate.grace();
    // Not by blocks: the next packet may come after the end of the shunt, and into the block that is open now.
    const barrier = this.#ring.received();
    for (const e of episodes) if (e.phase === 'shunted') e.barrier = barrier;
  }

  /** The entry does not catch up (a direction that is silent, say): let go, and begin anew some day. */
  #giveUp(episode: Episode): void {
    this.#askEnd([episode]);
    episode.reason = 'asked';
    this.#toEnding(episode);
  }

  #noteLast(episode: Episode, entry: Entry): void {
    if (entry.last > 0) episode.lastDropped = entry.last;
  }

  /** The entry (in #entry) is ending and everything from before the shunt has been handled: take its counts over. */
  #endEpisode(episode: Episode, reason?: EndReason): void {
    const books = this.#books.get(episode.slot);
    if (books === undefined) return;
    episode.reason = reason ?? (this.#entry.dirs[0].reason || this.#entry.dirs[1].reason);
    this.#absorb(episode, books);
    this.#announceEnd(episode, books);
    this.#toEnding(episode);
  }

  #announceEnd(episode: Episode, books: Books): void {
    const [a, b] = episode.absorbed;
    if (!episode.started && a.pkts + b.pkts === 0) return;
    const first =
      this.#entry.first > 0
        ? Math.max(0, this.#entry.first + this.clockOffset - episode.triggered)
        : undefined;
    books.trigger = episode.trigger;
    const [o, r] = this.#engine.origSide(episode.slot) === 0 ? [a, b] : [b, a];
    const dropped = {
      origPkts: o.pkts,
      origIpBytes: o.ipBytes,
      respPkts: r.pkts,
      respIpBytes: r.ipBytes,
    };
    this.#events.ended(episode.slot, episode.trigger, episode.reason || 'asked', dropped, first);
  }

  #toEnding(episode: Episode): void {
    episode.phase = 'ending';
    this.#live--;
    this.#ending.push(episode);
  }

  /** Moves what #entry has beyond what was absorbed before into the engine. */
  #absorb(episode: Episode, books: Books): void {
    const entry = this.#entry;
    if (!episode.begun) {
      episode.begun = true;
      // What was passed while the entry was armed is in the engine already: letters, and a wrap of the sequence.
      const now = this.#engineCounts(episode);
      for (const side of [0, 1] as const) {
        episode.absorbed[side].rexmits = now[side].rexmits;
        episode.absorbed[side].zeroWindows = now[side].zeroWindows;
        if (episode.started && now[side].seq < episode.armedSeq[side]) episode.absorbed[side].seqWraps = 1;
      }
    }
    const events: ShuntEvent[] = historyEvents(entry, episode.events);
    episode.events = entry.logLength;
    let pkts = 0;
    for (const side of [0, 1] as const) {
      this.#difference(entry.dirs[side], episode, side, this.#deltas[side]);
      pkts += this.#deltas[side].pkts;
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
    out.last = out.pkts > 0 ? now.last + this.clockOffset + late : 0;
    before.pkts = now.pkts;
    before.ipBytes = now.ipBytes;
    before.payloadBytes = now.payloadBytes;
    before.rexmits = now.rexmits;
    before.zeroWindows = now.zeroWindows;
    before.seqWraps = now.seqWraps;
  }

  #forget(episode: Episode): void {
    const books = this.#books.get(episode.slot);
    if (books?.current !== episode) return;
    books.current = undefined;
    this.#engine.setMark(episode.slot, false);
    if (books.episodes === 0) this.#books.delete(episode.slot);
  }

  /** Deletes entries that are ending, after a grace period, with a last look at what they counted. */
  async #clean(): Promise<void> {
    this.#cleaning = true;
    try {
      const batch = this.#ending;
      this.#ending = [];
      await this.#gate.grace();
      for (const e of batch) {
        if (!this.#gate.read(e.family, e.key, e.tcp, this.#entry)) continue;
        const books = this.#books.get(e.slot);
        if (books !== undefined && books.current === e) this.#absorb(e, books);
        else {
          // The record is written. Nothing should be left; if there is, it is told.
          const pkts = this.#entry.pkts - e.absorbed[0].pkts - e.absorbed[1].pkts;
          const bytes =
            this.#entry.dirs[0].ipBytes +
            this.#entry.dirs[1].ipBytes -
            e.absorbed[0].ipBytes -
            e.absorbed[1].ipBytes;
          if (pkts > 0) this.#events.late(pkts, bytes);
        }
        this.#gate.remove(e.family, e.key);
        this.#forget(e);
      }
    } finally {
      this.#cleaning = false;
    }
  }

  /**
   * One batched read of the tables: notes when each shunted flow was last seen by the gate, and takes in entries that
   * ended without a packet to show it. The number of entries read.
   */
  async sweep(): Promise<number> {
    if (this.#sweeping) return 0;
    this.#sweeping = true;
    let total = 0;
    try {
      for (const family of [4, 6] as const) {
        total += await this.#gate.sweep(family, (keys, offset, values, at) =>
          this.#swept(family, keys, offset, values, at),
        );
      }
    } finally {
      this.#sweeping = false;
    }
    return total;
  }

  #swept(family: 4 | 6, keys: Uint8Array, offset: number, values: DataView, at: number): void {
    const entry = this.#entry;
    readEntry(values, at, family, true, entry);
    if (entry.owner !== this.#gate.owner) return;
    const slot = this.#engine.find(family, keys, offset);
    const episode = slot < 0 ? undefined : this.#books.get(slot)?.current;
    if (episode === undefined || episode.phase !== 'shunted') return;
    this.#noteLast(episode, entry);
    // The slice is some time old: read again before anything is taken in.
    if (
      entry.ending &&
      this.#ring.packets >= episode.barrier &&
      this.#gate.read(family, episode.key, episode.tcp, entry)
    )
      this.#endEpisode(episode);
  }

  /** Ends every shunt and takes in the last counts: afterwards the tables hold nothing of this owner. */
  async stop(): Promise<void> {
    const all: Episode[] = [];
    for (const books of this.#books.values()) {
      const e = books.current;
      if (e === undefined) continue;
      if (isLive(e)) all.push(e);
    }
    this.#stopped = true;
    this.#waiting = [];
    this.#askEnd(all);
    await this.#gate.grace();
    // What was passed before the flips has to be handled before the counts are taken in: the block that is open now,
    // once it is due, and all before it. An empty block is never due, hence the time.
    await new Promise((resolve) => setTimeout(resolve, this.#settleMs));
    const barrier = this.#ring.openBlock();
    while (this.#ring.sequence < barrier) await new Promise((resolve) => setTimeout(resolve, 1));
    for (const e of all) {
      if (!isLive(e)) continue;
      if (this.#gate.read(e.family, e.key, e.tcp, this.#entry)) this.#endEpisode(e, 'asked');
    }
    while (this.#ending.length > 0 || this.#cleaning) {
      if (this.#cleaning) await new Promise((resolve) => setTimeout(resolve, 5));
      else await this.#clean();
    }
  }
}
