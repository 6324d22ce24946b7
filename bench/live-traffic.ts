/** Two kinds of packets over a virtual cable at set rates, each with its number: who arrives at the other end, and who does not. */
import { AfPacketSource } from '../src/capture/afpacket.ts';
import { KernelError, openPacketRing, PacketSender } from '../src/kernel/index.ts';
import type { Packet } from '../src/packet/packet.ts';

const TICK_MS = 5;
/** What was not sent in time is sent later up to so many seconds of it; the rest is left out. */
const LATE = 0.05;
/** Frames in one go: few enough that the queue of a virtual interface holds them. */
const BURST = 64;
const LONGEST = 1514;
/** Ethernet addresses tell the frames apart, of which no rule knows: the number, and whose they are. */
const NUMBER_AT = 2;
const STREAM_AT = 11;
const KEPT_BYTES = 64;

/** The packets of one kind: how many were sent, and which of them have arrived. */
export class Stream {
  readonly id: number;
  readonly pps: number;
  readonly #next: () => Uint8Array;
  readonly #arrived: Uint8Array;
  /** Seconds (performance.now()) at which each was sent. */
  readonly #sentAt: Float64Array;
  sent = 0;
  received = 0;
  #due = 0;

  /** At most so many packets. */
  constructor(id: number, pps: number, most: number, next: () => Uint8Array) {
    this.id = id;
    this.pps = pps;
    this.#next = next;
    this.#arrived = new Uint8Array(most);
    this.#sentAt = new Float64Array(most);
  }

  /** Packets that are to be sent now. */
  due(seconds: number): number {
    this.#due = Math.min(this.#due + this.pps * seconds, this.pps * LATE);
    const count = Math.min(Math.floor(this.#due), this.#arrived.length - this.sent);
    this.#due -= count;
    return count;
  }

  /** The next frame with its number, into `frames` from `at`; how many bytes it has. */
  write(frames: Uint8Array, at: number, now: number): number {
    const frame = this.#next();
    frames.set(frame, at);
    new DataView(frames.buffer, frames.byteOffset).setUint32(at + NUMBER_AT, this.sent);
    frames[at + STREAM_AT] = this.id;
    this.#sentAt[this.sent++] = now;
    return frame.length;
  }

  arrived(number: number): void {
    if (number >= this.sent || this.#arrived[number] === 1) return;
    this.#arrived[number] = 1;
    this.received++;
  }

  /** Of the packets with these numbers, how many have not arrived. */
  missing(from: number, to = this.sent): number {
    let count = 0;
    for (let i = from; i < to; i++) count += 1 - this.#arrived[i];
    return count;
  }

  /** The first one that has not arrived; undefined: all have. */
  get firstMissing(): number | undefined {
    const at = this.#arrived.subarray(0, this.sent).indexOf(0);
    return at < 0 ? undefined : at;
  }

  /** Seconds from the first packet to this one. */
  after(number: number): number {
    return this.#sentAt[number] - this.#sentAt[0];
  }
}

/** Sends streams from `far` to `near`, the ends of a cable in this thread's network namespace, until it is closed. */
export class LiveTraffic {
  readonly #sender: PacketSender;
  readonly #source: AfPacketSource;
  readonly #timer: NodeJS.Timeout;
  readonly #frames = new Uint8Array(BURST * LONGEST);
  readonly #offsets = new Uint32Array(BURST + 1);
  readonly #streams = new Map<number, Stream>();
  readonly #sending = new Set<Stream>();
  #last = performance.now();

  constructor(ends: { readonly near: string; readonly far: string }) {
    this.#sender = new PacketSender(ends.far);
    const ring = openPacketRing({
      interface: ends.near,
      blockSize: 1 << 18,
      retireMs: TICK_MS,
      snaplen: KEPT_BYTES,
    });
    this.#source = new AfPacketSource(ring, ends.near);
    this.#timer = setInterval(() => this.#turn(), TICK_MS);
  }

  begin(stream: Stream): void {
    this.#streams.set(stream.id, stream);
    this.#sending.add(stream);
  }

  /** What of it is on its way may still arrive. */
  end(stream: Stream): void {
    this.#sending.delete(stream);
  }

  #turn(): void {
    const now = performance.now();
    const seconds = (now - this.#last) / 1000;
    this.#last = now;
    for (const stream of this.#sending)
      for (let left = stream.due(seconds); left > 0; left -= BURST)
        this.#burst(stream, Math.min(left, BURST), now / 1000);
    this.#source.drain(this.#take, Number.MAX_SAFE_INTEGER);
  }

  #burst(stream: Stream, count: number, now: number): void {
    const offsets = this.#offsets;
    for (let i = 0; i < count; i++) offsets[i + 1] = offsets[i] + stream.write(this.#frames, offsets[i], now);
    for (let first = 0; first < count; ) {
      try {
        const sent = this.#sender.send(this.#frames, offsets, first, count - first);
        // One that does not go is one that does not arrive.
        first += Math.max(1, sent);
      } catch (error) {
        if (!(error instanceof KernelError) || error.errnoName !== 'ENOBUFS') throw error;
        first++;
      }
    }
  }

  readonly #take = (packet: Packet): void => {
    const { u8, offset } = packet;
    if (packet.caplen < STREAM_AT + 1) return;
    const at = offset + NUMBER_AT;
    const number = ((u8[at] << 24) | (u8[at + 1] << 16) | (u8[at + 2] << 8) | u8[at + 3]) >>> 0;
    this.#streams.get(u8[offset + STREAM_AT])?.arrived(number);
  };

  close(): void {
    clearInterval(this.#timer);
    this.#sender.close();
    this.#source.close();
  }
}
