import { coldOf, type Endpoints, Ep, peerOf, sideOf, Tcp } from './endpoint.ts';
import { type Histories, isRecorded } from './history.ts';
import {
  CEP_F_FIN,
  CEP_F_SEEN,
  CEP_F_TRIM,
  CEP_GAPS,
  CEP_RANGES,
  CF_MISSED,
  COLD_DOUBLES,
  FLAGS,
  Flag,
  WORDS,
} from './layout.ts';
import { Loss } from './losses.ts';
import type { RangePool } from './ranges.ts';

/** Zeek's tcp_max_initial_window and tcp_max_above_hole_without_any_acks. */
export const WITHOUT_ACKS = 16_384;
/** Zeek's tcp_excessive_data_without_further_acks. */
const WITHOUT_FURTHER_ACKS = 10 * 1024 * 1024;
const LETTER_G = 0x47;

/**
 * Which bytes of a direction were seen and which were acknowledged without having been seen, as Zeek's reassembler
 * finds it out, but without the bytes. Sequence numbers are relative: the first byte of data is 1.
 */
export class GapTracker {
  readonly #endpoints: Endpoints;
  readonly #doubles: Float64Array;
  readonly #words: Int32Array;
  readonly #cold: Int32Array;
  readonly #ranges: RangePool;
  readonly #histories: Histories;
  readonly #losses: Float64Array;

  constructor(endpoints: Endpoints, ranges: RangePool, histories: Histories) {
    this.#losses = endpoints.losses;
    this.#endpoints = endpoints;
    this.#words = endpoints.words;
    this.#cold = endpoints.cold;
    this.#doubles = endpoints.coldDoubles;
    this.#ranges = ranges;
    this.#histories = histories;
  }

  /** [seq, seq + bytes) was captured. */
  sent(ep: number, seq: number, bytes: number): void {
    const at = coldOf(ep) >>> 1;
    const doubles = this.#doubles;
    if (this.#endpoints.has(ep, Ep.skip)) return;
    const high = seq + bytes;
    const low = Math.max(seq, this.#endpoints.relativeAck(ep), doubles[at + CEP_F_TRIM]);
    if (high <= low) return;
    const seen = doubles[at + CEP_F_SEEN];
    if (low <= seen) {
      this.#noteOrder(ep, low);
      if (high > seen) this.#extend(ep, high);
      // Nobody acknowledges: the capture sees one direction only, so that acknowledged data is not waited for.
      if (this.#endpoints.noDataAcked(ep)) this.#forgetUnacked(ep);
    } else {
      this.#noteOrder(ep, low);
      const list = this.#ranges.add(this.#cold[coldOf(ep) + CEP_RANGES], low, high);
      if (list < 0) {
        this.#giveUp(ep);
        return;
      }
      this.#cold[coldOf(ep) + CEP_RANGES] = list;
    }
    const ranges = this.#cold[coldOf(ep) + CEP_RANGES];
    const edge = doubles[at + CEP_F_SEEN];
    if (ranges !== 0 && this.#ranges.end(ranges) - edge > WITHOUT_ACKS && this.#endpoints.noDataAcked(ep)) {
      this.#giveUp(ep);
      return;
    }
    const buffered = edge - doubles[at + CEP_F_TRIM];
    if (buffered + (ranges === 0 ? 0 : this.#ranges.total(ranges)) > WITHOUT_FURTHER_ACKS) this.#giveUp(ep);
  }

  /** The peer has acknowledged everything below `ack`; true when that was news. */
  acked(slot: number, ep: number, ack: number): boolean {
    const at = coldOf(ep) >>> 1;
    const fin = this.#doubles[at + CEP_F_FIN];
    const upTo = this.#endpoints.has(ep, Ep.finSeen) && ack >= fin ? fin - 1 : ack;
    if (upTo <= this.#doubles[at + CEP_F_TRIM]) return false;
    this.#tally(slot, ep, upTo);
    if (upTo > this.#doubles[at + CEP_F_SEEN]) this.#undelivered(slot, ep, upTo);
    this.#absorbRanges(ep, this.#doubles[at + CEP_F_SEEN]);
    this.#dropBelow(ep, upTo);
    this.#doubles[at + CEP_F_TRIM] = upTo;
    return true;
  }

  /** Whether something sent before its end is neither seen nor given up, or not yet acknowledged by itself. */
  pending(ep: number): boolean {
    if (this.#endpoints.has(ep, Ep.skip)) return false;
    const rest = this.#endpoints.relativeLast(ep) - this.#doubles[(coldOf(ep) >>> 1) + CEP_F_SEEN];
    if (rest < 0) return false;
    // One for the FIN; a RST takes none.
    if (rest > 1) return true;
    return this.#endpoints.state(ep) !== Tcp.reset && this.#hasBlocks(peerOf(ep));
  }

  /** Everything below `seq` counts as seen; a FIN is no data. */
  takeAsSeen(ep: number, seq: number): void {
    const at = coldOf(ep) >>> 1;
    const high = this.#endpoints.has(ep, Ep.finSeen) ? Math.min(seq, this.#doubles[at + CEP_F_FIN] - 1) : seq;
    if (high > this.#doubles[at + CEP_F_SEEN]) this.#extend(ep, high);
  }

  /** Whether data lies above a hole. */
  hasHole(ep: number): boolean {
    return this.#cold[coldOf(ep) + CEP_RANGES] !== 0;
  }

  release(ep: number): void {
    const list = this.#cold[coldOf(ep) + CEP_RANGES];
    if (list !== 0) {
      this.#ranges.clear(list);
      this.#cold[coldOf(ep) + CEP_RANGES] = 0;
    }
  }

  /** Data is held: seen and not acknowledged, or above a hole. */
  #hasBlocks(ep: number): boolean {
    const at = coldOf(ep) >>> 1;
    if (this.#endpoints.has(ep, Ep.skip)) return false;
    return (
      this.#doubles[at + CEP_F_SEEN] > this.#doubles[at + CEP_F_TRIM] ||
      this.#cold[coldOf(ep) + CEP_RANGES] !== 0
    );
  }

  #extend(ep: number, high: number): void {
    this.#doubles[(coldOf(ep) >>> 1) + CEP_F_SEEN] = high;
    this.#absorbRanges(ep, high);
  }

  /** Takes in the ranges that begin at or below the edge. */
  #absorbRanges(ep: number, edge: number): void {
    let list = this.#cold[coldOf(ep) + CEP_RANGES];
    if (list === 0) return;
    let seen = edge;
    while (list !== 0 && this.#ranges.low(list) <= seen) {
      seen = Math.max(seen, this.#ranges.high(list));
      list = this.#ranges.shift(list);
    }
    this.#cold[coldOf(ep) + CEP_RANGES] = list;
    this.#doubles[(coldOf(ep) >>> 1) + CEP_F_SEEN] = seen;
  }

  #dropBelow(ep: number, upTo: number): void {
    let list = this.#cold[coldOf(ep) + CEP_RANGES];
    while (list !== 0 && this.#ranges.high(list) <= upTo) list = this.#ranges.shift(list);
    this.#cold[coldOf(ep) + CEP_RANGES] = list;
  }

  #forgetUnacked(ep: number): void {
    const at = coldOf(ep) >>> 1;
    if (this.#endpoints.size(ep) > WITHOUT_ACKS) {
      this.#doubles[at + CEP_F_TRIM] = this.#doubles[at + CEP_F_SEEN];
    }
  }

  #giveUp(ep: number): void {
    this.release(ep);
    // What is held goes, and nothing is waited for.
    this.#endpoints.mark(ep, Ep.skip);
  }

  /** Data below `upTo` was acknowledged, but not seen: each hole is a gap. */
  #undelivered(slot: number, ep: number, upTo: number): void {
    // The start of a connection joined in the middle was guessed from its first segment, perhaps a keep-alive.
    const flags = this.#words[slot * WORDS + FLAGS];
    if (upTo <= 2 && (flags & Flag.partial) !== 0) return;
    const at = coldOf(ep) >>> 1;
    if (!this.#endpoints.has(ep, Ep.skip)) {
      for (;;) {
        const list = this.#cold[coldOf(ep) + CEP_RANGES];
        if (list === 0 || this.#ranges.low(list) >= upTo) break;
        const seen = this.#doubles[at + CEP_F_SEEN];
        const low = this.#ranges.low(list);
        if (low > seen) this.#gap(slot, ep, low - seen);
        this.#absorbRanges(ep, Math.max(low, seen));
      }
      const seen = this.#doubles[at + CEP_F_SEEN];
      if (upTo > seen) this.#gap(slot, ep, upTo - seen);
    }
    if (upTo > this.#doubles[at + CEP_F_SEEN]) this.#doubles[at + CEP_F_SEEN] = upTo;
  }

  /** New data from `low` on: whether data that follows it has come before it. */
  #noteOrder(ep: number, low: number): void {
    const ranges = this.#cold[coldOf(ep) + CEP_RANGES];
    if (ranges === 0) return;
    const end = this.#ranges.end(ranges);
    if (low >= end) return;
    const losses = this.#losses;
    losses[Loss.late] = losses[Loss.late] + 1;
    if (end - low > losses[Loss.lateDepth]) losses[Loss.lateDepth] = end - low;
  }

  /** Counts an acknowledgement up to `upTo` as Zeek's capture_loss does, those of shunted connections not. */
  #tally(slot: number, ep: number, upTo: number): void {
    const endpoints = this.#endpoints;
    if (endpoints.has(ep, Ep.skip) || (this.#words[slot * WORDS + FLAGS] & Flag.marked) !== 0) return;
    if (endpoints.state(ep) !== Tcp.established || endpoints.state(peerOf(ep)) !== Tcp.established) return;
    const losses = this.#losses;
    losses[Loss.acks] = losses[Loss.acks] + 1;
    const missing = this.#missingBelow(ep, upTo);
    if (missing === 0) return;
    losses[Loss.gaps] = losses[Loss.gaps] + 1;
    losses[Loss.gapBytes] = losses[Loss.gapBytes] + missing;
  }

  /** Bytes below `upTo` that were not seen; as with Zeek, a last one behind data that was is a FIN. */
  #missingBelow(ep: number, upTo: number): number {
    const at = coldOf(ep) >>> 1;
    const seen = this.#doubles[at + CEP_F_SEEN];
    if (upTo <= seen) return 0;
    const list = this.#cold[coldOf(ep) + CEP_RANGES];
    const missing = this.#ranges.missing(list, seen, upTo);
    const edge = Math.max(seen, this.#ranges.endBelow(list, upTo));
    return upTo - edge === 1 && edge > this.#doubles[at + CEP_F_TRIM] ? missing - 1 : missing;
  }

  #gap(slot: number, ep: number, bytes: number): void {
    if (!this.#isClean(ep) || !this.#isClean(peerOf(ep))) return;
    const count = this.#cold[coldOf(ep) + CEP_GAPS] + 1;
    this.#cold[coldOf(ep) + CEP_GAPS] = count;
    const flags = this.#words[slot * WORDS + FLAGS];
    if (isRecorded(count))
      this.#histories.add(slot, LETTER_G, (sideOf(ep) === 1) === ((flags & Flag.origHigh) !== 0));
    const missed = slot * COLD_DOUBLES + CF_MISSED;
    this.#doubles[missed] = this.#doubles[missed] + bytes;
  }

  /** Established, or closed from there. */
  #isClean(ep: number): boolean {
    const state = this.#endpoints.state(ep);
    return (
      state === Tcp.established || (state === Tcp.closed && this.#endpoints.previous(ep) === Tcp.established)
    );
  }
}
