import type { SluiceError } from '../base/errors.ts';
import type { UdpReceiver } from '../kernel/index.ts';
import { Decapsulator, type Encapsulation } from '../packet/encap/index.ts';
import { Packet, type PacketSink } from '../packet/packet.ts';
import type { LiveSource, SourceCounts } from './source.ts';

/** What the kernel's own overhead makes of the smallest datagram: more do not wait in a buffer of so many bytes. */
const LEAST_TRUESIZE = 256;

/** What is needed of a UdpReceiver. */
export type DatagramReceiver = Omit<
  UdpReceiver,
  'fd' | 'closed' | 'port' | 'implementation' | 'waiting' | 'balance' | typeof Symbol.dispose
>;

/**
 * Frames out of the datagrams that a mirror sends to a UDP socket. What holds no frame is counted by reason, in
 * `reasons`; `datagrams` = `packets` + those, and what was sent is that and the drops.
 *
 * How far it has come is told in nanoseconds, by the times at which the kernel got the datagrams: a datagram that came after
 * a moment stands behind all that came before it. So the end of a socket that never runs empty is known too. The kernel's
 * times are those of CLOCK_REALTIME, which can be set; they are taken to CLOCK_MONOTONIC by the largest distance that
 * the two had while the datagram may have waited, so that none passes for later than it was. (A clock that is set forward
 * and back again between two looks at it, a tick of the worker at most, is not noticed.)
 */
export class UdpSource implements LiveSource {
  readonly name: string;
  packets = 0;
  bytes = 0;
  readonly problem: SluiceError | undefined = undefined;
  position = -1;
  sequence = -1;
  /** Datagrams received. */
  datagrams = 0;
  /** Bytes in them. */
  datagramBytes = 0;
  /** Of these, datagrams longer than there is room for: what is there is looked at all the same. */
  truncated = 0;

  readonly #receiver: DatagramReceiver;
  readonly #decapsulator: Decapsulator;
  readonly #packet = new Packet();
  readonly #maxWaiting: number;
  /** The largest clock offsets: since the window began, and in the one before. */
  #offset = 0;
  #offsetBefore = 0;
  /** Datagrams since the window began. */
  #window = 0;
  /** The latest moment that somebody waits for. */
  #asked = -1;
  #dropped = 0;
  #freezes = 0;
  #closed = false;

  constructor(receiver: DatagramReceiver, encapsulation: Encapsulation, name: string) {
    this.name = name;
    this.#receiver = receiver;
    this.#decapsulator = new Decapsulator(encapsulation);
    this.#packet.u8 = new Uint8Array(receiver.memory);
    this.#maxWaiting = Math.ceil((2 * receiver.bufferBytes) / LEAST_TRUESIZE);
  }

  /** Datagrams by DecapReason. */
  get reasons(): Float64Array {
    return this.#decapsulator.counts;
  }

  /** Frames, and datagrams that were dropped: whether one of those held a frame is not known. `freezes`: gaps between datagrams. */
  counts(): SourceCounts {
    const drops = this.#receiver.drops();
    return { packets: this.packets + drops, drops, freezes: this.#freezes };
  }

  onReadable(callback: (errno: number) => void): void {
    this.#receiver.onReadable(callback);
  }

  stopReceiving(): void {
    this.#receiver.stopReceiving();
  }

  /** By their places in the queue: the kernel may give times to datagrams only some time after the first socket has asked for them. */
  passOver(): number {
    const before = this.packets;
    this.drain(() => {}, this.#maxWaiting);
    return this.packets - before;
  }

  openBlock(): number {
    return this.#ask();
  }

  received(): number {
    return this.#ask();
  }

  /** Hands out at least `maxPackets` when so many are there: whole batches of the receiver. */
  drain(sink: PacketSink, maxPackets: number): boolean {
    if (this.#closed) return false;
    const receiver = this.#receiver;
    // Datagrams without a frame count as well: a socket full of them must not keep us.
    for (let taken = 0; taken < maxPackets; ) {
      const rows = receiver.receive();
      // Taken before a sink can have the clocks read anew.
      const { now, clockOffset, empty } = receiver;
      if (clockOffset > this.#offset) this.#offset = clockOffset;
      if (rows > 0) {
        this.#batch(rows, sink);
        this.#turnOver(rows, clockOffset);
        this.sequence = Math.max(this.sequence, this.position);
        taken += rows;
      }
      if (empty) {
        this.#emptied(now, clockOffset);
        break;
      }
    }
    return true;
  }

  #batch(rows: number, sink: PacketSink): void {
    const { offsets, captured, lengths, times, since, dropped } = this.#receiver;
    const p = this.#packet;
    const decapsulator = this.#decapsulator;
    const behind = Math.max(this.#offset, this.#offsetBefore);
    for (let i = 0; i < rows; i++) {
      const length = lengths[i];
      p.offset = offsets[i];
      p.caplen = captured[i];
      p.wirelen = length;
      p.ts = times[i];
      this.datagrams++;
      this.datagramBytes += length;
      if (length > p.caplen) this.truncated++;
      if (dropped[i] !== this.#dropped) {
        this.#dropped = dropped[i];
        this.#freezes++;
      }
      const at = since[i] - behind;
      if (at > this.position) this.position = at;
      if (!decapsulator.open(p)) continue;
      this.packets++;
      this.bytes += p.wirelen;
      sink(p);
    }
  }

  /** Whatever waited when the window before this one ended has been handed out when this one ends. */
  #turnOver(rows: number, offset: number): void {
    this.#window += rows;
    if (this.#window < this.#maxWaiting) return;
    this.#offsetBefore = this.#offset;
    this.#offset = offset;
    this.#window = 0;
  }

  /** All that had come by `now` has been handed out. Only told to who waits for it: else each look would be a step forward. */
  #emptied(now: number, offset: number): void {
    this.#offset = offset;
    this.#offsetBefore = offset;
    this.#window = 0;
    if (this.#asked < this.sequence) return;
    if (now > this.position) this.position = now;
    this.sequence = Math.max(this.sequence, this.position);
  }

  #ask(): number {
    const receiver = this.#receiver;
    receiver.readClocks();
    if (receiver.clockOffset > this.#offset) this.#offset = receiver.clockOffset;
    // Later than a datagram that came in this very nanosecond.
    this.#asked = receiver.now + 1;
    return this.#asked;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#receiver.close();
  }
}
