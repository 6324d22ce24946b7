import { SluiceError } from '../base/errors.ts';
import { addon } from './addon.ts';
import { attempt, check, closedError, KernelError } from './errors.ts';
import { KernelMemory } from './memory.ts';
import { Watch } from './watch.ts';

export interface XdpSocketOptions {
  /** Index of the interface. */
  ifindex: number;
  /** Receive queue, from 0. */
  queue: number;
  /** Bytes for frames. */
  bytes: number;
  /** Zero copy where the driver has it (`auto`), never (`copy`), or nothing else (`zerocopy`). */
  mode?: 'auto' | 'copy' | 'zerocopy';
  /** Frames that are longer than a chunk come in several pieces; default where the kernel can (Linux 6.6). */
  multiBuffer?: boolean;
  /** MTU of the interface, if it is known: a driver that has zero copy only for whole frames then does it for short ones. */
  mtu?: number;
}

export interface XdpSocketStats {
  /** Frames for which there was no free chunk, or that were too long. */
  dropped: number;
  /** Frames for which the receive ring had no room. */
  ringFull: number;
  /** How often the kernel looked for a free chunk and found none. */
  fillEmpty: number;
}

/**
 * One ring in memory that is shared with the kernel: places are indices into `words`. Entries are numbered without end, modulo
 * 2^32; entry n lies at `first + (n & mask) * entryWords`.
 */
export interface XdpRing {
  readonly words: Int32Array;
  readonly producer: number;
  readonly consumer: number;
  readonly flags: number;
  readonly first: number;
  readonly mask: number;
}

// linux/if_xdp.h.
const XDP_COPY = 1 << 1;
const XDP_ZEROCOPY = 1 << 2;
const XDP_USE_NEED_WAKEUP = 1 << 3;
const XDP_USE_SG = 1 << 4;
const OPTIONS_ZEROCOPY = 1;
const RING_NEED_WAKEUP = 1;
const PGOFF_RX = 0;
const PGOFF_FILL = 0x1_0000_0000;
/** struct xdp_mmap_offsets: four of {producer, consumer, desc, flags}, 64 bits each, for rx, tx, fill and completion. */
const OFFSETS = 128;
const FILL_OFFSETS = 64;
/** A descriptor of the receive ring has 16 bytes: address (64 bits), length, options; one of the fill ring is an address. */
const RX_ENTRY = 16;
const FILL_ENTRY = 8;
/** Words of an entry. */
export const RX_WORDS = RX_ENTRY / 4;
export const FILL_WORDS = FILL_ENTRY / 4;
/** Of a descriptor's options: the frame goes on in the next one. */
export const PACKET_CONTINUES = 1;
const SMALL_CHUNK = 2048;
const LARGE_CHUNK = 4096;
/** Of a chunk, before the frame; and the longest header of a frame whose payload is the MTU (Ethernet, two tags). */
const HEADROOM = 256;
const LINK_HEADER = 22;
const EINVAL = 22;
const EOPNOTSUPP = 95;

/**
 * An AF_XDP socket for receiving, bound to one queue. What an XDP program redirects to it lies in `memory`; walk `rx` from
 * consumer to producer, and give chunks back through `fill`, whose entries all chunks are in at the start.
 */
export class XdpSocket {
  readonly ifindex: number;
  readonly queue: number;
  readonly zeroCopy: boolean;
  /** Frames may come in several pieces. */
  readonly multiBuffer: boolean;
  readonly chunk: number;
  /** Chunks in `memory`; each has 256 bytes of headroom before the frame. */
  readonly chunks: number;
  readonly rx: XdpRing;
  readonly fill: XdpRing;
  readonly #memory: KernelMemory;
  readonly #rings: KernelMemory[] = [];
  readonly #raw = new BigUint64Array(6);
  readonly #rawBytes = new Uint8Array(this.#raw.buffer);
  #fd: number;
  #watch: Watch | undefined;
  #stats: XdpSocketStats = { dropped: 0, ringFull: 0, fillEmpty: 0 };

  private constructor(options: XdpSocketOptions, small: boolean) {
    const { ifindex, queue, bytes } = options;
    this.ifindex = ifindex;
    this.queue = queue;
    this.chunk = small ? SMALL_CHUNK : LARGE_CHUNK;
    this.chunks = Math.floor(bytes / LARGE_CHUNK) * (LARGE_CHUNK / this.chunk);
    if (this.chunks < 1 || this.chunks * this.chunk >= 2 ** 32)
      throw new RangeError(`${bytes} bytes for frames`);
    const what = `open an AF_XDP socket on queue ${queue} of interface ${ifindex}`;
    const size = this.chunks * this.chunk;
    this.#memory = attempt('xsk.open', what, () => new KernelMemory(-1, size, 0, true));
    this.#fd = -1;
    try {
      const entries = 2 ** Math.ceil(Math.log2(this.chunks));
      const offsets = new Uint8Array(OFFSETS);
      this.#fd = attempt('xsk.open', what, () =>
        addon().xskOpen(new Uint8Array(this.#memory.buffer), this.chunk, entries, entries, offsets),
      );
      const view = new DataView(offsets.buffer);
      this.rx = this.#ring(view, 0, PGOFF_RX, entries, RX_ENTRY);
      this.fill = this.#ring(view, FILL_OFFSETS, PGOFF_FILL, entries, FILL_ENTRY);
      for (let n = 0; n < this.chunks; n++)
        this.fill.words[this.fill.first + n * FILL_WORDS] = n * this.chunk;
      Atomics.store(this.fill.words, this.fill.producer, this.chunks);
      const flags = this.#bind(options, small, what);
      this.multiBuffer = (flags & XDP_USE_SG) !== 0;
      this.zeroCopy = (check('xsk.open', addon().xskOptions(this.#fd), () => what) & OPTIONS_ZEROCOPY) !== 0;
    } catch (error) {
      this.#release();
      throw error;
    }
  }

  /** @throws SluiceError KERNEL_FEATURE, INTERFACE_BUSY when the queue has one already, PRIVILEGE */
  static open(options: XdpSocketOptions): XdpSocket {
    const { multiBuffer } = options;
    if (multiBuffer !== undefined) return new XdpSocket(options, multiBuffer);
    try {
      return new XdpSocket(options, true);
    } catch (error) {
      // Before Linux 6.6 an unknown flag; what is wrong for another reason is wrong again.
      if (!(error instanceof KernelError) || error.errno !== EINVAL) throw error;
      return new XdpSocket(options, false);
    }
  }

  /** The best that the driver can; what it answers to the last is thrown. */
  #bind({ mode = 'auto', mtu }: XdpSocketOptions, small: boolean, what: string): number {
    const pieces = small ? XDP_USE_SG : 0;
    const whole = mtu !== undefined && mtu + LINK_HEADER <= this.chunk - HEADROOM;
    const ways = [
      ...(mode === 'copy' ? [] : [XDP_ZEROCOPY | pieces]),
      ...(mode === 'copy' || !whole || !small ? [] : [XDP_ZEROCOPY]),
      ...(mode === 'zerocopy' ? [] : [XDP_COPY | pieces]),
    ];
    let result = 0;
    for (const way of ways) {
      result = addon().xskBind(this.#fd, this.ifindex, this.queue, way | XDP_USE_NEED_WAKEUP);
      if (result === 0) return way;
      if (result !== -EINVAL && result !== -EOPNOTSUPP) break;
    }
    return check('xsk.open', result, () => what);
  }

  #ring(offsets: DataView, at: number, pgoff: number, entries: number, entryBytes: number): XdpRing {
    const word = (index: number): number => Number(offsets.getBigUint64(at + index * 8, true)) / 4;
    const first = word(2);
    const fd = this.#fd;
    const memory = attempt(
      'xsk.open',
      'map a ring of an AF_XDP socket',
      () => new KernelMemory(fd, first * 4 + entries * entryBytes, pgoff, true),
    );
    this.#rings.push(memory);
    return {
      words: new Int32Array(memory.buffer),
      producer: word(0),
      consumer: word(1),
      flags: word(3),
      first,
      mask: entries - 1,
    };
  }

  get fd(): number {
    if (this.#fd < 0) throw closedError('the AF_XDP socket');
    return this.#fd;
  }

  /** Where frames lie; detached on close. */
  get memory(): ArrayBuffer {
    return this.#memory.buffer;
  }

  /** Calls back whenever there are frames; `error` is 0 or a negative errno. */
  onReadable(ready: (error: number) => void): void {
    this.pause();
    this.#watch = new Watch(this.fd, ready);
  }

  /** Calls back no more. */
  pause(): void {
    this.#watch?.stop();
    this.#watch = undefined;
  }

  /** To be called after chunks have been given back: a driver may wait for them. */
  wake(): void {
    const { words, flags } = this.fill;
    if ((Atomics.load(words, flags) & RING_NEED_WAKEUP) !== 0) addon().xskWake(this.fd);
  }

  /** Totals since the socket was opened. */
  stats(): XdpSocketStats {
    if (this.#fd >= 0) {
      const result = addon().xskStats(this.#fd, this.#rawBytes);
      check('ring.stats', result, () => 'read the statistics of an AF_XDP socket');
      const [dropped = 0n, , , ringFull = 0n, fillEmpty = 0n] = this.#raw;
      this.#stats = { dropped: Number(dropped), ringFull: Number(ringFull), fillEmpty: Number(fillEmpty) };
    }
    return { ...this.#stats };
  }

  /** Reads the statistics a last time and gives everything back. */
  close(): void {
    if (this.#fd < 0) return;
    try {
      this.stats();
    } finally {
      this.#release();
    }
  }

  #release(): void {
    this.pause();
    if (this.#fd >= 0) addon().closeFd(this.#fd);
    this.#fd = -1;
    for (const ring of this.#rings) ring.release();
    this.#memory.release();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Keeps an interface in promiscuous mode while it is open, and hears when it goes down. */
export class Promiscuity {
  #fd: number;
  #watch: Watch | undefined;

  constructor(ifindex: number) {
    this.#fd = attempt('ring.open', `make interface ${ifindex} promiscuous`, () =>
      addon().promiscuous(ifindex),
    );
  }

  /** `error` is a negative errno: ENETDOWN when the interface went down or away. */
  onError(call: (error: number) => void): void {
    if (this.#fd < 0) throw new SluiceError('CLOSED', 'promiscuous mode has been given up');
    this.#watch?.stop();
    this.#watch = new Watch(this.#fd, (error) => {
      if (error !== 0) call(error);
    });
  }

  close(): void {
    if (this.#fd < 0) return;
    this.#watch?.stop();
    addon().closeFd(this.#fd);
    this.#fd = -1;
  }
}
