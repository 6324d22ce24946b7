import {
  C_ENDPOINT,
  C_ENDPOINT_WORDS,
  CEP_F_SEEN,
  CEP_F_TRIM,
  CEP_RANGES,
  COLD_WORDS,
  ENDPOINT,
  ENDPOINT_WORDS,
  EP_ACK,
  EP_ACK_WRAPS,
  EP_LAST,
  EP_LAST_WRAPS,
  EP_START,
  EP_STATE,
  WORDS,
} from './layout.ts';
import { LOSSES } from './losses.ts';
import type { FlowTable } from './table.ts';
import type { Side } from './types.ts';

/** States of a TCP endpoint, as in Zeek. */
export const Tcp = {
  inactive: 0,
  synSent: 1,
  /** A SYN-ACK was the first that was seen of it. */
  synAckSent: 2,
  /** Heard, but without a SYN. */
  partial: 3,
  established: 4,
  /** Has sent a FIN. */
  closed: 5,
  /** Has sent a RST. */
  reset: 6,
} as const;

/** The word at EP_STATE: state, the state before it << 4, and these bits. */
export const STATE_MASK = 15;
export const PREVIOUS_SHIFT = 4;
export const Ep = {
  /** Nothing is outstanding any more after its FIN or RST. */
  didClose: 1 << 8,
  finSeen: 1 << 9,
  /** Gap detection has ended for what it sends. */
  skip: 1 << 10,
  /** All that it sent up to its end has been accounted for. */
  didEof: 1 << 11,
  /**
   * All that it sent has been seen, without a hole, and all that was acknowledged is let go: CEP_F_SEEN and CEP_F_TRIM are
   * not kept, for they are its highest sequence end and acknowledgement (1 at least). See `settle` and `engage`.
   */
  inStep: 1 << 12,
} as const;

/** What keeps an endpoint out of step. */
const NOT_IN_STEP = Ep.didClose | Ep.finSeen | Ep.skip | Ep.didEof;
/** Sent and not acknowledged; beyond, the gap tracker has a look at it. */
export const MAX_IN_STEP = 8 * 1024 * 1024;

const WRAP = 4_294_967_296;

/** Index of the endpoint's first word; half of it is its index among the doubles. */
export function endpointOf(slot: number, side: Side): number {
  return slot * WORDS + ENDPOINT + side * ENDPOINT_WORDS;
}

/** The other endpoint of the same flow: records and endpoints are aligned so that one bit tells them apart. */
export function peerOf(ep: number): number {
  return ep ^ ENDPOINT_WORDS;
}

export function sideOf(ep: number): Side {
  return (ep & ENDPOINT_WORDS) === 0 ? 0 : 1;
}

/** Index of the first word of its rest in the cold part; half of it is its index among the doubles there. */
export function coldOf(ep: number): number {
  return ((ep / WORDS) | 0) * COLD_WORDS + C_ENDPOINT + sideOf(ep) * C_ENDPOINT_WORDS;
}

/** Signed distance from b to a in sequence space. */
export function distance(a: number, b: number): number {
  return (a - b) | 0;
}

/** Sequence arithmetic over the endpoints of a table; every `ep` is an index made by `endpointOf`. */
export class Endpoints {
  readonly words: Int32Array;
  readonly doubles: Float64Array;
  readonly cold: Int32Array;
  readonly coldDoubles: Float64Array;
  /** What is missed of all of them, see Loss. */
  readonly losses = new Float64Array(LOSSES);

  constructor(table: FlowTable) {
    this.words = table.words;
    this.doubles = table.doubles;
    this.cold = table.cold;
    this.coldDoubles = table.coldDoubles;
  }

  state(ep: number): number {
    return this.words[ep + EP_STATE] & STATE_MASK;
  }

  previous(ep: number): number {
    return (this.words[ep + EP_STATE] >>> PREVIOUS_SHIFT) & STATE_MASK;
  }

  has(ep: number, bit: number): boolean {
    return (this.words[ep + EP_STATE] & bit) !== 0;
  }

  mark(ep: number, bit: number): void {
    this.words[ep + EP_STATE] = this.words[ep + EP_STATE] | bit;
  }

  /** Begins the numbering: start and acknowledgement at `start`, the highest sequence end at `last`. */
  init(ep: number, start: number, last: number): void {
    this.words[ep + EP_START] = start;
    this.words[ep + EP_ACK] = start;
    this.words[ep + EP_ACK_WRAPS] = 0;
    this.words[ep + EP_LAST] = last;
    this.words[ep + EP_LAST_WRAPS] = last >>> 0 < start >>> 0 ? 1 : 0;
  }

  /** First relative sequence number of data is 1. */
  initTracking(ep: number): void {
    this.coldDoubles[(coldOf(ep) >>> 1) + CEP_F_SEEN] = 1;
    this.coldDoubles[(coldOf(ep) >>> 1) + CEP_F_TRIM] = 1;
  }

  /** Before what is not an ordinary segment: what `engage` has left out is kept again. */
  settle(ep: number): void {
    if (!this.has(ep, Ep.inStep)) return;
    this.words[ep + EP_STATE] = this.words[ep + EP_STATE] & ~Ep.inStep;
    this.coldDoubles[(coldOf(ep) >>> 1) + CEP_F_SEEN] = this.relativeLast(ep);
    this.coldDoubles[(coldOf(ep) >>> 1) + CEP_F_TRIM] = Math.max(1, this.relativeAck(ep));
  }

  /** Puts an established endpoint into step, if it is. */
  engage(ep: number): void {
    if ((this.words[ep + EP_STATE] & (STATE_MASK | NOT_IN_STEP)) !== Tcp.established) return;
    const cold = coldOf(ep);
    const seen = this.coldDoubles[(cold >>> 1) + CEP_F_SEEN];
    const trim = this.coldDoubles[(cold >>> 1) + CEP_F_TRIM];
    if (this.cold[cold + CEP_RANGES] !== 0 || seen - trim > MAX_IN_STEP) return;
    if (seen !== this.relativeLast(ep) || trim !== Math.max(1, this.relativeAck(ep))) return;
    this.mark(ep, Ep.inStep);
  }

  advanceLast(ep: number, seq: number): void {
    const words = this.words;
    if (seq >>> 0 < words[ep + EP_LAST] >>> 0) words[ep + EP_LAST_WRAPS] = words[ep + EP_LAST_WRAPS] + 1;
    words[ep + EP_LAST] = seq;
  }

  advanceAck(ep: number, ack: number): void {
    const words = this.words;
    if (ack >>> 0 < words[ep + EP_ACK] >>> 0) words[ep + EP_ACK_WRAPS] = words[ep + EP_ACK_WRAPS] + 1;
    words[ep + EP_ACK] = ack;
  }

  start(ep: number): number {
    return this.words[ep + EP_START] >>> 0;
  }

  /** Highest sequence end, with its wraps. */
  last(ep: number): number {
    return this.words[ep + EP_LAST_WRAPS] * WRAP + (this.words[ep + EP_LAST] >>> 0);
  }

  /** Highest acknowledgement of what it sent, with its wraps. */
  ack(ep: number): number {
    return this.words[ep + EP_ACK_WRAPS] * WRAP + (this.words[ep + EP_ACK] >>> 0);
  }

  relativeLast(ep: number): number {
    return this.last(ep) - this.start(ep);
  }

  relativeAck(ep: number): number {
    return this.ack(ep) - this.start(ep);
  }

  /**
   * A sequence number relative to the start, the one nearest to the highest; below 0 when it lies before it. Zeek takes
   * what lies 2 GiB and more behind the start for something before it until the first wrap, and finds a gap there later;
   * we do not.
   */
  relativeSeq(ep: number, seq: number): number {
    return this.last(ep) + distance(seq, this.words[ep + EP_LAST]) - this.start(ep);
  }

  /** An acknowledgement of what it sent, likewise. */
  relativeAckOf(ep: number, ack: number): number {
    return this.ack(ep) + distance(ack, this.words[ep + EP_ACK]) - this.start(ep);
  }

  /** Nothing but perhaps its SYN has been acknowledged. */
  noDataAcked(ep: number): boolean {
    const acked = this.relativeAck(ep);
    return acked === 0 || acked === 1;
  }

  /** Payload bytes as the sequence numbers tell. */
  size(ep: number): number {
    if (
      this.previous(ep) === Tcp.synSent &&
      this.state(ep) === Tcp.reset &&
      this.state(peerOf(ep)) === Tcp.inactive &&
      !this.noDataAcked(ep)
    ) {
      return 0;
    }
    let size = Math.max(0, this.last(ep), this.ack(ep)) - this.start(ep);
    if (size > 0) size--;
    if (size > 0 && this.has(ep, Ep.finSeen)) size--;
    return Math.max(0, size);
  }
}
