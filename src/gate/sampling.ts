import { BpfMap, MapType, possibleCpus, RingBuffer, realtimeOffset } from '../kernel/index.ts';
import { SlGateSample, SlSampler, SlSampling } from './layout.gen.ts';
import { VERDICTS, type Verdict } from './layout.ts';

/** SL_SAMPLED_INTERFACES of bpf/gate.h. */
const ROWS = 16;
const BPF_F_MMAPABLE = 1 << 10;
/** The kernel's clock of this program moves at least so often (HZ=100). */
const TICKS_PER_SECOND = 100;

/** Maps that only an XDP gate has. */
export const SAMPLE_MAPS: ReadonlySet<string> = new Set(['samples', 'sampling', 'samplers']);

/** How packets are sampled; see `SampleRate`. */
export interface SampleOptions {
  /** One packet in so many, to begin with. */
  every: number;
  /** Bytes of a sample: 64 to 2048. */
  size: number;
  /** Samples a second that are wanted at most: `every` follows the traffic. Undefined: it stays as it is set. */
  budget?: number | undefined;
  /** Bytes of samples that wait to be read: a power of two. */
  ringBytes?: number;
}

/** A sampled packet; `memory` at `offset` holds it until the call returns. */
export interface GateSample {
  /** Seconds since the epoch. */
  ts: number;
  /** Bytes of the frame, and how many of them are there. */
  length: number;
  captured: number;
  ifindex: number;
  /** Packets that it stands for, those that were lost or beyond the budget counted in. */
  every: number;
  verdict: Verdict;
  /** Number of the rule that dropped it or held it back. */
  rule: number | undefined;
  memory: Uint8Array;
  offset: number;
}

export interface SampleCounts {
  /** In the ring. */
  taken: number;
  /** No room in the ring. */
  lost: number;
  /** Beyond what a tick may have. */
  over: number;
  /** L2 bytes of the packets: of samples taken, and of those lost or beyond. */
  takenBytes: number;
  missedBytes: number;
}

/** Where nobody samples. */
export const NO_SAMPLES: Readonly<SampleCounts> = {
  taken: 0,
  lost: 0,
  over: 0,
  takenBytes: 0,
  missedBytes: 0,
};

const RING_BYTES = 4 << 20;
const { members: H } = SlGateSample;
const { members: S } = SlSampler;
const MOST_EVERY = 1e9;

const key = (row: number): Uint8Array => new Uint8Array(Uint32Array.of(row).buffer);

/** Samples of what comes to a gate, whatever becomes of it; made by `Gate.sample`. */
export class GateSampler {
  /** What the gate's program is loaded with in place of its own. */
  readonly maps: Readonly<Record<'samples' | 'sampling' | 'samplers', BpfMap>>;
  readonly #ring: RingBuffer;
  readonly #size: number;
  readonly #budget: number | undefined;
  readonly #every = new Map<number, number>();
  readonly #seen = new Map<number, number>();
  /** By row: what was counted when the ring was read last, and how many samples one of those that are read now stands for. */
  readonly #read = new Map<number, SampleCounts>();
  readonly #share = new Map<number, number>();
  #looked = performance.now();
  #clock: number;
  readonly #off: () => void;

  constructor(
    options: SampleOptions,
    ifindices: readonly number[],
    told: (sample: GateSample) => void,
    off: () => void,
  ) {
    const { ringBytes = RING_BYTES, size, budget } = options;
    const array = { keySize: 4, maxEntries: ROWS };
    this.#off = off;
    this.#size = size;
    this.#budget = budget;
    this.#clock = realtimeOffset();
    this.maps = {
      samples: BpfMap.create({
        type: MapType.ringbuf,
        name: 'samples',
        keySize: 0,
        valueSize: 0,
        maxEntries: ringBytes,
      }),
      sampling: BpfMap.create({
        ...array,
        type: MapType.array,
        name: 'sampling',
        valueSize: SlSampling.size,
        flags: BPF_F_MMAPABLE,
      }),
      samplers: BpfMap.create({
        ...array,
        type: MapType.percpuArray,
        name: 'samplers',
        valueSize: SlSampler.size,
      }),
    };
    const sample: GateSample = {
      ts: 0,
      length: 0,
      captured: 0,
      ifindex: 0,
      every: 1,
      verdict: 'aborted',
      rule: undefined,
      memory: new Uint8Array(0),
      offset: 0,
    };
    this.#ring = new RingBuffer(
      this.maps.samples,
      (view, at, length) => {
        if (length < SlGateSample.size) return;
        if (sample.memory.buffer !== view.buffer)
          sample.memory = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
        const ns = view.getUint32(at + H.time, true) + view.getUint32(at + H.time + 4, true) * 2 ** 32;
        sample.ts = ns / 1e9 + this.#clock;
        sample.length = view.getUint32(at + H.frame_len, true);
        sample.captured = Math.min(view.getUint32(at + H.captured, true), length - SlGateSample.size);
        sample.ifindex = view.getUint32(at + H.ifindex, true);
        sample.every = view.getUint32(at + H.every, true) * (this.#share.get(sample.ifindex % ROWS) ?? 1);
        sample.verdict = VERDICTS[view.getUint32(at + H.verdict, true)] ?? 'aborted';
        const ruled = sample.verdict === 'ruleDropped' || sample.verdict === 'rateLimited';
        sample.rule = ruled ? view.getUint32(at + H.rule, true) : undefined;
        sample.offset = at + SlGateSample.size;
        told(sample);
      },
      { keepAlive: false },
    );
    for (const ifindex of ifindices) this.setEvery(ifindex, options.every);
  }

  /** Takes one packet in so many of an interface from now on; 0: none. */
  setEvery(ifindex: number, every: number): void {
    const row = ifindex % ROWS;
    const most =
      this.#budget === undefined ? 0xffffffff : Math.max(1, Math.ceil((2 * this.#budget) / TICKS_PER_SECOND));
    this.#every.set(row, every);
    this.maps.sampling.set(key(row), new Uint8Array(Uint32Array.of(every, this.#size, most, 0).buffer));
  }

  /** One packet in so many of this interface. */
  every(ifindex: number): number {
    return this.#every.get(ifindex % ROWS) ?? 0;
  }

  /** To be called some ten times a second: hands over what has come, and keeps to the budget. */
  poll(): void {
    this.#clock = realtimeOffset();
    for (const row of this.#every.keys()) this.#share.set(row, this.#standFor(row));
    this.#ring.poll();
    const now = performance.now();
    const seconds = (now - this.#looked) / 1000;
    if (this.#budget === undefined || seconds < 0.05) return;
    this.#looked = now;
    let rate = 0;
    for (const [row, every] of this.#every) {
      const { taken, lost, over } = this.#row(row);
      const due = taken + lost + over;
      const fresh = due - (this.#seen.get(row) ?? 0);
      this.#seen.set(row, due);
      rate += (fresh * Math.max(1, every)) / seconds;
    }
    const wanted = Math.min(MOST_EVERY, Math.max(1, Math.ceil(rate / this.#budget)));
    for (const [row, every] of this.#every) {
      // More at once, less often step by step: traffic that pauses comes back.
      const next = wanted > every ? wanted : Math.max(wanted, Math.floor(every * 0.8));
      if (every > 0 && next !== every) this.setEvery(row, next);
    }
  }

  /** How many samples were due for each that is in the ring now. */
  #standFor(row: number): number {
    const now = this.#row(row);
    const { taken, lost, over } = this.#read.get(row) ?? NO_SAMPLES;
    this.#read.set(row, now);
    const fresh = now.taken - taken;
    return fresh <= 0 ? 1 : (fresh + now.lost - lost + now.over - over) / fresh;
  }

  #row(row: number): SampleCounts {
    const values = new Uint8Array(this.maps.samplers.valueBytes);
    const counts: SampleCounts = { ...NO_SAMPLES };
    if (!this.maps.samplers.get(key(row), values)) return counts;
    const view = new DataView(values.buffer);
    const stride = values.length / possibleCpus();
    for (let cpu = 0; cpu < possibleCpus(); cpu++) {
      const u64 = (at: number): number =>
        view.getUint32(cpu * stride + at, true) + view.getUint32(cpu * stride + at + 4, true) * 2 ** 32;
      counts.taken += u64(S.taken);
      counts.lost += u64(S.lost);
      counts.over += u64(S.over);
      counts.takenBytes += u64(S.taken_bytes);
      counts.missedBytes += u64(S.missed_bytes);
    }
    return counts;
  }

  /** Since it began, of all interfaces. */
  counts(): SampleCounts {
    const all: SampleCounts = { ...NO_SAMPLES };
    for (let row = 0; row < ROWS; row++) {
      const one = this.#row(row);
      all.taken += one.taken;
      all.lost += one.lost;
      all.over += one.over;
      all.takenBytes += one.takenBytes;
      all.missedBytes += one.missedBytes;
    }
    return all;
  }

  /** Ends it: the gate is as it was. */
  close(): void {
    this.#off();
    this.#ring.close();
    for (const map of Object.values(this.maps)) map.close();
  }
}
