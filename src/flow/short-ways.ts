import { NativeShortWays } from '../kernel/short-ways.ts';
import { LinkType } from '../packet/link/types.ts';
import { Checksum, type Packet, Tunnelled } from '../packet/packet.ts';
import type { FlowSettings } from './settings.ts';
import type { FlowTable } from './table.ts';
import { timeoutTable } from './timeouts.ts';
import type { TimerWheel } from './timers.ts';
import type { UidSource } from './uid.ts';

/** Packets that are described to the native code at a time. */
const MOST_PACKETS = 32;
const NOW = 0;
const DUE = 1;

/** What of an engine the short ways work on. */
export interface ShortWayParts {
  readonly table: FlowTable;
  readonly wheel: TimerWheel;
  readonly uids: UidSource;
  readonly settings: FlowSettings;
  readonly interactive: Uint8Array;
  readonly dnsPorts: Uint8Array;
  readonly tunnelPorts: Uint8Array;
  /** Somebody wants to be asked before a flow is opened. */
  readonly asked: boolean;
}

/**
 * The packets that change nothing but numbers, and the ordinary begins and ends of connections, accounted by native code
 * in the tables of the engine. What it leaves goes the way of TypeScript, which is what it is held against.
 */
export class ShortWays {
  readonly #native: NativeShortWays;
  readonly #places: Int32Array;
  readonly #times: Float64Array;
  readonly #clock: Float64Array;

  private constructor(native: NativeShortWays, places: Int32Array, times: Float64Array, clock: Float64Array) {
    this.#native = native;
    this.#places = places;
    this.#times = times;
    this.#clock = clock;
  }

  /** Undefined where there is no addon. */
  static over({
    table,
    wheel,
    uids,
    settings,
    interactive,
    dnsPorts,
    tunnelPorts,
    asked,
  }: ShortWayParts): ShortWays | undefined {
    const places = new Int32Array(3 * MOST_PACKETS);
    const times = new Float64Array(MOST_PACKETS);
    const clock = new Float64Array(2);
    const { attempt, close, halfClosedCheck, dns } = settings.timeouts;
    const native = NativeShortWays.over(
      {
        words: table.words,
        cold: table.cold,
        free: table.free,
        totals: table.totals,
        index: table.index,
        seed: table.seed,
        links: wheel.links,
        wheelClock: wheel.clock,
        uids: uids.state,
        udpServers: settings.directions.udpServers,
        dnsPorts: settings.dns ? dnsPorts : new Uint8Array(65_536),
        interactive,
        tunnelPorts,
        nets4: settings.localNets.packed(4),
        nets6: settings.localNets.packed(16),
        inactivity: timeoutTable(settings.timeouts),
        timeouts: Float64Array.of(attempt, close, halfClosedCheck, dns, settings.clockStep),
        places,
        times,
        clock,
      },
      settings.checksums,
      !settings.services && !asked,
    );
    return native && new ShortWays(native, places, times, clock);
  }

  /** Packet time after `take`. */
  get now(): number {
    return this.#clock[NOW];
  }

  /** Whether a packet can be for a short way at all. */
  describes(packet: Packet): boolean {
    return (
      packet.linkType === LinkType.ethernet &&
      packet.vlanTci < 0 &&
      packet.checksum === Checksum.unknown &&
      packet.tunnel === Tunnelled.none
    );
  }

  /** Describes packets[from…] as far as they lie in one piece of memory and can be for a short way: how many. */
  describe(packets: readonly Packet[], from: number, count: number): number {
    const places = this.#places;
    const times = this.#times;
    const most = Math.min(count - from, MOST_PACKETS);
    const { u8 } = packets[from];
    for (let i = 0; i < most; i++) {
      const packet = packets[from + i];
      if (packet.u8 !== u8 || !this.describes(packet)) return i;
      places[3 * i] = packet.offset;
      places[3 * i + 1] = packet.caplen;
      places[3 * i + 2] = packet.wirelen;
      times[i] = packet.ts;
    }
    return most;
  }

  /**
   * Accounts the packets described, from number `from` on, up to one that is not for a short way: its number, or `count`.
   * `now` is packet time, `due` when timers have to be run.
   */
  take(memory: Uint8Array, from: number, count: number, now: number, due: number): number {
    this.#clock[NOW] = now;
    this.#clock[DUE] = due;
    return this.#native.take(memory, from, count, from === 0);
  }

  /** See FlowEngineApi.line. */
  line(slot: number, out: Uint8Array, at: number): number {
    return this.#native.line(slot, out, at);
  }
}
