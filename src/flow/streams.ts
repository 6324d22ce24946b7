import { looksLikeTls, TlsStream } from './tls.ts';
import type { Side, TlsInfo } from './types.ts';

/** What a delivery changed; `TlsStream.data` has the same bits. */
export const StreamNews = { confirmed: 1, established: 2, done: 4 } as const;

interface Segment {
  seq: number;
  bytes: Uint8Array;
}

/** One flow that is, or may be, TLS. */
interface Candidate {
  stream: TlsStream | undefined;
  info: TlsInfo | undefined;
  /** Next relative sequence number wanted, of both sides. */
  next: [number, number];
  held: [Segment[], Segment[]];
  heldBytes: number;
}

/** Segments held back per side; more are no reordering. */
const MAX_SEGMENTS = 64;

/**
 * Payload of connections that may be TLS, in order, to their recognizers: until those have seen enough, or data is
 * missing. Only segments that come out of order are copied, within limits. Flows that are not TLS cost one look at the
 * first bytes of each side.
 */
export class Streams {
  readonly #candidates = new Map<number, Candidate>();
  readonly #perFlow: number;
  readonly #total: number;
  #heldBytes = 0;

  /** Limits in bytes of what is held back per flow and for all. */
  constructor(perFlow: number, total: number) {
    this.#perFlow = perFlow;
    this.#total = total;
  }

  /** Payload that was captured whole; `seq` is relative, 1 the first byte. Bits of StreamNews. */
  deliver(
    slot: number,
    side: Side,
    fromOrig: boolean,
    seq: number,
    u8: Uint8Array,
    offset: number,
    bytes: number,
  ): number {
    let candidate = this.#candidates.get(slot);
    if (candidate === undefined) {
      if (seq === 1 && !looksLikeTls(u8, offset, bytes)) return StreamNews.done;
      candidate = { stream: undefined, info: undefined, next: [1, 1], held: [[], []], heldBytes: 0 };
      this.#candidates.set(slot, candidate);
    }
    if (seq > candidate.next[side]) return this.#hold(slot, candidate, side, seq, u8, offset, bytes);
    let news = this.#feed(candidate, side, fromOrig, seq, u8, offset, bytes);
    while ((news & StreamNews.done) === 0) {
      const held = candidate.held[side];
      const index = held.findIndex((segment) => segment.seq <= candidate.next[side]);
      if (index < 0) return news;
      const [segment] = held.splice(index, 1) as [Segment];
      this.#heldBytes -= segment.bytes.length;
      candidate.heldBytes -= segment.bytes.length;
      news |= this.#feed(candidate, side, fromOrig, segment.seq, segment.bytes, 0, segment.bytes.length);
    }
    this.#finish(slot, candidate);
    return news;
  }

  /** The handshake as far as it was recognized. */
  info(slot: number): TlsInfo | undefined {
    return this.#candidates.get(slot)?.info;
  }

  /** No more payload of this flow will come, or can be used. */
  stop(slot: number): void {
    const candidate = this.#candidates.get(slot);
    if (candidate !== undefined) this.#finish(slot, candidate);
  }

  release(slot: number): void {
    this.stop(slot);
    this.#candidates.delete(slot);
  }

  #feed(
    candidate: Candidate,
    side: Side,
    fromOrig: boolean,
    seq: number,
    u8: Uint8Array,
    offset: number,
    bytes: number,
  ): number {
    const skip = candidate.next[side] - seq;
    if (skip >= bytes) return 0;
    candidate.next[side] = seq + bytes;
    if (candidate.stream === undefined) {
      if (!looksLikeTls(u8, offset + skip, bytes - skip)) return StreamNews.done;
      candidate.stream = new TlsStream();
    }
    const news = candidate.stream.data(fromOrig ? 1 : 0, u8, offset + skip, bytes - skip);
    if ((news & StreamNews.confirmed) !== 0) candidate.info = candidate.stream.info;
    return news;
  }

  #hold(
    slot: number,
    candidate: Candidate,
    side: Side,
    seq: number,
    u8: Uint8Array,
    offset: number,
    bytes: number,
  ): number {
    const held = candidate.held[side];
    if (
      held.length >= MAX_SEGMENTS ||
      candidate.heldBytes + bytes > this.#perFlow ||
      this.#heldBytes + bytes > this.#total
    ) {
      this.#finish(slot, candidate);
      return StreamNews.done;
    }
    held.push({ seq, bytes: u8.slice(offset, offset + bytes) });
    candidate.heldBytes += bytes;
    this.#heldBytes += bytes;
    return 0;
  }

  /** Lets go of everything but what was found out. */
  #finish(slot: number, candidate: Candidate): void {
    this.#heldBytes -= candidate.heldBytes;
    candidate.heldBytes = 0;
    candidate.held = [[], []];
    candidate.stream = undefined;
    if (candidate.info === undefined) this.#candidates.delete(slot);
  }
}
