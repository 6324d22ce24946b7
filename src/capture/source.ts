import type { SluiceError } from '../base/errors.ts';
import type { BatchSink, PacketSink } from '../packet/packet.ts';

/** Where packets come from. A source owns one `Packet` cursor; what it shows is valid only during the call of the sink. */
export interface PacketSource {
  /** How it is named to people: a file, an interface, an address. */
  readonly name: string;
  /** Packets handed out so far. */
  readonly packets: number;
  /** Why the source ended before its time; everything before was handed out. */
  readonly problem: SluiceError | undefined;
  /** Hands out up to `maxPackets`; false when the source has ended and nothing will follow. */
  drain(sink: PacketSink, maxPackets: number): boolean;
  /** Lets go of what it holds; further calls do nothing. */
  close(): void;
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
