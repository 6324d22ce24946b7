import type { RingPosition } from '../capture/source.ts';
import type { FlowEngineApi, Side } from '../flow/types.ts';
import type { GateClient } from '../gate/client.ts';
import { monotonicSeconds } from '../gate/clock.ts';
import { Entry, readEntry } from '../gate/entry.ts';
import { type EndReason, State } from '../gate/layout.ts';
import type { Threshold } from '../gate/ops.ts';
import { Absorption } from './absorption.ts';
import { Carriers } from './carriers.ts';
import { Endings } from './endings.ts';
import { type Books, type Episode, isLive, newBooks, newEpisode } from './episode.ts';
import { HandOff, RETRY_SECONDS } from './hand-off.ts';
import { type Note, Notes } from './notes.ts';
import type { ShuntedPart, ShunterEvents, ShunterOptions } from './shunter-types.ts';

const IPPROTO_TCP = 6;
/** Protocols for which gate and flow engine have the same key: ICMP, TCP, UDP, ESP, AH, ICMPv6. */
const KEYED: ReadonlySet<number> = new Set([1, IPPROTO_TCP, 17, 50, 51, 58]);
const SYN_FIN_RST = 0x07;
/** Ends that a packet shows, which passes. */
const CLOSED: ReadonlySet<EndReason> = new Set(['syn', 'fin', 'rst']);

/**
 * The shunts of one worker's connections (ADR 0005). XDP comes before the ring, so each packet is counted on exactly one
 * side and sums are exact by themselves; what needs care is order:
 *
 * armed    the gate passes and tracks; wait until the ring has handed out all that had reached it by then
 * syncing  gate and worker take the counts of T and W at the same packet, so that the gate can go on with them
 * set      only where the kernel is to begin by itself, once so much has passed: the gate passes and counts down
 * shunted  the gate drops and counts; what is left in the ring from before the flip is handled as ever
 * ending   the gate passes again; before the first packet from after the end is handled, what the gate counted
 *          is absorbed; after a grace period the entry is read once more and deleted
 */
export class Shunter {
  readonly #engine: FlowEngineApi;
  readonly #gate: GateClient;
  readonly #ring: RingPosition;
  readonly #events: ShunterEvents;
  readonly #settleMs: number;
  readonly #isLocal: (family: 4 | 6, key: Uint8Array) => boolean;
  readonly #absorption: Absorption;
  readonly #handOff: HandOff;
  readonly #endings: Endings;
  readonly #carriers: Carriers;
  readonly #notes: Notes;

  readonly #books = new Map<number, Books>();
  /** Shunted, and what was passed before the flip has not all been handled yet. */
  #settling: Episode[] = [];
  /** Their end was asked for. */
  #released: Episode[] = [];
  #sweeping = false;
  #live = 0;
  #stopped = false;
  readonly #entry = new Entry();
  readonly #booksOf = (episode: Episode): Books | undefined => {
    const books = this.#books.get(episode.slot);
    return books?.current === episode ? books : undefined;
  };

  constructor(options: ShunterOptions) {
    const { engine, gate, ring } = options;
    this.#engine = engine;
    this.#gate = gate;
    this.#ring = ring;
    this.#events = options.events;
    this.#settleMs = options.settleMs;
    this.#isLocal = options.isLocal;
    const absorption = new Absorption(engine, options.tick, options.clockOffset);
    this.#absorption = absorption;
    this.#notes = new Notes(engine, gate, options.trigger);
    const idleMs = options.idle === 'off' ? 0 : Math.max(1, Math.round(options.idle * 1000));
    this.#handOff = new HandOff({ engine, gate, ring, absorption }, idleMs, options.inTunnels ?? false, {
      armed: (e) => {
        this.#live++;
        this.#noteDue(e);
      },
      flipped: (e, went) => {
        this.#settling.push(e);
        if (went && !e.carrier) this.#events.started(e.slot, e.trigger);
      },
      full: (e) => {
        if (!e.carrier) this.#events.refused(e.slot, e.trigger, 'full');
      },
      gaveUp: (e) => {
        this.#handOff.end([e]);
        e.reason = 'asked';
        this.#toEnding(e);
      },
      dropped: (e) => this.#forget(e),
      carried: (e) => this.#carriers.around(e),
      valid: (e) => this.#engine.generation(e.slot) === e.generation && this.#booksOf(e) !== undefined,
    });
    this.#carriers = new Carriers(
      { engine, gate, ring, isLocal: options.isLocal },
      {
        current: (slot) => this.#books.get(slot)?.current,
        begin: (slot, inner) => this.#beginCarrier(slot, inner),
        end: (e) => {
          if (gate.read(e.family, e.key, e.tcp, this.#entry)) this.#endEpisode(e);
        },
        refused: (e) => this.#events.refused(e.slot, e.trigger, 'local'),
      },
    );
    this.#endings = new Endings(gate, absorption, {
      books: this.#booksOf,
      late: (pkts, ipBytes) => this.#events.late(pkts, ipBytes),
      gone: (e) => this.#forget(e),
    });
  }

  /** To be called now and then: the clock may be set. */
  readClock(): void {
    this.#absorption.readClock();
  }

  /** Connections that are in the gate's table now. */
  get live(): number {
    return this.#live;
  }

  /** Notes for whoever comes after us that found no room. */
  get notesLost(): number {
    return this.#notes.lost;
  }

  /** Shunt this flow. Call it for flows without a mark only. */
  request(slot: number, trigger: number, triggered: number, after?: Threshold): void {
    const engine = this.#engine;
    if (this.#stopped || !KEYED.has(engine.proto(slot)) || !engine.isShuntable(slot)) return;
    let books = this.#books.get(slot);
    if (books === undefined) {
      books = newBooks(trigger);
      this.#books.set(slot, books);
    }
    if (books.current !== undefined) return;
    const episode = this.#begin(slot, books, trigger, triggered, false, after);
    engine.setMark(slot, true);
    if (this.#isLocal(episode.family, episode.key)) {
      episode.phase = 'refused';
      this.#events.refused(slot, trigger, 'local');
    } else {
      // Again after an end: not at once, so that whoever ends it from outside (spoofed SYN, RST) cannot make work for every
      // packet; nor ever given up, so that nobody can have it unshunted for good.
      if (books.episodes > 0)
        episode.notBefore = monotonicSeconds() + Math.min(RETRY_SECONDS, books.episodes - 1);
      books.episodes++;
      this.#handOff.add(episode);
    }
  }

  /** What is in tunnels is not gone on with by another process: notes do not tell of tunnels. */
  #noteDue(episode: Episode): void {
    if (!episode.carrier && !this.#engine.isTunnelled(episode.slot)) this.#notes.due(episode);
  }

  #beginCarrier(slot: number, { trigger, triggered }: Episode): void {
    let books = this.#books.get(slot);
    if (books === undefined) {
      books = newBooks(trigger);
      // Its counts stay with it whatever becomes of the entry.
      books.carrier = true;
      books.episodes = 1;
      this.#books.set(slot, books);
    }
    const episode = this.#begin(slot, books, trigger, triggered, true);
    this.#engine.setMark(slot, true);
    if (this.#isLocal(episode.family, episode.key)) episode.phase = 'refused';
    else this.#handOff.add(episode);
  }

  #begin(
    slot: number,
    books: Books,
    trigger: number,
    triggered: number,
    carrier = false,
    after?: Threshold,
  ): Episode {
    const engine = this.#engine;
    const key = engine.key(slot);
    const episode = newEpisode({
      slot,
      generation: engine.generation(slot),
      family: key.family,
      key: key.bytes,
      tcp: engine.proto(slot) === IPPROTO_TCP,
      carrier,
      trigger,
      triggered,
      after,
    });
    books.current = episode;
    return episode;
  }

  /** It was not taken, and will not be: an endpoint of this host. */
  isRefused(slot: number): boolean {
    return this.#books.get(slot)?.current?.phase === 'refused';
  }

  /**
   * Lets a flow go: its packets pass from now on, and what was dropped is taken in as soon as it can be. False when nothing of
   * it is dropped, nor is to be.
   */
  release(slot: number): boolean {
    const episode = this.#books.get(slot)?.current;
    if (episode === undefined || episode.carrier) return false;
    if (episode.phase === 'waiting') {
      this.#forget(episode);
      return true;
    }
    if (!isLive(episode)) return false;
    this.#handOff.end([episode]);
    this.#released.push(episode);
    return true;
  }

  /** The same for all whose keys are meant. */
  releaseWhere(meant: (family: 4 | 6, key: Uint8Array) => boolean): void {
    for (const [slot, { current }] of this.#books)
      if (current !== undefined && meant(current.family, current.key)) this.release(slot);
  }

  /** What was let go: its counts come in when all from before the flip has been handled, and nothing counts any more. */
  #takeReleased(): void {
    const keep: Episode[] = [];
    for (const e of this.#released) {
      if (this.#booksOf(e) === undefined || !isLive(e)) continue;
      const settled = e.phase === 'shunted' && this.#ring.position >= e.barrier;
      if (!settled) keep.push(e);
      else if (this.#gate.read(e.family, e.key, e.tcp, this.#entry) && this.#entry.ending)
        this.#endEpisode(e, 'asked');
    }
    this.#released = keep;
  }

  /** Goes on with a flow that the engine has just restored from a note; its entry in the gate has ended. */
  resume(slot: number, note: Note, trigger: number): void {
    const books: Books = {
      ...newBooks(trigger),
      totals: note.totals,
      // Nobody from outside has ended this one: what goes on is shunted again as soon as before.
      episodes: Math.max(0, note.episodes - 1),
      recovered: true,
    };
    this.#books.set(slot, books);
    const episode = this.#begin(slot, books, trigger, note.triggered);
    const entry = this.#entry;
    if (!this.#gate.read(episode.family, episode.key, episode.tcp, entry)) {
      books.current = undefined;
      this.#events.recovered(slot, trigger, this.#absorption.dropped(episode), undefined);
      return;
    }
    this.#engine.setMark(slot, true);
    episode.begun = note.begun;
    // The note may be from before the flip, which the counts then tell of.
    episode.started = note.started || entry.pkts > 0;
    episode.events = note.events;
    for (const side of [0, 1] as const) {
      Object.assign(episode.absorbed[side], note.absorbed[side]);
      episode.armedSeq[side] = note.armedSeq[side];
    }
    episode.reason = 'asked';
    this.#absorption.absorb(episode, books, entry);
    const last = entry.last > 0 ? entry.last + this.#absorption.clockOffset : undefined;
    this.#events.recovered(slot, trigger, this.#absorption.dropped(episode), last);
    this.#live++;
    this.#toEnding(episode);
  }

  /** Engine hook: a packet of a marked flow is about to be accounted. */
  beforePacket(slot: number, _side: Side, tcpFlags: number, now: number): void {
    const books = this.#books.get(slot);
    const episode = books?.current;
    // A tunnel's packets pass, and what is counted beside them is taken in at any time: no order of datagrams is kept.
    if (books === undefined || episode === undefined || episode.carrier) return;
    if (episode.phase === 'set' && (this.#ring.position > episode.barrier || (tcpFlags & SYN_FIN_RST) !== 0))
      this.#lookAtSet(episode, now);
    if (episode.phase !== 'shunted') return;
    // Up to the barrier only the SYN, FIN or RST itself can come from after the end: the rest was passed while armed.
    if (this.#ring.position <= episode.barrier && (tcpFlags & SYN_FIN_RST) === 0) return;
    if (!this.#gate.read(episode.family, episode.key, episode.tcp, this.#entry)) return;
    // Nothing was dropped after the packet that ended it, whatever the gate's clock shows.
    if (this.#entry.ending) this.#endEpisode(episode, undefined, now);
    else {
      // Passed although the flow is shunted (a fragment, say): it may acknowledge what was dropped.
      this.#absorption.absorb(episode, books, this.#entry);
      this.#noteDue(episode);
    }
  }

  /**
   * Whether the gate has begun to drop by itself. While it has not, all that had reached the ring before the look was passed; once
   * it has, what is in the ring was passed before, up to the packet that ends it.
   */
  #lookAtSet(episode: Episode, now?: number): void {
    const received = this.#ring.received();
    const entry = this.#entry;
    if (!this.#gate.read(episode.family, episode.key, episode.tcp, entry)) return;
    if (entry.dirs.every(({ state }) => state === State.armed)) {
      episode.barrier = received;
      return;
    }
    this.#handOff.went(episode, entry.pkts > 0 || !entry.ending);
    // Ended by no packet that would show itself (idle, lease): this one is from after it.
    const { reason } = entry.dirs[0];
    if (now !== undefined && entry.ending && !CLOSED.has(reason)) this.#endEpisode(episode, undefined, now);
  }

  /** A packet of a marked flow has been accounted. */
  afterPacket(slot: number): void {
    const episode = this.#books.get(slot)?.current;
    if (episode?.phase === 'syncing') this.#handOff.passed(episode);
  }

  /** Engine hook: a timer is about to end a marked flow. */
  mayExpire(slot: number, now: number): boolean {
    const episode = this.#books.get(slot)?.current;
    if (episode?.phase === 'set') this.#lookAtSet(episode);
    if (episode?.phase !== 'shunted') return true;
    const timeout = this.#engine.idleTimeout(slot);
    if (now - (episode.lastDropped + this.#absorption.clockOffset) < timeout) return false;
    // An hour of silence may be a clock that was set.
    this.#absorption.readClock();
    const offset = this.#absorption.clockOffset;
    if (!this.#gate.read(episode.family, episode.key, episode.tcp, this.#entry)) return true;
    this.#noteLast(episode, this.#entry);
    if (!this.#entry.ending) {
      const last = Math.max(episode.lastDropped + offset, this.#engine.lastTime(slot));
      if (now - last < timeout) return false;
      // Silent on both sides of the gate: stop it.
      this.#handOff.end([episode]);
      if (!this.#gate.read(episode.family, episode.key, episode.tcp, this.#entry)) return true;
    }
    // The engine looks once more, with what was taken in.
    this.#endEpisode(episode, 'idle');
    return true;
  }

  /** Engine hook: the flow has ended; its record is read after this. Returns what of it was shunted. */
  closed(slot: number): ShuntedPart | undefined {
    const books = this.#books.get(slot);
    if (books === undefined) return undefined;
    this.#books.delete(slot);
    const episode = books.current;
    // Evicted, or ended by something else than its own packets: the gate lets go first.
    if (episode !== undefined && isLive(episode)) {
      this.#handOff.end([episode]);
      if (this.#gate.read(episode.family, episode.key, episode.tcp, this.#entry)) {
        episode.reason = 'asked';
        this.#absorption.absorb(episode, books, this.#entry);
        this.#announceEnd(episode, books);
      }
      this.#toEnding(episode);
    }
    if (books.episodes > 0 || books.recovered) {
      const { family, bytes } = this.#engine.key(slot);
      this.#notes.remove(family, bytes);
    }
    const { totals, trigger, recovered, carrier } = books;
    return recovered || totals.origPkts + totals.respPkts > 0
      ? { totals, trigger, recovered, carrier }
      : undefined;
  }

  /** After the packets of a turn: takes every step that is due. */
  turn(): void {
    this.#handOff.turn();
    if (this.#settling.length > 0) this.#settle();
    if (this.#released.length > 0) this.#takeReleased();
    this.#notes.turn(this.#booksOf);
    this.#endings.turn();
  }

  /** From when all that was passed before a flip has been handled, the note has the whole first half of the record. */
  #settle(): void {
    const keep: Episode[] = [];
    for (const e of this.#settling) {
      if (e.phase !== 'shunted' || this.#booksOf(e) === undefined) continue;
      if (this.#ring.position < e.barrier) keep.push(e);
      else {
        this.#absorption.begin(e);
        this.#noteDue(e);
      }
    }
    this.#settling = keep;
  }

  #noteLast(episode: Episode, entry: Entry): void {
    if (entry.last > 0) episode.lastDropped = entry.last;
  }

  /** The entry (in #entry) is ending and everything from before the shunt has been handled: take its counts over. */
  #endEpisode(episode: Episode, reason?: EndReason, until?: number): void {
    const books = this.#books.get(episode.slot);
    if (books === undefined) return;
    episode.reason = reason ?? (this.#entry.dirs[0].reason || this.#entry.dirs[1].reason);
    this.#absorption.absorb(episode, books, this.#entry, until);
    this.#announceEnd(episode, books);
    this.#noteDue(episode);
    this.#toEnding(episode);
  }

  #announceEnd(episode: Episode, books: Books): void {
    const [a, b] = episode.absorbed;
    if (episode.carrier || (!episode.started && a.pkts + b.pkts === 0)) return;
    const { first } = this.#entry;
    const delay =
      first > 0 ? Math.max(0, first + this.#absorption.clockOffset - episode.triggered) : undefined;
    books.trigger = episode.trigger;
    const dropped = this.#absorption.dropped(episode);
    this.#events.ended(episode.slot, episode.trigger, episode.reason || 'asked', dropped, delay);
  }

  #toEnding(episode: Episode): void {
    this.#live--;
    this.#endings.add(episode);
  }

  #forget(episode: Episode): void {
    const books = this.#booksOf(episode);
    if (books === undefined) return;
    books.current = undefined;
    this.#engine.setMark(episode.slot, false);
    if (books.episodes === 0 && !books.recovered) this.#books.delete(episode.slot);
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
    if (episode?.phase === 'set' && entry.dirs.some(({ state }) => state !== State.armed))
      this.#lookAtSet(episode);
    if (episode?.phase !== 'shunted') return;
    this.#noteLast(episode, entry);
    // The slice is some time old: read again before anything is taken in.
    if (
      entry.ending &&
      this.#ring.position >= episode.barrier &&
      this.#gate.read(family, episode.key, episode.tcp, entry)
    )
      this.#endEpisode(episode);
  }

  /** Ends every shunt and takes in the last counts: afterwards the tables hold nothing of this owner. */
  async stop(): Promise<void> {
    const all: Episode[] = [];
    for (const { current } of this.#books.values())
      if (current !== undefined && isLive(current)) all.push(current);
    this.#stopped = true;
    this.#handOff.stop();
    this.#handOff.end(all);
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
    await this.#endings.finish();
  }
}
