import type { SampleColumns } from './columns.ts';
import { KINDS, KindIndex, kindOf } from './kinds.ts';
import { QueryName } from './names.ts';
import { LEVELS, maskOf, type Prefix, within } from './prefix.ts';
import { KEY_WORDS, SpaceSaving } from './space-saving.ts';
import { SampleWindow } from './window.ts';

export interface DetectorOptions {
  /** Packets a second to one target below which nothing is an attack. */
  readonly minPps: number;
  /** How many times its usual rate a target has to get. */
  readonly factor: number;
  /** Seconds in which what is usual is learned from nothing: only what is far above `minPps` counts meanwhile. */
  readonly learning: number;
  /** Seconds below half the threshold after which an attack is over. */
  readonly quiet: number;
  /** Targets and prefixes that are counted at a time, for each length of prefix. */
  readonly targets: number;
  /** Samples remembered of what is usual. */
  readonly memory: number;
  /** Seed of hashes and choices; the same seed and samples give the same answers. */
  readonly seed: number;
}

export const DETECTOR_DEFAULTS: DetectorOptions = {
  minPps: 1000,
  factor: 4,
  learning: 5,
  quiet: 10,
  targets: 16_384,
  memory: 8192,
  seed: 1,
};

/** Nanoseconds: rates are taken over this time. */
export const TICK = 250_000_000;
const SECONDS_PER_TICK = TICK / 1e9;
/** While learning, thresholds are so many times higher. */
const LEARNING_FACTOR = 5;
/** Time that goes back by more than this (nanoseconds) is a clock that was set, and no sample that came late. */
const SET_BACK = 30e9;
/** From this part of the least rate on a target's usual rate is followed. */
const FOLLOW = 0.1;
const MAX_TRACKS = 4096;
/** Ticks without a packet after which a target is no longer followed. */
const FORGET = 240;
/** After this many ticks without samples the rest of a pause is jumped over. */
const MAX_EMPTY = 80;
/** How much the usual rate moves with a tick: a time constant of a minute. */
const SLOW = SECONDS_PER_TICK / 60;
/** Standard errors that a rate has to be above its threshold by, and samples that it takes at least. */
const SIGMAS = 3;
const MIN_SAMPLES = 12;
/** A prefix is attacked as such when what is left of its rate after its attacked targets is. */
const LEVELS_COUNT = Math.max(LEVELS[4].length, LEVELS[6].length);
/** The level of names. */
export const NAME_LEVEL = LEVELS_COUNT;
/** Of names, and of prefixes that only one family has: they are few. */
const FEWER = 4;

/** A target, a prefix or a name, and what it gets of one kind of packets. */
export interface Track {
  readonly key: Uint32Array;
  /** Index in LEVELS, or NAME_LEVEL. */
  readonly level: number;
  readonly kind: number;
  /** Undefined of a name. */
  readonly target: Prefix | undefined;
  /** Packets a second in the last tick, and in the one before. */
  rate: number;
  before: number;
  samples: number;
  samplesBefore: number;
  /** What is usual: mean and mean square deviation of the rate, over so many ticks. */
  mean: number;
  square: number;
  ticks: number;
  idle: number;
  attack: Attack | undefined;
}

/** What is usual for one of them. */
export type Learned = Pick<Track, 'key' | 'level' | 'kind' | 'mean' | 'square' | 'ticks'>;

/** More of something than usual, for as long as it lasts. */
export interface Attack {
  readonly number: number;
  readonly track: Track;
  /** Nanoseconds since the epoch: begin of the tick that was the first above the threshold; the tick after which it was known. */
  readonly began: number;
  readonly noticed: number;
  /** Undefined while it lasts. */
  ended: number | undefined;
  /** Packets a second. */
  readonly threshold: number;
  readonly usual: number;
  peak: number;
  /** Packets so far, estimated. */
  packets: number;
  quietTicks: number;
  loudTicks: number;
  /** To be set by who looks at it closer: more of something, but nobody's attack. What it is made of is then usual. */
  benign: boolean;
}

export interface DetectorEvents {
  began(attack: Attack): void;
  /** After each tick of an attack that lasts. */
  lasts(attack: Attack): void;
  ended(attack: Attack): void;
}

/** Finds targets that suddenly get too much of one kind of packets. Memory does not grow with targets or time. */
export class Detector {
  readonly options: DetectorOptions;
  readonly window: SampleWindow;
  readonly #events: DetectorEvents;
  readonly #sketches: readonly SpaceSaving[];
  readonly #tracks = new Map<string, Track>();
  readonly #attacks: Attack[] = [];
  readonly #name = new QueryName();
  #tickBegin = Number.NaN;
  #tick = 0;
  #number = 0;
  #empty = true;
  samples = 0;

  constructor(events: DetectorEvents, options: Partial<DetectorOptions> = {}) {
    this.options = { ...DETECTOR_DEFAULTS, ...options };
    const { targets, seed, memory } = this.options;
    this.#events = events;
    this.#sketches = Array.from(
      { length: LEVELS_COUNT + 1 },
      (_, level) =>
        new SpaceSaving(level < LEVELS[4].length ? targets : Math.ceil(targets / FEWER), seed + level),
    );
    this.window = new SampleWindow(memory, seed);
  }

  /** Bytes of the tables; the followed targets come on top, MAX_TRACKS at most. */
  get memory(): number {
    return this.window.memory + this.#sketches.reduce((sum, sketch) => sum + sketch.memory, 0);
  }

  /** What lasts now. */
  get attacks(): readonly Attack[] {
    return this.#attacks;
  }

  /** Nanoseconds at which the tick began that goes on; NaN before the first sample. */
  get now(): number {
    return this.#tickBegin;
  }

  /** Whether it has learned for long enough. */
  get isLearned(): boolean {
    return this.#tick * SECONDS_PER_TICK > this.options.learning;
  }

  /** What is usual, as far as it is known by now, and for how many ticks it has been learned. */
  learned(): { ticks: number; targets: Learned[] } {
    return { ticks: this.#tick, targets: [...this.#tracks.values()].filter(({ ticks }) => ticks > 0) };
  }

  /** Goes on from what another one has learned: before the first sample. */
  inherit(ticks: number, targets: readonly Learned[]): void {
    this.#tick = ticks;
    for (const { key, level, mean, square, ticks: own } of targets.slice(0, MAX_TRACKS))
      this.#tracks.set(nameOf(key, level), Object.assign(newTrack(key, level, own), { mean, square }));
  }

  /** Takes in rows, in the order of time. */
  add(columns: SampleColumns, from = 0, to = columns.count): void {
    for (let row = from; row < to; row++) {
      this.advance(columns.time[row]);
      const kind = kindOf(columns, row);
      this.samples++;
      this.#empty = false;
      this.window.add(columns, row, kind);
      this.#count(columns, row, kind);
    }
  }

  /** The clock has come this far, whether or not there were samples. */
  advance(time: number): void {
    // A clock that was set back is gone on with as it is: else nothing would be seen until it is where it was.
    if (Number.isNaN(this.#tickBegin) || (time > 0 && time < this.#tickBegin - SET_BACK))
      this.#tickBegin = time;
    for (let empty = 0; time >= this.#tickBegin + TICK; ) {
      empty = this.#empty ? empty + 1 : 0;
      this.#turn();
      if (empty < MAX_EMPTY) continue;
      this.#tickBegin += Math.floor((time - this.#tickBegin) / TICK) * TICK;
      break;
    }
  }

  /** So many nanoseconds went by in which nobody looked: nothing is concluded from them. */
  skip(duration: number): void {
    this.#tickBegin += duration;
  }

  #count(columns: SampleColumns, row: number, kind: number): void {
    const family = columns.family[row] === 6 ? 6 : 4;
    const { target } = columns;
    const weight = columns.weight[row];
    const bytes = weight * columns.length[row];
    const at = 4 * row;
    const lengths = LEVELS[family];
    for (let level = 0; level < lengths.length; level++) {
      const bits = lengths[level];
      this.#sketches[level].add(
        (target[at] & maskOf(family, bits, 0)) >>> 0,
        (target[at + 1] & maskOf(family, bits, 1)) >>> 0,
        (target[at + 2] & maskOf(family, bits, 2)) >>> 0,
        (target[at + 3] & maskOf(family, bits, 3)) >>> 0,
        (kind << 8) | family,
        weight,
        bytes,
      );
    }
    if (kind !== KindIndex.dnsQuery || !this.#name.read(columns, row)) return;
    const { hash } = this.#name;
    const meta = (KindIndex.torture << 8) | family;
    this.#sketches[NAME_LEVEL].add(hash[0], hash[1], hash[2], hash[3], meta, weight, bytes);
  }

  /** Ends the tick. */
  #turn(): void {
    const ended = this.#tickBegin + TICK;
    for (const [level, sketch] of this.#sketches.entries()) {
      this.#follow(sketch, level);
      sketch.clear();
    }
    this.#tick++;
    this.#empty = true;
    this.#tickBegin = ended;
    // The most exact first: what is known of targets is taken from their prefixes.
    const tracks = [...this.#tracks.values()].toSorted((a, b) => a.level - b.level);
    for (const track of tracks) this.#judge(track, ended);
    for (const track of tracks) this.#passOn(track);
    this.window.turn((row) => this.#isTaken(row));
  }

  #follow(sketch: SpaceSaving, level: number): void {
    const least = this.options.minPps * FOLLOW * SECONDS_PER_TICK;
    for (let slot = 0; slot < sketch.used; slot++) {
      const sure = sketch.count[slot] - sketch.error[slot];
      if (sure < least) continue;
      const key = sketch.keys.subarray(slot * KEY_WORDS, (slot + 1) * KEY_WORDS);
      const name = nameOf(key, level);
      let track = this.#tracks.get(name);
      if (track === undefined) {
        if (this.#tracks.size >= MAX_TRACKS && !this.#makeRoom(sure / SECONDS_PER_TICK)) continue;
        // Until now it had next to nothing: what it gets first is not what is usual.
        track = newTrack(key.slice(), level, this.#tick);
        this.#tracks.set(name, track);
      }
      track.rate = sure / SECONDS_PER_TICK;
      track.samples = sketch.samples[slot];
    }
  }

  /** Forgets who has had least, if that is less than this. */
  #makeRoom(rate: number): boolean {
    let least: string | undefined;
    let mean = rate;
    for (const [name, track] of this.#tracks) {
      if (track.attack !== undefined || track.mean + track.rate >= mean) continue;
      mean = track.mean + track.rate;
      least = name;
    }
    if (least !== undefined) this.#tracks.delete(least);
    return least !== undefined;
  }

  threshold(track: Track): number {
    const { minPps, factor } = this.options;
    const floor = minPps * KINDS[track.kind].floor;
    if (!this.isLearned) return floor * LEARNING_FACTOR;
    return Math.max(floor, factor * track.mean, track.mean + 6 * Math.sqrt(track.square));
  }

  /** Packets a second, of a prefix without those of its targets that are under attack themselves. */
  #rateOf(track: Track, before: boolean): number {
    let rate = before ? track.before : track.rate;
    if (track.level === 0 || track.target === undefined) return rate;
    for (const { track: other } of this.#attacks)
      if (
        other.kind === track.kind &&
        other.target !== undefined &&
        other.level < track.level &&
        within(track.target, other.target.family, other.target.words, 0)
      )
        rate -= before ? other.before : other.rate;
    return Math.max(0, rate);
  }

  #judge(track: Track, ended: number): void {
    const threshold = track.attack?.threshold ?? this.threshold(track);
    const rate = this.#rateOf(track, false);
    const before = this.#rateOf(track, true);
    const high = surely(rate, track.samples);
    const over =
      high > 2 * threshold || (high > threshold && surely(before, track.samplesBefore) > threshold);
    const { attack } = track;
    if (attack !== undefined) this.#goOn(attack, rate, ended);
    else if (over) this.#begin(track, threshold, before > threshold ? ended - 2 * TICK : ended - TICK, ended);
    else if (rate <= threshold && !this.#isDisturbed(track)) this.#learn(track, rate);
  }

  /** What else a target gets while something is the matter with it, and comes with that, is not usual. */
  #isDisturbed({ key, level }: Track): boolean {
    return this.#attacks.some(
      ({ track: { key: other, level: at } }) =>
        at === level &&
        other[3] === key[3] &&
        other[2] === key[2] &&
        other[1] === key[1] &&
        other[0] === key[0] &&
        (other[4] & 0xff) === (key[4] & 0xff),
    );
  }

  /** What was now is what was before. */
  #passOn(track: Track): void {
    track.idle = track.rate === 0 ? track.idle + 1 : 0;
    if (track.idle > FORGET && track.attack === undefined)
      this.#tracks.delete(nameOf(track.key, track.level));
    track.before = track.rate;
    track.samplesBefore = track.samples;
    track.rate = 0;
    track.samples = 0;
  }

  #learn(track: Track, rate: number): void {
    track.ticks++;
    const share = Math.max(SLOW, 1 / track.ticks);
    const off = rate - track.mean;
    track.mean += share * off;
    track.square += share * (off * off - track.square);
  }

  #begin(track: Track, threshold: number, began: number, noticed: number): void {
    const attack: Attack = {
      number: ++this.#number,
      track,
      began,
      noticed,
      ended: undefined,
      threshold,
      usual: track.mean,
      peak: track.rate,
      packets: (track.rate + (began < noticed - TICK ? track.before : 0)) * SECONDS_PER_TICK,
      quietTicks: 0,
      loudTicks: 1,
      benign: false,
    };
    track.attack = attack;
    this.#attacks.push(attack);
    this.#events.began(attack);
  }

  #goOn(attack: Attack, rate: number, ended: number): void {
    attack.peak = Math.max(attack.peak, rate);
    attack.packets += rate * SECONDS_PER_TICK;
    attack.loudTicks++;
    attack.quietTicks = rate > attack.threshold / 2 ? 0 : attack.quietTicks + 1;
    if (attack.quietTicks * SECONDS_PER_TICK < this.options.quiet) {
      this.#events.lasts(attack);
      return;
    }
    attack.ended = ended - attack.quietTicks * TICK;
    attack.track.attack = undefined;
    this.#attacks.splice(this.#attacks.indexOf(attack), 1);
    this.#events.ended(attack);
  }

  /** What its prefix or name gets of other kinds usually, packets a second; of what is not followed nothing is known: 0. */
  usual(of: Track, kind: number): number {
    const key = of.key.slice();
    key[4] = (kind << 8) | (key[4] & 0xff);
    return this.#tracks.get(nameOf(key, of.level))?.mean ?? 0;
  }

  /** Whether a row of the window is what an attack consists of. */
  belongs(attack: Attack, columns: SampleColumns, row: number, kind: number): boolean {
    const { track } = attack;
    if (track.target !== undefined)
      return track.kind === kind && within(track.target, columns.family[row], columns.target, row);
    if (kind !== KindIndex.dnsQuery || !this.#name.read(columns, row)) return false;
    return track.key[2] === this.#name.hash[2] && track.key[3] === this.#name.hash[3];
  }

  #isTaken(row: number): boolean {
    const { recent, recentKind } = this.window;
    return this.#attacks.some(
      (attack) => !attack.benign && this.belongs(attack, recent, row, recentKind[row]),
    );
  }
}

const nameOf = (key: Uint32Array, level: number): string => `${level} ${key.join(' ')}`;

/** What a rate is at least: from n samples it is known to within the root of n. */
function surely(rate: number, samples: number): number {
  return samples < MIN_SAMPLES ? 0 : rate * (1 - SIGMAS / Math.sqrt(samples));
}

function newTrack(key: Uint32Array, level: number, ticks: number): Track {
  const family = (key[4] & 0xff) === 6 ? 6 : 4;
  return {
    key,
    level,
    kind: key[4] >>> 8,
    target:
      level === NAME_LEVEL ? undefined : { family, words: key.slice(0, 4), bits: LEVELS[family][level] },
    rate: 0,
    before: 0,
    samples: 0,
    samplesBefore: 0,
    mean: 0,
    square: 0,
    ticks,
    idle: 0,
    attack: undefined,
  };
}
