import type { SluiceError } from '../base/errors.ts';
import {
  type BpfMap,
  FILL_WORDS,
  monotonic,
  PACKET_CONTINUES,
  type Promiscuity,
  RX_WORDS,
  realtimeOffset,
  type XdpSocket,
} from '../kernel/index.ts';
import { Checksum, Packet, type PacketSink } from '../packet/packet.ts';
import type { LiveSource, SourceCounts } from './source.ts';
import { SlXskNote } from './xsk-layout.gen.ts';

/** Frames after which their chunks are given back, at the latest. */
const PIECE = 256;
/** Pieces of one frame are put together here. */
const LONGEST = 1 << 18;
/** Milliseconds between two looks while frames come; while a sixteenth of the chunks fills from one look to the next. */
const LOOK_MS = 5;
const BUSY_LOOK_MS = 1;
const BUSY_SHARE = 16;
/** Looks without a frame, after which the socket itself is to say that there is one. */
const IDLE_LOOKS = 4;
/** The offset between the clocks moves only when somebody sets one: less than this is what reading it costs. */
const OFFSET_JITTER = 1e-5;

const { sec: SEC, nsec: NSEC, vlan_tci: TCI, flags: FLAGS } = SlXskNote.members;
/** enum sl_xsk_flag of bpf/xsk.h. */
const Note = { monotonic: 1, realtime: 2, vlan: 4, notReady: 8, valid: 16 } as const;

/** Places of QueueOrder. */
export const Order = { last: 0, frames: 1, late: 2, seconds: 3 } as const;
/** Of one queue: the latest time so far, its frames, those with an earlier time than one before them, the furthest back. */
export type QueueOrder = Float64Array;

/** One socket's receive ring, and where we are in it. */
class Queue {
  readonly socket: XdpSocket;
  readonly order: QueueOrder = new Float64Array(4);
  readonly memory: Uint8Array;
  readonly words: Int32Array;
  readonly rx: Int32Array;
  readonly fill: Int32Array;
  /** Entries of the receive ring taken out so far, and of the fill ring put in, both modulo 2^32. */
  next = 0;
  free: number;
  /** Up to where frames have been looked at: what has come since is not handed out before all of that. */
  limit = 0;

  constructor(socket: XdpSocket) {
    this.socket = socket;
    this.memory = new Uint8Array(socket.memory);
    this.words = new Int32Array(socket.memory);
    this.rx = socket.rx.words;
    this.fill = socket.fill.words;
    this.free = socket.chunks;
  }

  /** A frame with this time is handed out. */
  note(time: number): void {
    const { order } = this;
    order[Order.frames]++;
    const behind = order[Order.last] - time;
    if (behind > 0) {
      order[Order.late]++;
      if (behind > order[Order.seconds]) order[Order.seconds] = behind;
    } else order[Order.last] = time;
  }

  /** Entries that the kernel has put in so far, modulo 2^32. */
  produced(): number {
    return Atomics.load(this.rx, this.socket.rx.producer);
  }

  /** Place of entry `index` in the receive ring. */
  at(index: number): number {
    const { first, mask } = this.socket.rx;
    return first + (index & mask) * RX_WORDS;
  }

  /** When the next frame came by its note, for comparing with that of another queue; 0 without one. */
  headTime(offset: number): number {
    const note = (this.rx[this.at(this.next)] - SlXskNote.size) >>> 2;
    const flags = this.words[note + (FLAGS >>> 2)];
    if (flags === 0) return 0;
    const time = (this.words[note + (SEC >>> 2)] >>> 0) + this.words[note + (NSEC >>> 2)] * 1e-9;
    return (flags & Note.realtime) !== 0 ? time : time + offset;
  }

  /** Entries that were taken out are the kernel's again, and so are their chunks. */
  release(): void {
    Atomics.store(this.fill, this.socket.fill.producer, this.free);
    Atomics.store(this.rx, this.socket.rx.consumer, this.next);
    this.socket.wake();
  }

  /** Frames that wait, those of several pieces once. */
  waiting(): number {
    const end = this.produced();
    let frames = 0;
    for (let n = this.next; n !== end; n = (n + 1) | 0)
      if ((this.rx[this.at(n) + 3] & PACKET_CONTINUES) === 0) frames++;
    return frames;
  }
}

export interface AfXdpOptions {
  /** The map that the program redirects by, with a place for each queue: the sockets are in it until `stopReceiving`. */
  map: BpfMap;
  promiscuity?: Promiscuity;
  /** Milliseconds that a frame may wait; default 5. */
  lookMs?: number;
}

/**
 * Frames of AF_XDP sockets, one for each queue, without an object, a copy or a call per packet. Those of several queues
 * come in the order of their time stamps, as far as they have arrived. Positions count pieces of frames since the start.
 */
export class AfXdpSource implements LiveSource {
  readonly name: string;
  packets = 0;
  bytes = 0;
  readonly problem: SluiceError | undefined = undefined;
  /** Pieces handed out, up to the last time that their chunks were given back. */
  sequence = 0;
  /** Pieces handed out, those of the present packet among them. */
  position = 0;

  readonly #queues: readonly Queue[];
  readonly #map: BpfMap;
  readonly #promiscuity: Promiscuity | undefined;
  readonly #lookMs: number;
  readonly #packet = new Packet();
  readonly #joined = new Uint8Array(LONGEST);
  /** Pieces that have been looked at, in all. */
  #seen = 0;
  /** Limits of later looks, for each queue. With one queue they are put together. */
  #looks: Int32Array[] = [];
  #offset = realtimeOffset();
  /** Of frames without a note: the time at which this piece of work began. */
  #pieceTime = 0;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** Takes over the sockets, and lets frames come in. */
  constructor(
    sockets: readonly XdpSocket[],
    name: string,
    { map, promiscuity, lookMs = LOOK_MS }: AfXdpOptions,
  ) {
    this.name = name;
    this.#map = map;
    this.#promiscuity = promiscuity;
    this.#lookMs = lookMs;
    this.#queues = sockets.map((socket) => new Queue(socket));
    for (const { queue, fd } of sockets) map.set(word(queue), word(fd));
  }

  /** What there is to know of the order of each queue; they go on being written to. */
  get orders(): { queue: number; order: QueueOrder }[] {
    return this.#queues.map(({ socket, order }) => ({ queue: socket.queue, order }));
  }

  drain(sink: PacketSink, maxPackets: number): boolean {
    if (this.#closed) return false;
    const until = this.packets + Math.max(1, maxPackets);
    while (this.packets < until) {
      if (!this.#pending() && !this.#look()) break;
      this.#piece(sink);
    }
    return true;
  }

  /** Hands out up to PIECE frames of what has been looked at. */
  #piece(sink: PacketSink): void {
    this.#pieceTime = 0;
    const queues = this.#queues;
    const until = this.packets + PIECE;
    if (queues.length === 1) {
      const queue = queues[0];
      while (this.packets < until && queue.next !== queue.limit) this.#show(queue, sink);
    } else {
      for (let queue = this.#earliest(); queue !== undefined; queue = this.#earliest()) {
        this.#show(queue, sink);
        if (this.packets >= until) break;
      }
    }
    for (const queue of queues) queue.release();
    this.sequence = this.position;
  }

  /** The queue whose next frame came first. */
  #earliest(): Queue | undefined {
    let found: Queue | undefined;
    let least = Number.POSITIVE_INFINITY;
    for (const queue of this.#queues) {
      if (queue.next === queue.limit) continue;
      const time = queue.headTime(this.#offset);
      if (time >= least) continue;
      least = time;
      found = queue;
    }
    return found;
  }

  /** Whether there is something left of what has been looked at. */
  #pending(): boolean {
    for (const queue of this.#queues) if (queue.next !== queue.limit) return true;
    const limits = this.#looks.shift();
    if (limits === undefined) return false;
    for (const [i, queue] of this.#queues.entries()) queue.limit = limits[i];
    return true;
  }

  /** Looks at what has come, which is handed out after all that has been looked at before. False when there is nothing. */
  #look(): boolean {
    const queues = this.#queues;
    if (queues.length === 1) {
      const queue = queues[0];
      const end = queue.produced();
      const more = (end - queue.limit) >>> 0;
      queue.limit = end;
      this.#seen += more;
      return more > 0;
    }
    const last = this.#looks.at(-1);
    const limits = new Int32Array(queues.length);
    let more = 0;
    for (const [i, queue] of queues.entries()) {
      limits[i] = queue.produced();
      more += (limits[i] - (last === undefined ? queue.limit : last[i])) >>> 0;
    }
    if (more === 0) return false;
    this.#seen += more;
    this.#looks.push(limits);
    return this.#pending();
  }

  #show(queue: Queue, sink: PacketSink): void {
    const p = this.#packet;
    const { words } = queue;
    const entry = queue.at(queue.next);
    const start = queue.rx[entry] >>> 0;
    const length = queue.rx[entry + 2];
    if ((queue.rx[entry + 3] & PACKET_CONTINUES) === 0) {
      p.u8 = queue.memory;
      p.offset = start;
      p.caplen = length;
      this.#take(queue, start);
    } else this.#join(queue);
    p.wirelen = p.caplen;
    // Frames begin behind 256 bytes of headroom; where a driver puts them elsewhere it has no notes.
    const note = (start - SlXskNote.size) >>> 2;
    const flags = (start & 3) === 0 ? words[note + (FLAGS >>> 2)] : 0;
    if (flags === 0) {
      if (this.#pieceTime === 0) this.#pieceTime = monotonic() + this.#offset;
      p.ts = this.#pieceTime;
      p.vlanTci = -1;
      p.checksum = Checksum.unknown;
    } else {
      const time = (words[note + (SEC >>> 2)] >>> 0) + words[note + (NSEC >>> 2)] * 1e-9;
      p.ts = (flags & Note.realtime) !== 0 ? time : time + this.#offset;
      p.vlanTci = (flags & Note.vlan) !== 0 ? words[note + (TCI >>> 2)] & 0xffff : -1;
      p.checksum =
        (flags & Note.notReady) !== 0
          ? Checksum.notReady
          : (flags & Note.valid) !== 0
            ? Checksum.valid
            : Checksum.unknown;
      // The next frame in this chunk need not have one.
      words[note + (FLAGS >>> 2)] = 0;
    }
    queue.note(p.ts);
    this.packets++;
    this.bytes += p.wirelen;
    sink(p);
  }

  /** Takes the next piece out of the receive ring; its chunk is given back with the others. */
  #take(queue: Queue, chunk: number): void {
    const { first, mask } = queue.socket.fill;
    queue.fill[first + (queue.free & mask) * FILL_WORDS] = chunk;
    queue.free = (queue.free + 1) | 0;
    queue.next = (queue.next + 1) | 0;
    this.position++;
  }

  /** Puts a frame of several pieces together; what is longer than any frame is cut. */
  #join(queue: Queue): void {
    const p = this.#packet;
    let at = 0;
    for (let more = true; more && queue.next !== queue.limit; ) {
      const entry = queue.at(queue.next);
      const start = queue.rx[entry] >>> 0;
      const length = Math.min(queue.rx[entry + 2], LONGEST - at);
      more = (queue.rx[entry + 3] & PACKET_CONTINUES) !== 0;
      this.#joined.set(queue.memory.subarray(start, start + length), at);
      at += length;
      this.#take(queue, start);
    }
    p.u8 = this.#joined;
    p.offset = 0;
    p.caplen = at;
  }

  openBlock(): number {
    this.#look();
    return this.#seen;
  }

  received(): number {
    this.#look();
    return this.#seen;
  }

  counts(): SourceCounts {
    const counts = { packets: this.packets, drops: 0, freezes: 0 };
    for (const queue of this.#queues) {
      // First: what is dropped meanwhile is counted the next time.
      const { dropped, ringFull, fillEmpty } = queue.socket.stats();
      if (!this.#closed) counts.packets += queue.waiting();
      counts.packets += dropped + ringFull;
      counts.drops += dropped + ringFull;
      counts.freezes += fillEmpty;
    }
    return counts;
  }

  /**
   * The first frame wakes; from then on it is looked from time to time, as waking costs more than handling a few frames, until
   * none has come for a while.
   */
  onReadable(callback: (errno: number) => void): void {
    this.#promiscuity?.onError(callback);
    const many = this.#queues.reduce((sum, { socket }) => sum + socket.chunks, 0) / BUSY_SHARE;
    let idle = 0;
    const listen = (): void => {
      for (const { socket } of this.#queues) socket.onReadable(wake);
    };
    const wake = (error: number): void => {
      for (const { socket } of this.#queues) socket.pause();
      this.#readClock();
      callback(error);
      idle = 0;
      this.#later(look, this.#lookMs);
    };
    const look = (): void => {
      const before = this.packets;
      this.#readClock();
      callback(0);
      const found = this.packets - before;
      idle = found === 0 ? idle + 1 : 0;
      if (idle < IDLE_LOOKS) this.#later(look, found > many ? BUSY_LOOK_MS : this.#lookMs);
      else if (!this.#closed) listen();
    };
    listen();
  }

  #later(look: () => void, ms: number): void {
    clearTimeout(this.#timer);
    if (!this.#closed) this.#timer = setTimeout(look, ms);
  }

  #readClock(): void {
    const offset = realtimeOffset();
    if (Math.abs(offset - this.#offset) > OFFSET_JITTER) this.#offset = offset;
  }

  /** From now on the kernel gets what comes. */
  stopReceiving(): void {
    for (const { socket } of this.#queues) this.#map.delete(word(socket.queue));
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    for (const { socket } of this.#queues) socket.close();
    this.#promiscuity?.close();
    this.#map.close();
  }
}

function word(value: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(value).buffer);
}
