import type { SluiceError } from '../base/errors.ts';
import type { BlockSink } from '../packet/block.ts';
import type { BatchSink, PacketSink } from '../packet/packet.ts';

/**
 * Where packets come from, whatever that is: a file, a pipe, a directory, a ring, AF_XDP sockets, a mirror over UDP.
 *
 * - *No copy per packet*: packets are shown where the kernel or the file put them. A source owns one `Packet` cursor, or a few, and
 *   moves it; what it shows is valid only during the call of the sink.
 * - *Batches*: a call takes what is there in the pieces in which it comes (blocks of a ring, batches of datagrams, pieces of a
 *   file), at least one and about `maxPackets` packets. Whoever can use several packets at a time asks for `drainBlocks` where it is there
 *   (docs/adr/0034-packet-sources.md says where and why not).
 * - *Back-pressure*: nothing is taken before it is asked for. Files and streams wait; what lives fills up, and counts what it loses.
 * - *Clean stop*: `close` at any time outside of a sink, also more than once; `drain` answers false from then on.
 */
export interface PacketSource {
  /** How it is named to people: a file, an interface, an address. */
  readonly name: string;
  /** Packets handed out so far. */
  readonly packets: number;
  /** Why the source ended before its time; everything before was handed out. */
  readonly problem: SluiceError | undefined;
  /** Hands out what is there, about up to `maxPackets`; false when the source has ended and nothing will follow. */
  drain(sink: PacketSink, maxPackets: number): boolean;
  /** As `drain`, in columns; absent where frames do not come so. A block is valid until the call of the sink returns. */
  drainBlocks?(sink: BlockSink, maxPackets: number): boolean;
  /** Lets go of what it holds; further calls do nothing. */
  close(): void;
}

/**
 * How far a live source has come, in numbers that only grow, of whatever unit it has. Once `sequence` is greater than what
 * `openBlock` returned, everything that had reached the source when that was called has been handed out and its turn is
 * over; once `position` is at least what `received` returned, everything that had reached it has been shown to the sink.
 */
export interface RingPosition {
  readonly sequence: number;
  openBlock(): number;
  /** Of the packet that is shown now, or was shown last. */
  readonly position: number;
  /** Not to be called from a sink. */
  received(): number;
}

/** What a live source has counted since it was opened. */
export interface SourceCounts {
  /** Packets that the kernel has put into the source, or would have if there had been room. */
  packets: number;
  /** Of these, packets that found no room. */
  drops: number;
  /** How often it was full. */
  freezes: number;
}

/** A source that packets reach as they come, until it is told to stop. */
export interface LiveSource extends PacketSource, RingPosition {
  /** Bytes on the wire of the packets handed out. */
  readonly bytes: number;
  counts(): SourceCounts;
  /**
   * Calls back on the event loop when there is something to drain; `errno` is 0, or says why nothing more will come for
   * now (ENETDOWN).
   */
  onReadable(callback: (errno: number) => void): void;
  /**
   * Of a source that is a socket: this program says what comes in from now on, in place of the one before, and goes with it.
   * Others do not have it.
   */
  filterBy?(program: { readonly fd: number }): void;
  /**
   * Passes over what has reached it so far, and perhaps some of what comes just then; how many packets. Where it is not there
   * `position` and `received` tell what has.
   */
  passOver?(): number;
  /** Lets nothing more come in: what is there can still be drained. */
  stopReceiving(): void;
}

/** A source that may have to wait for a pipe or for a decompressor. */
export interface StoredSource extends PacketSource {
  /** As `drain`, several packets at a time; each is valid until the call of the sink returns. */
  drainBatches(sink: BatchSink, maxPackets: number): boolean;
  /** Bytes read from files so far; of compressed ones the compressed bytes. */
  readonly readBytes: number;
  /** `drain` stopped early, as nothing more has arrived yet: `wait`, then go on. */
  readonly starved: boolean;
  /** Resolves when `drain` can go on; at once when it can. Never rejects. */
  wait(): Promise<void>;
}
