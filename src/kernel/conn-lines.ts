import { type Addon, addonIfAny, type ConnLineTables, type RawConnLines } from './addon.ts';

/** Lines of conn.log, made by native code from one engine's tables (native/conn-line.cc). */
export class NativeConnLines {
  readonly #addon: Addon;
  readonly #lines: RawConnLines;

  private constructor(native: Addon, lines: RawConnLines) {
    this.#addon = native;
    this.#lines = lines;
  }

  /** Undefined where the addon does not load. */
  static over(tables: ConnLineTables): NativeConnLines | undefined {
    const native = addonIfAny();
    return native && new NativeConnLines(native, native.connLines(tables));
  }

  /**
   * Writes the flow in `slot` as JSON with a newline to out[at…], where 2048 bytes are free: bytes written, or 0 for one that the
   * tables do not know all of. `service` is of letters that JSON takes as they are; `more`: fields behind the others, each with
   * a comma before it.
   */
  line(
    slot: number,
    out: Uint8Array,
    at: number,
    service: string | undefined,
    more: string | undefined,
  ): number {
    return this.#addon.connLine(this.#lines, slot, out, at, service, more);
  }
}
