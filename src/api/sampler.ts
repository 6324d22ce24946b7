import { type Point, pointOf, type Reading } from './point.ts';
import { ratesOf, type Tick } from './shapes.ts';

const TICK_MS = 1000;
/** A quarter of an hour. */
const KEPT = 900;

/** Reads the run once a second, for the stream and for whoever comes later and wants to see what was. */
export class Sampler {
  readonly #read: () => Reading;
  readonly #points: Point[] = [];
  readonly #timer: NodeJS.Timeout;
  #last: Reading;
  #tick: Tick;
  #text: string | undefined;
  /** Is told of each second. */
  onTick: (tick: Tick) => void = () => {};

  constructor(read: () => Reading) {
    this.#read = read;
    this.#last = read();
    this.#tick = this.#tickOf(this.#last);
    this.#timer = setInterval(() => this.onTick(this.take()), TICK_MS).unref();
  }

  #tickOf(now: Reading): Tick {
    return { ...ratesOf(this.#last.status, now.status), point: pointOf(this.#last, now) };
  }

  /** The latest second. */
  get tick(): Tick {
    return this.#tick;
  }

  /** Reads now. */
  take(): Tick {
    const now = this.#read();
    this.#tick = this.#tickOf(now);
    this.#last = now;
    this.#points.push(this.#tick.point);
    if (this.#points.length > KEPT) this.#points.shift();
    this.#text = undefined;
    return this.#tick;
  }

  get points(): readonly Point[] {
    return this.#points;
  }

  /** All points as JSON: one text for all who ask within a second. */
  get text(): string {
    this.#text ??= JSON.stringify({ seconds: TICK_MS / 1000, points: this.#points });
    return this.#text;
  }

  close(): void {
    clearInterval(this.#timer);
  }
}
