import { NativeShortWays } from '../kernel/short-ways.ts';
import type { PacketBlock } from '../packet/block.ts';
import type { FlowSettings } from './settings.ts';
import type { FlowTable } from './table.ts';
import { timeoutTable } from './timeouts.ts';
import type { TimerWheel } from './timers.ts';
import type { UidSource } from './uid.ts';

const NOW = 0;
const DUE = 1;

/** What of an engine the short ways work on. */
export interface ShortWayParts {
  readonly table: FlowTable;
  readonly wheel: TimerWheel;
  readonly uids: UidSource;
  readonly settings: FlowSettings;
  /** See Loss. */
  readonly losses: Float64Array;
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
  readonly #clock: Float64Array;

  private constructor(native: NativeShortWays, clock: Float64Array) {
    this.#native = native;
    this.#clock = clock;
  }

  /** Undefined where there is no addon. */
  static over({
    table,
    wheel,
    uids,
    settings,
    losses,
    interactive,
    dnsPorts,
    tunnelPorts,
    asked,
  }: ShortWayParts): ShortWays | undefined {
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
        inactivity: timeoutTable(settings.timeouts),
        timeouts: Float64Array.of(attempt, close, halfClosedCheck, dns, settings.clockStep),
        clock,
        losses,
      },
      settings.checksums,
      !settings.services && !asked,
    );
    return native && new ShortWays(native, clock);
  }

  /** Packet time after `take`. */
  get now(): number {
    return this.#clock[NOW];
  }

  /**
   * Accounts the frames of a block from number `from` on, up to one that is not for a short way: its number, or the count.
   * `now` is packet time, `due` when timers have to be run.
   */
  take(block: PacketBlock, from: number, now: number, due: number): number {
    this.#clock[NOW] = now;
    this.#clock[DUE] = due;
    return this.#native.take(block.u8, block.places, block.times, from, block.count, from === 0);
  }
}
