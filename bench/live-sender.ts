/** Sends a mix again and again at set rates, each time as other connections; bpf/bench_send.bpf.c does it in the kernel. */
import { bpfObjectPath } from '../src/gate/index.ts';
import { type BpfObject, KernelError, loadObject, monotonicNs } from '../src/kernel/index.ts';
import type { Mix } from './tls-mix.ts';

/** A header of IPv4; and so long each frame begins. */
const SHORTEST = 34;
const LONGEST = 1514;
/** Frames of one batch: more at once would fill the 256 places of a veth. */
const BATCH = 32;
/** Nanoseconds of a delay that are caught up with, for the same reason. */
const CATCH_UP = 100_000n;
/** Of struct order. */
const AT = { due: 0, gap: 8, catchUp: 16, sent: 24, ifindex: 32, packets: 36, streams: 40, stream: 44 };
/** Of struct place. */
const PLACE = { next: 0, turn: 4 };

/** How far a stream of a receiver has got: the next frame of the mix, and the turn whose addresses it has. */
export interface Place {
  next: number;
  turn: number;
}

/** Streams at the most. */
export const STREAMS = 16;

export class LiveSender {
  readonly #object: BpfObject;
  readonly #order: DataView;
  readonly #places: DataView;
  readonly #placeBytes: number;
  readonly packets: number;
  readonly #data = new Uint8Array(LONGEST);

  constructor({ frames, offsets, packets }: Mix) {
    this.#object = loadObject(bpfObjectPath('bench_send'), { mapSizes: { frames: packets } });
    this.packets = packets;
    const map = this.#object.map('frames');
    const memory = map.mmap(true);
    const [bytes, view] = [new Uint8Array(memory), new DataView(memory)];
    for (let i = 0; i < packets; i++) {
      const frame = frames.subarray(offsets[i], offsets[i + 1]);
      if (frame.length < SHORTEST || frame.length > LONGEST) throw new RangeError('no frame of IPv4');
      view.setUint32(i * map.mappedStride, frame.length, true);
      bytes.set(frame, i * map.mappedStride + 4);
    }
    this.#order = new DataView(this.#object.map('orders').mmap(true));
    const places = this.#object.map('places');
    this.#places = new DataView(places.mmap(true));
    this.#placeBytes = places.mappedStride;
  }

  /**
   * Sends `count` frames at this interface, `rate` a second or as fast as it goes, of one stream after the other, from places that
   * move on; blocks meanwhile.
   */
  send(ifindex: number, streams: readonly Place[], count: number, rate: number): void {
    const order = this.#order;
    const places = this.#places;
    order.setBigUint64(AT.due, monotonicNs(), true);
    order.setBigUint64(AT.gap, BigInt(Math.round(1e9 / rate)), true);
    order.setBigUint64(AT.catchUp, CATCH_UP, true);
    order.setBigUint64(AT.sent, 0n, true);
    order.setUint32(AT.ifindex, ifindex, true);
    order.setUint32(AT.packets, this.packets, true);
    order.setUint32(AT.streams, streams.length, true);
    order.setUint32(AT.stream, 0, true);
    for (const [i, { next, turn }] of streams.entries()) {
      places.setUint32(i * this.#placeBytes + PLACE.next, next, true);
      places.setUint32(i * this.#placeBytes + PLACE.turn, turn, true);
    }
    const left = (): number => count - Number(order.getBigUint64(AT.sent, true));
    for (let now = left(); now > 0; now = left()) this.#run(now);
    for (const [i, place] of streams.entries()) {
      place.next = places.getUint32(i * this.#placeBytes + PLACE.next, true);
      place.turn = places.getUint32(i * this.#placeBytes + PLACE.turn, true);
    }
  }

  /** A signal, as of a child that has ended, makes it end early. */
  #run(count: number): void {
    try {
      this.#object.program('bench_send').testRun({ data: this.#data, repeat: count, live: { batch: BATCH } });
    } catch (error) {
      if (!(error instanceof KernelError && error.errnoName === 'EINTR')) throw error;
    }
  }

  close(): void {
    this.#object.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
