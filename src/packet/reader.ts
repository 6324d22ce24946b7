import { SluiceError } from '../base/errors.ts';
import type { Packet } from './packet.ts';

/** What a call of `CaptureReader.next` came to. */
export const Read = {
  /** The cursor was moved to the next frame. */
  packet: 0,
  /** The window ends inside a record: give more bytes, `need` of them from `position` on. */
  more: 1,
  /** The reader has met something that it cannot read past; `damage` says what. */
  damaged: 2,
} as const;
export type Read = (typeof Read)[keyof typeof Read];

/** The largest block or record that a reader accepts, so that a damaged length costs bounded memory (libpcap: 16 MiB). */
export const MAX_BLOCK_BYTES = 16 * 1024 * 1024;
/** The largest frame that any file may hold, whatever snap length it declares (libpcap's MAXIMUM_SNAPLEN). */
export const MAX_FRAME_BYTES = 262_144;

/** A capture file that is damaged or cut off: everything before `offset` was delivered. */
export class CaptureDamage extends SluiceError {
  /** Packets delivered before it. */
  readonly packets: number;
  /** Where in the file the record that cannot be read begins. */
  readonly offset: number;

  constructor(what: string, packets: number, offset: number) {
    super('FILE_FORMAT', `${what} at byte ${offset}, after ${packets} packets`, {
      help: 'what came before was read; if the capture is still being written, read it again when it is complete',
    });
    this.packets = packets;
    this.offset = offset;
  }
}

/**
 * Reads a capture format piece by piece. The caller shows it a window of the file, calls `next` until that wants more,
 * moves the unread rest (from `position`) to the front of its buffer, appends what it reads next and shows that.
 * Nothing is copied: the frames lie in the caller's window. No bytes make it throw.
 */
export interface CaptureReader {
  readonly format: 'pcap' | 'pcapng';
  /** Frames delivered. */
  readonly packets: number;
  /** Offset in the window of the first byte that has not been read. */
  readonly position: number;
  /** Bytes from `position` on without which no progress is possible; at most MAX_BLOCK_BYTES and a header. */
  readonly need: number;
  readonly damage: CaptureDamage | undefined;
  /** Shows u8[from, to) as the file's bytes from `fileOffset` on. */
  window(u8: Uint8Array, from: number, to: number, fileOffset: number): void;
  next(packet: Packet): Read;
  /** The file has ended where the window ends: bytes left over are damage. */
  finish(): CaptureDamage | undefined;
}

/** File formats number some link types otherwise than libpcap's API on Linux (pcap-linktype(7), pcap-common.c). */
export function dltOfLinkType(linkType: number): number {
  switch (linkType) {
    case 100: // ATM RFC 1483
      return 11;
    case 101: // raw IP
    case 14: // raw IP as OpenBSD numbers it
      return 12;
    case 102: // SLIP of BSD/OS
      return 15;
    case 103: // PPP of BSD/OS
      return 16;
    case 106: // ATM Classical IP
      return 19;
    default:
      return linkType;
  }
}
