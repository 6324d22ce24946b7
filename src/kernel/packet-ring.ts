import { addon } from './addon.ts';
import { attempt, check, closedError } from './errors.ts';
import { interfaceInfo } from './interfaces.ts';
import { KernelMemory, PAGE } from './memory.ts';
import { Watch } from './watch.ts';

export interface PacketRingOptions {
  /** Name or index; 0 listens on every interface of the namespace. */
  interface: string | number;
  /** Bytes, a multiple of the page size; default 1 MiB. No frame may be longer than a block. */
  blockSize?: number;
  /** Default 64. */
  blocks?: number;
  /** Milliseconds after which a block that is not full is handed over; default 20. */
  retireMs?: number;
  /** Default true. */
  promiscuous?: boolean;
  /** Leave out what this host sends; default true, as an XDP gate does not see it either. */
  ignoreOutgoing?: boolean;
  /** Share the interface's packets with the other rings of this id. */
  fanout?: { id: number; mode: number };
  /** Bytes of each frame to keep; default all. Not together with `filter`, whose return value says it. */
  snaplen?: number;
  /** Classic BPF, 8 bytes an instruction; its return value is the captured length, 0 leaves the frame out. */
  filter?: Uint8Array;
}

export interface PacketRingStats {
  /** Frames that passed the filter, dropped ones included. */
  packets: number;
  /** Frames for which the ring had no room. */
  drops: number;
  /** How often the ring was full. */
  freezes: number;
}

/** Smallest slot that the kernel accepts is irrelevant to version 3, whose frames have the length they need. */
const FRAME_SIZE = 2048;

/**
 * An AF_PACKET TPACKET_V3 receive ring. `memory` is shared with the kernel: walk its blocks by the offsets in
 * `TPacket3`, and hand a block back by storing 0 to its status with Atomics.
 */
export class PacketRing {
  readonly blockSize: number;
  readonly blockCount: number;
  readonly ifindex: number;
  #fd: number;
  readonly #memory: KernelMemory;
  #watch: Watch | undefined;
  readonly #raw = new Uint32Array(3);
  readonly #rawBytes = new Uint8Array(this.#raw.buffer);
  readonly #stats: PacketRingStats = { packets: 0, drops: 0, freezes: 0 };

  constructor(options: PacketRingOptions) {
    const {
      blockSize = 1 << 20,
      blocks = 64,
      retireMs = 20,
      promiscuous = true,
      ignoreOutgoing = true,
    } = options;
    if (blockSize % PAGE !== 0 || blockSize <= 0 || blocks <= 0 || blockSize * blocks >= 2 ** 32) {
      throw new RangeError(`a ring of ${blocks} blocks of ${blockSize} bytes`);
    }
    const filter = options.filter ?? (options.snaplen === undefined ? undefined : acceptAll(options.snaplen));
    if (
      filter !== undefined &&
      (filter.length === 0 || filter.length % 8 !== 0 || filter.length > 4096 * 8)
    ) {
      throw new RangeError('a filter has 1 to 4096 instructions of 8 bytes');
    }
    const where = options.interface;
    this.ifindex = typeof where === 'number' ? where : interfaceInfo(where).index;
    const fanout =
      options.fanout === undefined ? -1 : (options.fanout.id & 0xffff) | (options.fanout.mode << 16);
    this.blockSize = blockSize;
    this.blockCount = blocks;
    const fd = attempt('ring.open', `open a packet ring on interface ${where}`, () =>
      addon().packetRing(
        this.ifindex,
        blockSize,
        blocks,
        FRAME_SIZE,
        retireMs,
        promiscuous,
        ignoreOutgoing,
        filter,
        fanout,
      ),
    );
    try {
      this.#memory = attempt(
        'ring.open',
        'map the packet ring',
        () => new KernelMemory(fd, blockSize * blocks, 0, true),
      );
    } catch (error) {
      addon().closeFd(fd);
      throw error;
    }
    this.#fd = fd;
  }

  get fd(): number {
    if (this.#fd < 0) throw closedError('the packet ring');
    return this.#fd;
  }

  get closed(): boolean {
    return this.#fd < 0;
  }

  /** `blockCount` blocks of `blockSize` bytes; detached on close. */
  get memory(): ArrayBuffer {
    return this.#memory.buffer;
  }

  /**
   * Calls back whenever a block is ready. `error` is 0, or a negative errno such as ENETDOWN when the interface went
   * down or away; the ring goes on if it comes back.
   */
  onReadable(ready: (error: number) => void): void {
    this.#watch?.stop();
    this.#watch = new Watch(this.fd, ready);
  }

  /** Totals since the ring was opened. */
  stats(): PacketRingStats {
    if (this.#fd >= 0) {
      check('ring.stats', addon().packetStats(this.#fd, this.#rawBytes), () => 'read the packet statistics');
      const [packets = 0, drops = 0, freezes = 0] = this.#raw;
      this.#stats.packets += packets;
      this.#stats.drops += drops;
      this.#stats.freezes += freezes;
    }
    return { ...this.#stats };
  }

  /**
   * From now on this program (ProgramType.socketFilter) says what the ring takes, in place of the filter before: it returns
   * how many bytes of a frame to keep, 0 for none. It stays attached for as long as the ring is open.
   */
  filterBy(program: { readonly fd: number }): void {
    const result = addon().attachSocketFilter(this.fd, program.fd);
    check('ring.filter', result, () => 'attach a filter to the packet ring');
  }

  /**
   * Takes no more frames, and counts none. Those that the kernel is filling a block with are handed over when the block
   * is due: everything has been when `stats` says as many packets, less the drops, as were read.
   */
  stopReceiving(): void {
    check('ring.stop', addon().packetStop(this.fd), () => 'stop the packet ring');
  }

  /** Reads the statistics a last time and gives everything back. */
  close(): void {
    if (this.#fd < 0) return;
    try {
      this.stats();
    } finally {
      this.#watch?.stop();
      addon().closeFd(this.#fd);
      this.#fd = -1;
      this.#memory.release();
    }
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Opens a packet ring; see PacketRing. */
export function openPacketRing(options: PacketRingOptions): PacketRing {
  return new PacketRing(options);
}

/** `ret #snaplen`. */
function acceptAll(snaplen: number): Uint8Array {
  const code = new Uint8Array(8);
  const view = new DataView(code.buffer);
  view.setUint16(0, 0x06, true);
  view.setUint32(4, snaplen, true);
  return code;
}
