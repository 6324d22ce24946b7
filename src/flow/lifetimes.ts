import { IpProto } from '../packet/decode.ts';
import {
  CF_ATTEMPT,
  CF_EXPIRE,
  COLD_DOUBLES,
  DOUBLES,
  F_DEADLINE,
  F_LAST,
  FLAGS,
  Flag,
  PROTOCOL_SHIFT,
  TIMEOUT_MASK,
  TIMEOUT_SHIFT,
  WORDS,
} from './layout.ts';
import type { FlowTable } from './table.ts';
import type { TcpTracker } from './tcp.ts';
import { type FlowTimeouts, setTimeoutClass, Timeout, timeoutTable } from './timeouts.ts';
import { type TimerOwner, TimerWheel } from './timers.ts';
import type { FlowHooks } from './types.ts';

/** Seconds until a flow is looked at again that the sensor wants to keep. */
const KEPT_FOR = 1;

/** When flows end by time. Packets only move the time of a flow's last packet: its timer finds that out when it is due. */
export class Lifetimes implements TimerOwner {
  readonly wheel: TimerWheel;
  readonly #table: FlowTable;
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #cold: Float64Array;
  readonly #tcp: TcpTracker;
  readonly #timeouts: FlowTimeouts;
  readonly #inactivity: Float64Array;
  readonly #hooks: FlowHooks;
  readonly #end: (slot: number) => void;
  readonly #isInteractive: (slot: number) => boolean;

  /** `end` is called for a flow whose time has come; `isInteractive`: people sit at this one, it may be silent for long. */
  constructor(
    table: FlowTable,
    tcp: TcpTracker,
    timeouts: FlowTimeouts,
    hooks: FlowHooks,
    end: (slot: number) => void,
    isInteractive: (slot: number) => boolean,
  ) {
    this.wheel = new TimerWheel(table.capacity, this);
    this.#table = table;
    this.#words = table.words;
    this.#doubles = table.doubles;
    this.#cold = table.coldDoubles;
    this.#tcp = tcp;
    this.#timeouts = timeouts;
    this.#inactivity = timeoutTable(timeouts);
    this.#hooks = hooks;
    this.#end = end;
    this.#isInteractive = isInteractive;
  }

  /** TimerOwner. */
  deadline(slot: number): number {
    return this.#deadlineOf(slot);
  }

  /** TimerOwner. */
  upcoming(slots: Int32Array, count: number): void {
    this.#table.fetchSlots(slots, count);
  }

  /** TimerOwner. */
  due(slot: number, now: number): void {
    this.look(slot, now);
  }

  /** Seconds of silence that end the flow. */
  idleTimeout(slot: number): number {
    const flags = this.#words[slot * WORDS + FLAGS];
    if ((flags & Flag.closing) !== 0) return this.#timeouts.close;
    const dns =
      flags >>> PROTOCOL_SHIFT === IpProto.udp &&
      this.#cold[slot * COLD_DOUBLES + CF_EXPIRE] < Number.POSITIVE_INFINITY;
    return dns ? this.#timeouts.dns - 1 : this.#inactivityOf(slot);
  }

  /** A timer of the flow was set: it may be the first now. */
  timerSet(slot: number): void {
    if (this.#deadlineOf(slot) < this.#doubles[slot * DOUBLES + F_DEADLINE]) this.schedule(slot);
  }

  schedule(slot: number): void {
    this.#scheduleAt(slot, this.#deadlineOf(slot));
  }

  /** Runs the timers of a flow; false when that ended it. */
  look(slot: number, now: number): boolean {
    const flags = this.#words[slot * WORDS + FLAGS];
    const closing = (flags & Flag.closing) !== 0;
    const tcp = flags >>> PROTOCOL_SHIFT === IpProto.tcp;
    const expired = tcp ? this.#tcp.expired(slot, now) : this.#dnsExpired(slot, now);
    if (expired || (!closing && this.#isIdle(slot, now))) {
      if ((flags & Flag.marked) === 0) {
        this.#end(slot);
        return false;
      }
      if (this.#hooks.mayExpire(slot, now)) {
        // What the hook absorbed may show that the flow was not idle at all.
        if (expired || this.#isIdle(slot, now)) {
          this.#end(slot);
          return false;
        }
      } else if (this.#deadlineOf(slot) <= now) {
        this.#scheduleAt(slot, now + KEPT_FOR);
        return true;
      }
    }
    this.schedule(slot);
    return true;
  }

  #scheduleAt(slot: number, deadline: number): void {
    this.#doubles[slot * DOUBLES + F_DEADLINE] = deadline;
    this.wheel.set(slot, deadline);
  }

  #inactivityOf(slot: number): number {
    const flags = this.#words[slot * WORDS + FLAGS];
    const kind = (flags & TIMEOUT_MASK) >>> TIMEOUT_SHIFT;
    // Asked for when it matters, not when the service is recognized.
    if (kind !== Timeout.tcp || !this.#isInteractive(slot)) return this.#inactivity[kind];
    setTimeoutClass(this.#words, slot, Timeout.tcpInteractive);
    return this.#inactivity[Timeout.tcpInteractive];
  }

  #deadlineOf(slot: number): number {
    const cold = this.#cold;
    const record = slot * COLD_DOUBLES;
    const expire = cold[record + CF_EXPIRE];
    if ((this.#words[slot * WORDS + FLAGS] & Flag.closing) !== 0) return expire;
    const idle = this.#doubles[slot * DOUBLES + F_LAST] + this.#inactivityOf(slot);
    return Math.min(idle, expire, cold[record + CF_ATTEMPT]);
  }

  #isIdle(slot: number, now: number): boolean {
    return this.#doubles[slot * DOUBLES + F_LAST] + this.#inactivityOf(slot) <= now;
  }

  #dnsExpired(slot: number, now: number): boolean {
    const expire = slot * COLD_DOUBLES + CF_EXPIRE;
    if (this.#cold[expire] > now) return false;
    if (now - this.#doubles[slot * DOUBLES + F_LAST] >= this.#timeouts.dns - 1) return true;
    this.#cold[expire] = now + this.#timeouts.dns;
    return false;
  }
}
