import { addon } from './addon.ts';
import { attempt, check, closedError, KernelError } from './errors.ts';
import { Watch } from './watch.ts';

/** How datagrams are taken off the socket. */
export type UdpImplementation = 'recvmmsg' | 'io_uring';

export interface UdpOptions {
  /** IPv4 or IPv6, numeric; `::` takes IPv4 as well. */
  address: string;
  /** 0: any that is free. */
  port: number;
  /** Share the port with other sockets of this user that ask for it too. */
  reusePort?: boolean;
  /** Bytes of datagrams that the socket shall hold while nobody reads; default 16 MiB. The kernel may grant less. */
  bufferBytes?: number;
  /** Default recvmmsg. */
  implementation?: UdpImplementation;
  /** Datagrams taken at a time, a power of two; default 256. io_uring has four times as many to be filled ahead. */
  slots?: number;
  /** Bytes of a datagram that are kept; default and at most 65,536: all. */
  slotBytes?: number;
}

/** The arena's head: eight doubles of state, two columns of doubles and four of words (native/receiver.h). */
const STATE_DOUBLES = 8;
const NOW = 0;
const OFFSET = 1;
const EMPTY = 2;
/** Indices of SO_MEMINFO's words, and the port behind them (native/udp.cc). */
const MEMINFO_RMEM = 0;
const MEMINFO_RCVBUF = 1;
const MEMINFO_DROPS = 8;
const PORT = 9;
const RING_AHEAD = 4;
/** Between two looks at a socket that datagrams come to: into a large buffer, and into a small one. */
const QUIET_MS = 2;
const QUIET_SMALL_MS = 1;
const LARGE_BUFFER = 4 << 20;

const DEFAULT_BUFFER = 16 << 20;
const DEFAULT_SLOTS = 256;
const DEFAULT_SLOT_BYTES = 1 << 16;

/**
 * A UDP socket that is read in batches: `receive` fills the columns from row 0 on, and what it shows is valid until the next
 * call. Wants no privilege. Errors: ADDRESS_UNKNOWN, ADDRESS_IN_USE, KERNEL_FEATURE (no io_uring), PRIVILEGE (ports below 1024).
 */
export class UdpReceiver {
  /** Bytes that the socket holds at most, as asked for in `bufferBytes`; the kernel counts its own overhead twice. */
  readonly bufferBytes: number;
  readonly port: number;
  readonly implementation: UdpImplementation;
  /** Where the columns and the datagrams are; detached on close. */
  readonly memory: ArrayBuffer;
  /** Where each datagram begins in `memory`. */
  readonly offsets: Uint32Array;
  /** Bytes of it that are there. */
  readonly captured: Uint32Array;
  /** Bytes of it that were sent: more than `captured` when it was cut. */
  readonly lengths: Uint32Array;
  /** Datagrams that the socket had dropped when this one came (SO_RXQ_OVFL), modulo 2^32. */
  readonly dropped: Uint32Array;
  /** When the kernel got it (SO_TIMESTAMPNS): seconds since the epoch. */
  readonly times: Float64Array;
  /** The same in nanoseconds since the receiver was opened, by CLOCK_REALTIME. */
  readonly since: Float64Array;

  #fd: number;
  readonly #id: number;
  readonly #state: Float64Array;
  #watch: Watch | undefined;
  #timer: NodeJS.Timeout | undefined;
  #turn: NodeJS.Immediate | undefined;
  /** Datagrams since the last look. */
  #received = 0;
  readonly #raw = new Uint32Array(PORT + 1);
  readonly #rawBytes = new Uint8Array(this.#raw.buffer);
  #drops = 0;
  #stopped = false;

  constructor(options: UdpOptions) {
    const {
      address,
      port,
      implementation = 'recvmmsg',
      slots = DEFAULT_SLOTS,
      slotBytes = DEFAULT_SLOT_BYTES,
    } = options;
    const ring = implementation === 'io_uring';
    const rows = ring ? slots * RING_AHEAD : slots;
    const fd = attempt('udp.open', `listen on ${address} port ${port} over UDP`, () =>
      addon().udpOpen(address, port, options.reusePort ?? false, options.bufferBytes ?? DEFAULT_BUFFER),
    );
    try {
      this.#fd = fd;
      this.#readState();
      const opened = attempt(ring ? 'udp.ring' : 'udp.open', `receive by ${implementation}`, () =>
        addon().receiverOpen(fd, rows, slotBytes, ring),
      );
      this.#id = opened.id;
      this.memory = opened.memory;
    } catch (error) {
      addon().closeFd(fd);
      throw error;
    }
    this.implementation = implementation;
    this.bufferBytes = this.#raw[MEMINFO_RCVBUF] / 2;
    this.port = this.#raw[PORT];
    const doubles = (index: number) =>
      new Float64Array(this.memory, (STATE_DOUBLES + index * rows) * Float64Array.BYTES_PER_ELEMENT, rows);
    const columns = (STATE_DOUBLES + 2 * rows) * Float64Array.BYTES_PER_ELEMENT;
    const words = (index: number) =>
      new Uint32Array(this.memory, columns + index * rows * Uint32Array.BYTES_PER_ELEMENT, rows);
    this.#state = new Float64Array(this.memory, 0, STATE_DOUBLES);
    this.times = doubles(0);
    this.since = doubles(1);
    this.offsets = words(0);
    this.captured = words(1);
    this.lengths = words(2);
    this.dropped = words(3);
  }

  get fd(): number {
    if (this.#fd < 0) throw closedError('the UDP receiver');
    return this.#fd;
  }

  get closed(): boolean {
    return this.#fd < 0;
  }

  /** Takes what is there, up to a batch. Never waits. Returns how many rows of the columns are filled. */
  receive(): number {
    const rows = addon().receiverRead(this.#id);
    if (rows < 0) throw new KernelError('udp.read', -rows, 'receive datagrams');
    this.#received += rows;
    return rows;
  }

  /** After `receive`: all that had come to the socket when that was called, by `now`, has been shown. */
  get empty(): boolean {
    return this.#state[EMPTY] !== 0;
  }

  /** CLOCK_MONOTONIC in nanoseconds since the receiver was opened, when the clocks were read last: by `receive`, before it read. */
  get now(): number {
    return this.#state[NOW];
  }

  /** How much further CLOCK_REALTIME has gone since then than CLOCK_MONOTONIC; rather too much than too little. */
  get clockOffset(): number {
    return this.#state[OFFSET];
  }

  readClocks(): void {
    check('udp.read', addon().receiverClocks(this.#id), () => 'read the clocks');
  }

  /**
   * Calls back when there is something to receive; `error` is 0, or a negative errno. Not for each datagram: being woken
   * costs more than a datagram does, so while they keep coming this looks every other millisecond instead.
   */
  onReadable(ready: (error: number) => void): void {
    this.#unwatch();
    const quiet = this.bufferBytes >= LARGE_BUFFER ? QUIET_MS : QUIET_SMALL_MS;
    const look = (): void => {
      this.#received = 0;
      ready(0);
      if (this.#watch !== watch) return;
      if (this.#received === 0) watch.resume();
      else if (!this.empty) this.#turn = setImmediate(look);
      else if (this.#timer === undefined) this.#timer = setTimeout(look, quiet);
      else this.#timer.refresh();
    };
    const watch = new Watch(this.fd, (error) => {
      if (error !== 0) {
        ready(error);
        return;
      }
      watch.pause();
      look();
    });
    this.#watch = watch;
  }

  #unwatch(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    clearImmediate(this.#turn);
    this.#watch?.stop();
    this.#watch = undefined;
  }

  /** Datagrams that the socket could not take since it was opened: no room, or a wrong checksum (its drops column). */
  drops(): number {
    if (this.#fd >= 0 && !this.#stopped) {
      this.#readState();
      // The kernel counts in 32 bits.
      this.#drops += (this.#raw[MEMINFO_DROPS] - this.#drops) >>> 0;
    }
    return this.#drops;
  }

  /** Bytes that wait in the socket, with the kernel's overhead. */
  waiting(): number {
    this.#readState();
    return this.#raw[MEMINFO_RMEM];
  }

  /**
   * Chooses the socket of each datagram among those that share the port, instead of the kernel's hash over the outer
   * addresses and ports: classic instructions, run over the payload, which wants no privilege, or a socket filter or
   * sk_reuseport program. It returns an index in the order in which they were opened; one that is not there falls back to the
   * kernel's hash.
   */
  balance(program: Uint8Array | { readonly fd: number }): void {
    const classic = program instanceof Uint8Array;
    const result = classic
      ? addon().udpBalance(this.fd, program, -1)
      : addon().udpBalance(this.fd, undefined, program.fd);
    check('udp.balance', result, () => 'attach a program that balances');
  }

  /** Takes no more datagrams: what comes from now on is neither received nor counted. What is there can still be received. */
  stopReceiving(): void {
    // What the filter leaves out shows in the same column.
    this.drops();
    this.#stopped = true;
    check('udp.open', addon().packetStop(this.fd), () => 'stop the UDP socket');
  }

  /** Reads the drops a last time and gives everything back. */
  close(): void {
    if (this.#fd < 0) return;
    try {
      this.drops();
    } finally {
      this.#unwatch();
      addon().receiverClose(this.#id);
      addon().unmap(this.memory);
      addon().closeFd(this.#fd);
      this.#fd = -1;
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #readState(): void {
    check('udp.read', addon().udpState(this.fd, this.#rawBytes), () => 'read the state of the UDP socket');
  }
}
