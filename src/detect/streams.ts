import type { BatchHeader } from './batch.ts';

/** Sequence numbers that may come out of order. */
const WINDOW = 32;
/** Milliseconds: the least way is looked for over one to two of these. */
const SPAN = 30_000;
/** What comes later than this counts no more: the rates of its time have been judged. */
const LATE = 1500;
/** More than a way can take: the clock there was set. */
const STEP = 5000;
const FORGET = 120_000;
/** Those that are forgotten are looked for so often at most. */
const LOOK = 1000;
const MAX_STREAMS = 16_384;

interface Stream {
  highest: number;
  /** Bit n: highest - n was there. */
  seen: number;
  /** Arrival here less clock there: the least of this span, and of the one before. */
  least: number;
  before: number;
  spanEnds: number;
  heard: number;
  /** Of the sender's own losses, as it said last. */
  lost: number;
}

export interface StreamCounts {
  /** Batches that came twice, that came too late, that never came. */
  duplicate: number;
  late: number;
  missing: number;
  /** Samples that senders have lost. */
  lost: number;
}

/**
 * Senders of batches for one partition: takes each batch once, whatever the order, and tells times there as times here. Clocks need
 * not agree: the way is taken for as long as the shortest one of late.
 */
export class Streams {
  readonly counts: StreamCounts = { duplicate: 0, late: 0, missing: 0, lost: 0 };
  readonly #streams = new Map<string, Stream>();
  #looked = Number.NEGATIVE_INFINITY;

  get size(): number {
    return this.#streams.size;
  }

  /** Milliseconds here at which the sender's clock said what the batch says; undefined: it does not count. @param now milliseconds here */
  accept(header: BatchHeader, now: number): number | undefined {
    const name = `${header.streamHigh} ${header.streamLow}`;
    const way = now - header.clock;
    let stream = this.#streams.get(name);
    if (stream === undefined) {
      if (this.#streams.size >= MAX_STREAMS) this.#forget(now);
      if (this.#streams.size >= MAX_STREAMS) return undefined;
      const { sequence, lost } = header;
      stream = {
        highest: sequence,
        seen: 1,
        least: way,
        before: way,
        spanEnds: now + SPAN,
        heard: now,
        lost,
      };
      this.#streams.set(name, stream);
    } else if (!this.#isNew(stream, header.sequence)) {
      this.counts.duplicate++;
      return undefined;
    }
    const lost = (header.lost - stream.lost) >>> 0;
    // Of a batch that was overtaken it is less than what was said already.
    if (lost < 0x80000000) {
      this.counts.lost += lost;
      stream.lost = header.lost;
    }
    stream.heard = now;
    if (now >= stream.spanEnds) {
      stream.before = stream.least;
      stream.least = way;
      stream.spanEnds = now + SPAN;
    }
    if (way > Math.min(stream.least, stream.before) + STEP) {
      stream.least = way;
      stream.before = way;
    }
    stream.least = Math.min(stream.least, way);
    const time = header.clock + Math.min(stream.least, stream.before);
    if (now - time <= LATE) return time;
    this.counts.late++;
    return undefined;
  }

  #isNew(stream: Stream, sequence: number): boolean {
    const ahead = sequence - stream.highest;
    if (ahead > 0) {
      this.counts.missing += ahead - 1;
      stream.seen = ahead >= WINDOW ? 1 : ((stream.seen << ahead) | 1) >>> 0;
      stream.highest = sequence;
      return true;
    }
    if (ahead <= -WINDOW) return false;
    const bit = (1 << -ahead) >>> 0;
    if ((stream.seen & bit) !== 0) return false;
    stream.seen = (stream.seen | bit) >>> 0;
    this.counts.missing--;
    return true;
  }

  #forget(now: number): void {
    if (now - this.#looked < LOOK) return;
    this.#looked = now;
    for (const [name, { heard }] of this.#streams) if (now - heard > FORGET) this.#streams.delete(name);
  }
}
