import { type Addon, addonIfAny, type RawShortWays, type ShortWayTables } from './addon.ts';

export type { ShortWayTables } from './addon.ts';

/** The native short ways over one engine's tables (native/flow.cc). */
export class NativeShortWays {
  readonly #addon: Addon;
  readonly #ways: RawShortWays;

  private constructor(native: Addon, ways: RawShortWays) {
    this.#addon = native;
    this.#ways = ways;
  }

  /**
   * Undefined where the addon does not load. `bare`: flows are opened and closed here too, which is right only where
   * nothing but conn.log wants to know of them.
   */
  static over(tables: ShortWayTables, checksums: boolean, bare: boolean): NativeShortWays | undefined {
    const native = addonIfAny();
    return native && new NativeShortWays(native, native.shortWays(tables, checksums, bare));
  }

  /**
   * Accounts the packets [from, count) that lie in `memory`, up to one that is not for a short way: its number, or
   * `count`. `places` has four words a packet: offset, bytes captured, bytes on the wire, link type. `fresh`: these are
   * others than those of the call before.
   */
  take(
    memory: Uint8Array,
    places: Int32Array,
    times: Float64Array,
    from: number,
    count: number,
    fresh: boolean,
  ): number {
    return this.#addon.shortTake(this.#ways, memory, places, times, from, count, fresh);
  }
}
