import type { RingPosition } from '../capture/source.ts';
import type { FlowEngineApi } from '../flow/types.ts';
import type { GateClient } from '../gate/client.ts';
import { monotonicSeconds } from '../gate/clock.ts';
import { Entry } from '../gate/entry.ts';
import { CARRIER, TIED } from '../gate/layout.ts';
import type { FlipLater, OpName, OpTunnels } from '../gate/ops.ts';
import { type Absorption, NO_COUNTS } from './absorption.ts';
import type { Episode, SideCount } from './episode.ts';

const EEXIST = -17;
const EAGAIN = -11;
/** Turns for a synchronization before it is tried again; a side that never rests is then taken as it is. */
const SYNC_TURNS = 10;
/** A refused or ended shunt is not tried again before this many seconds. */
export const RETRY_SECONDS = 5;

export interface HandOffEvents {
  /** It has an entry from now on. */
  armed(episode: Episode): void;
  /** The gate drops from now on, or has ended the entry meanwhile. */
  flipped(episode: Episode, went: boolean): void;
  /** The table has no room; told once for each episode. */
  full(episode: Episode): void;
  /** Its entry is not there any more: let go, and begin anew some day. */
  gaveUp(episode: Episode): void;
  /** It is not to be shunted any more. */
  dropped(episode: Episode): void;
  /**
   * Whether the tunnels around it can be counted already, each as a shunt of its own that is asked for here if need be;
   * `never`: one of them is not to be. Asked only where the gate looks into tunnels.
   */
  carried(episode: Episode): 'yes' | 'wait' | 'never';
  /** Whether it still is its connection's shunt. */
  valid(episode: Episode): boolean;
}

/** The way into the gate: from the request to the flip (ADR 0005). */
export class HandOff {
  readonly #engine: FlowEngineApi;
  readonly #gate: GateClient;
  readonly #ring: RingPosition;
  readonly #absorption: Absorption;
  readonly #events: HandOffEvents;
  /** 0: no idle limit. */
  readonly #idleMs: number;
  readonly #inTunnels: boolean;
  /** Episodes that have a step to take; each is in one list. */
  #waiting: Episode[] = [];
  #armed: Episode[] = [];
  #syncing: Episode[] = [];
  /** Not before this time, after the table was found full. */
  #nextArm = 0;
  readonly #entry = new Entry();

  constructor(
    parts: { engine: FlowEngineApi; gate: GateClient; ring: RingPosition; absorption: Absorption },
    /** Milliseconds; 0: no limit. */
    idleMs: number,
    /** The gate looks into tunnels. */
    inTunnels: boolean,
    events: HandOffEvents,
  ) {
    this.#engine = parts.engine;
    this.#gate = parts.gate;
    this.#ring = parts.ring;
    this.#absorption = parts.absorption;
    this.#idleMs = idleMs;
    this.#inTunnels = inTunnels;
    this.#events = events;
  }

  add(episode: Episode): void {
    this.#waiting.push(episode);
  }

  /** Nothing more is armed. */
  stop(): void {
    this.#waiting = [];
  }

  /** Takes every step that is due. */
  turn(): void {
    if (this.#waiting.length > 0) this.#arm();
    if (this.#armed.length > 0) this.#afterArmed();
    if (this.#syncing.length > 0) this.#afterSync();
  }

  /** A packet of a flow that is synchronizing has been accounted. */
  passed(episode: Episode): void {
    for (const side of [0, 1] as const) {
      if (episode.passed[side] !== undefined) continue;
      const now = this.#absorption.count(episode.slot, side);
      const mark = episode.marks[side];
      if (((now.seq - mark.seq) | 0) > 0 || ((now.ack - mark.ack) | 0) > 0) episode.passed[side] = now;
    }
  }

  /** The gate lets everything of these pass from now on; what it has counted stays. */
  end(episodes: readonly Episode[]): void {
    this.#batch(
      'end',
      episodes,
      () => NO_COUNTS,
      () => {},
    );
  }

  /** Runs one kind of change over episodes in batches; `done` gets each result and the row that it is in. */
  #batch(
    name: OpName,
    episodes: readonly Episode[],
    numbers: (episode: Episode) => readonly [SideCount, SideCount],
    done: (episode: Episode, result: number, row: number) => void,
    later?: (episode: Episode) => FlipLater | undefined,
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
        ops.push(
          name,
          e.family,
          e.key,
          this.#gate.owner,
          this.#idleOf(e),
          e.slot,
          first,
          second,
          this.#tunnelsOf(e),
          later?.(e),
        );
      }
      ops.run();
      part.forEach((e, row) => done(e, ops.result(row), row));
    }
  }

  #tunnelsOf(e: Episode): OpTunnels | undefined {
    if (!this.#inTunnels) return undefined;
    if (e.carrier) return { flags: CARRIER, tie: [0, 0] };
    return { flags: TIED, tie: this.#engine.tunnelsAround(e.slot).tie };
  }

  /** The kernel lets go no later than the engine would end the flow: the next packet then begins a new one. */
  #idleOf(e: Episode): number {
    if (this.#idleMs === 0) return 0;
    return Math.min(this.#idleMs, Math.max(1, Math.round(this.#engine.idleTimeout(e.slot) * 1000)));
  }

  #arm(): void {
    const now = monotonicSeconds();
    if (now < this.#nextArm) return;
    const later: Episode[] = [];
    const due: Episode[] = [];
    for (const e of this.#waiting) {
      if (!this.#events.valid(e)) continue;
      if (e.notBefore > now) later.push(e);
      else if (e.carrier) due.push(e);
      else if (!this.#engine.isShuntable(e.slot)) this.#events.dropped(e);
      // Asked for early: the gate is told where both sequences stand.
      else if (e.after !== undefined && e.tcp && !this.#absorption.known(e.slot)) later.push(e);
      else {
        const carried = this.#inTunnels ? this.#events.carried(e) : 'yes';
        if (carried === 'yes') due.push(e);
        else if (carried === 'wait') later.push(e);
      }
    }
    this.#waiting = later;
    if (due.length === 0) return;
    const armed: Episode[] = [];
    let full = false;
    const counts = (e: Episode): readonly [SideCount, SideCount] => {
      const sides = this.#absorption.counts(e);
      e.armedSeq[0] = sides[0].seq;
      e.armedSeq[1] = sides[1].seq;
      return sides;
    };
    this.#batch('arm', due, counts, (e, result) => {
      if (result === 0) {
        e.phase = 'armed';
        e.tries = 0;
        this.#events.armed(e);
        armed.push(e);
      } else {
        // The entry of an earlier connection on this tuple is about to be deleted, or the table is full.
        if (result !== EEXIST) full = true;
        if (result !== EEXIST && !e.refusalTold) {
          e.refusalTold = true;
          this.#events.full(e);
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
      if (!this.#events.valid(e) || e.phase !== phase) continue;
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
    this.#handOver(due.filter((e) => !e.tcp));
    const tcp = due.filter((e) => e.tcp);
    if (tcp.length === 0) return;
    this.#batch('sync', tcp, this.#absorption.counts, (e, result, row) => {
      if (result !== 0) {
        if (result === EAGAIN) this.#armed.push(e);
        else this.#events.gaveUp(e);
        return;
      }
      e.phase = 'syncing';
      e.tries = 0;
      for (const side of [0, 1] as const) {
        e.marks[side] = this.#gate.ops.marks(row, side);
        e.passed[side] = undefined;
        e.looked[side] = undefined;
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
    const resting: Episode[] = [];
    for (const e of due) {
      const state = this.#syncState(e);
      if (state === 'agreed') agreed.push(e);
      else if (state !== 'apart' && ++e.tries < SYNC_TURNS) {
        keep.push(e);
        if (state === 'rest') resting.push(e);
      } else {
        // A packet between the mark and its becoming visible, or one lost in the ring: set another mark.
        e.phase = 'armed';
        this.#armed.push(e);
      }
    }
    this.#handOver(agreed);
    if (resting.length > 0) void this.#afterLook(resting);
  }

  /** Whether gate and engine have taken their counts at the same packet; sets the base if so. */
  #syncState(e: Episode): 'agreed' | 'wait' | 'rest' | 'apart' {
    const entry = this.#entry;
    let rest = false;
    if (!this.#gate.read(e.family, e.key, true, entry)) return 'apart';
    // Ended meanwhile: the flip will find out, and nothing was dropped.
    if (entry.ending) return 'agreed';
    for (const side of [0, 1] as const) {
      const { synced, syncSeq, syncAck, rexmits, zeroWindows } = entry.dirs[side];
      e.synced[side] = synced;
      const passed = e.passed[side];
      if (synced) {
        if (passed === undefined) {
          // It is on its way to the worker, behind all else that has reached the ring by now.
          e.barrier = this.#ring.openBlock();
          return 'wait';
        }
        if (passed.seq !== syncSeq || passed.ack !== syncAck) return 'apart';
        e.base[side] = passed;
        continue;
      }
      // Silent since the mark was set, or only repeating itself. What the gate has not counted since, the engine has, once
      // all is there that the gate let pass: nothing was added between two looks.
      const looked = e.looked[side];
      const still = looked?.rexmits === rexmits && looked.zeroWindows === zeroWindows;
      if (still || e.tries >= SYNC_TURNS - 1) {
        const now = this.#absorption.count(e.slot, side);
        e.base[side] = {
          ...now,
          rexmits: Math.max(0, now.rexmits - rexmits),
          zeroWindows: Math.max(0, now.zeroWindows - zeroWindows),
        };
      } else {
        e.looked[side] = { rexmits, zeroWindows };
        rest = true;
      }
    }
    return rest ? 'rest' : 'agreed';
  }

  /** What was passed before the look may still be on its way from the program to the ring. */
  async #afterLook(episodes: readonly Episode[]): Promise<void> {
    for (const e of episodes) e.barrier = Number.POSITIVE_INFINITY;
    await this.#gate.grace();
    const barrier = this.#ring.openBlock();
    for (const e of episodes) if (e.phase === 'syncing') e.barrier = barrier;
  }

  /** Shunted from now on, or once so much has passed. */
  #handOver(episodes: readonly Episode[]): void {
    this.#flip(episodes.filter((e) => e.after === undefined));
    this.#set(episodes.filter((e) => e.after !== undefined));
  }

  /** The gate goes on by itself: what had reached the ring before was passed. */
  #set(episodes: readonly Episode[]): void {
    if (episodes.length === 0) return;
    const received = this.#ring.received();
    const gone: Episode[] = [];
    this.#batch(
      'flip',
      episodes,
      (e) => e.base,
      (e, result) => {
        if (result === EAGAIN) {
          // A side that was silent has just passed the mark: another one.
          e.phase = 'armed';
          e.barrier = this.#ring.openBlock();
          this.#armed.push(e);
        } else if (result === 0) {
          e.phase = 'set';
          e.barrier = received;
        } else gone.push(e);
      },
      (e) => (e.after === undefined ? undefined : { after: e.after, synced: e.synced }),
    );
    for (const e of gone) this.went(e, false);
  }

  /** The gate has begun to drop by itself (`dropped`), or has ended the entry before. */
  went(episode: Episode, dropped: boolean): void {
    episode.phase = 'shunted';
    episode.started = dropped;
    this.#events.flipped(episode, dropped);
    episode.barrier = Number.POSITIVE_INFINITY;
    void this.#afterFlip([episode]);
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
        e.started = result === 0;
        this.#events.flipped(e, result === 0);
      },
    );
    for (const e of episodes) e.barrier = Number.POSITIVE_INFINITY;
    void this.#afterFlip(episodes);
  }

  /** What was passed before the flip may still be on its way from the program to the ring. */
  async #afterFlip(episodes: readonly Episode[]): Promise<void> {
    await this.#gate.graceSoon();
    // Not by blocks: the next packet may come after the end of the shunt, and into the block that is open now.
    const barrier = this.#ring.received();
    for (const e of episodes) if (e.phase === 'shunted') e.barrier = barrier;
  }
}
