import {
  type Attack,
  attackDocument,
  parseVeto,
  Responder,
  readBaseline,
  restore,
  SampleColumns,
  SampleReader,
  snapshot,
  type Told,
} from '../mitigation/index.ts';
import { BATCH_ROWS, readBatchHeader, readBatchRows } from './batch.ts';
import { type CarriedRule, CarriedWatch } from './carried-rule.ts';
import { WHOLE_BITS } from './partition.ts';
import { type StreamCounts, Streams } from './streams.ts';
import { Summary } from './summary.ts';

export interface PartitionOptions {
  readonly minPps: number;
  readonly factor: number;
  readonly learning: number;
  /** As parseVeto reads them. */
  readonly vetoes: readonly string[];
  readonly partitions: number;
}

export interface PartitionEvents {
  readonly told: (told: Told) => void;
  /** Nothing comes any more that this carried rule is against. */
  readonly over: (rule: string) => void;
  /** A batch for the second stage. */
  readonly summary: (bytes: Uint8Array) => void;
}

export interface PartitionCounts extends StreamCounts {
  streams: number;
  batches: number;
  malformed: number;
  samples: number;
}

/** The name of the lease of what is spread over partitions. */
export const SECOND = 'second';
/** Of what is handed on to the next who holds it: far less than a value of a bucket may have. */
const HANDED_ON = { targets: 1024, samples: 256 } as const;
/** Milliseconds: samples of late may still be on their way. */
const BEHIND = 400;
/** Milliseconds without any batch after which nothing is concluded from it. */
const SILENCE = 2000;
/** Milliseconds after which it is: whoever sent these is gone, and so is what came there. */
const GONE = 60_000;
const TURN_MS = 1000;
/** Seconds, as DETECTOR_DEFAULTS.quiet. */
const QUIET = 10;
/** Entries of sketches: each partition has its part of the targets. */
const targetsOf = (partitions: number): number =>
  Math.min(16_384, Math.max(2048, Math.ceil(65_536 / partitions)));

/** Wider than what a partition has the whole of (partitionOf): its parts are in many. */
const isSpread = ({ track: { target } }: Attack): boolean =>
  target !== undefined && target.bits < WHOLE_BITS[target.family];

/** One partition's samples, or those of the second stage, through the same detection as on one machine. */
export class PartitionDetector {
  readonly counts: PartitionCounts = {
    streams: 0,
    batches: 0,
    malformed: 0,
    samples: 0,
    duplicate: 0,
    late: 0,
    missing: 0,
    lost: 0,
  };
  readonly #options: PartitionOptions;
  readonly #events: PartitionEvents;
  readonly #responder: Responder;
  readonly #reader = new SampleReader();
  readonly #columns = new SampleColumns(BATCH_ROWS);
  readonly #streams = new Streams();
  readonly #summary: Summary | undefined;
  #carried: CarriedWatch[] = [];
  /** Milliseconds: when a batch came last, how far the clock has been brought, the last turn of carried rules. */
  #fed = Number.NEGATIVE_INFINITY;
  #clock = Number.NaN;
  #turned = Number.NaN;
  #gone = false;

  /** @throws SluiceError USAGE for what is no veto */
  constructor(name: string, options: PartitionOptions, events: PartitionEvents) {
    const second = name === SECOND;
    const { minPps, factor, learning, vetoes, partitions } = options;
    this.#options = options;
    this.#events = events;
    this.#summary = second ? undefined : new Summary(partitions);
    this.#responder = new Responder(
      (record, change) => {
        const { id, kind, target, rules, judgement } = record;
        const document = attackDocument(record);
        events.told({ change, id, kind, target, attack: judgement.attack, rules, document });
      },
      {
        minPps,
        factor,
        learning,
        vetoes: vetoes.map(parseVeto),
        targets: second ? 16_384 : targetsOf(partitions),
        answers: (attack) => isSpread(attack) === second,
      },
    );
  }

  /** Goes on from what another one has learned, if that is any good: before the first batch. @param now milliseconds since 1970 */
  inherit(text: string, now: number): void {
    const baseline = readBaseline(text, now / 1000);
    if (baseline !== undefined) restore(this.#responder.detector, baseline);
  }

  /** What it has learned so far, as text; undefined: too little. @param now milliseconds since 1970 */
  learned(now: number): string | undefined {
    const { detector } = this.#responder;
    return detector.isLearned ? JSON.stringify(snapshot(detector, now / 1000, HANDED_ON)) : undefined;
  }

  /** Rules that are in force against attacks that were found before we came. */
  carry(rules: readonly CarriedRule[]): void {
    for (const rule of rules) {
      try {
        this.#carried.push(new CarriedWatch(rule));
      } catch {
        // Of another version: nobody can say whether it is still needed.
        this.#events.over(rule.id);
      }
    }
  }

  /** Somebody else does that now. */
  uncarry(id: string): void {
    const gone = this.#carried.find((watch) => watch.id === id);
    gone?.close();
    this.#carried = this.#carried.filter((watch) => watch !== gone);
  }

  /** A message that came at `now`, milliseconds since 1970. Never throws, whatever the bytes. */
  batch(bytes: Uint8Array, now: number): void {
    this.counts.batches++;
    const header = readBatchHeader(bytes);
    if (header === undefined) {
      this.counts.malformed++;
      return;
    }
    const clock = this.#streams.accept(header, now);
    if (clock === undefined) return;
    this.#wake(now);
    const columns = this.#columns;
    columns.count = 0;
    readBatchRows(bytes, header, clock * 1e6, this.#reader, columns);
    this.counts.samples += columns.count;
    this.#responder.add(columns);
    for (const watch of this.#carried) watch.add(columns);
    this.#summary?.add(columns);
  }

  #wake(now: number): void {
    if (now - this.#fed > SILENCE && !this.#gone) this.#skipTo(now);
    this.#gone = false;
    this.#fed = now;
  }

  /** After silence the clock goes on from where it stood. */
  #skipTo(now: number): void {
    if (Number.isNaN(this.#clock)) return;
    this.#responder.detector.skip(Math.max(0, now - BEHIND - this.#clock) * 1e6);
    this.#turned = now;
  }

  /** To be called some times a second. */
  tick(now: number): void {
    const silence = now - this.#fed;
    if (!Number.isFinite(silence) || (silence > SILENCE && silence <= GONE)) return;
    if (silence > GONE && !this.#gone) {
      this.#gone = true;
      this.#skipTo(now);
    }
    this.#clock = now - BEHIND;
    if (!Number.isNaN(this.#responder.detector.now)) this.#responder.detector.advance(this.#clock * 1e6);
    for (const bytes of this.#summary?.take(now) ?? []) this.#events.summary(bytes);
    if (Number.isNaN(this.#turned)) this.#turned = now;
    if (now - this.#turned < TURN_MS) return;
    const seconds = (now - this.#turned) / 1000;
    this.#turned = now;
    for (const watch of this.#carried) watch.turn(seconds, this.#options.minPps / 2);
    for (const { id } of this.#carried.filter(({ quiet }) => quiet >= QUIET)) {
      this.uncarry(id);
      this.#events.over(id);
    }
  }

  status(): PartitionCounts {
    return { ...this.counts, ...this.#streams.counts, streams: this.#streams.size };
  }

  close(): void {
    for (const watch of this.#carried) watch.close();
    this.#carried = [];
  }
}
