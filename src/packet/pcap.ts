import { type PacketBlock, PLACE_WORDS } from './block.ts';
import type { Packet } from './packet.ts';
import {
  CaptureDamage,
  type CaptureReader,
  dltOfLinkType,
  MAX_BLOCK_BYTES,
  MAX_FRAME_BYTES,
  Read,
} from './reader.ts';

/** Bytes of the file header; also what detection needs at most. */
export const PCAP_HEADER_BYTES = 24;

const MAGIC_MICRO = 0xa1b2c3d4;
const MAGIC_NANO = 0xa1b23c4d;
/** A Linux patch of the 1990s with 8 more bytes in each record header; libpcap still reads it. */
const MAGIC_PATCHED = 0xa1b2cd34;

/** Whether a file that begins with these four bytes, read in big-endian order, is a pcap file. */
export function isPcapMagic(bigEndian: number): boolean {
  return magicOf(bigEndian) !== undefined;
}

function magicOf(bigEndian: number): { magic: number; little: boolean } | undefined {
  const swapped = swap32(bigEndian);
  for (const magic of [MAGIC_MICRO, MAGIC_NANO, MAGIC_PATCHED]) {
    if (bigEndian === magic) return { magic, little: false };
    if (swapped === magic) return { magic, little: true };
  }
  return undefined;
}

function swap32(value: number): number {
  return ((value << 24) | ((value & 0xff00) << 8) | ((value >>> 8) & 0xff00) | (value >>> 24)) >>> 0;
}

/** Reader of the classic format (draft-ietf-opsawg-pcap), both byte orders, micro- and nanoseconds. */
export class PcapReader implements CaptureReader {
  readonly format = 'pcap' as const;
  packets = 0;
  position = 0;
  need = PCAP_HEADER_BYTES;
  damage: CaptureDamage | undefined;
  /** Nanoseconds in the records. */
  nano = false;
  /** As declared by the file; 0 when it has not been read yet. */
  snaplen = 0;
  linkType = 1;

  #u8: Uint8Array = new Uint8Array(0);
  #view: DataView = new DataView(new ArrayBuffer(0));
  #end = 0;
  #fileOffset = 0;
  #little = true;
  #units = 1e6;
  #recordHeader = 16;
  #frameLimit = MAX_FRAME_BYTES;
  #started = false;

  window(u8: Uint8Array, from: number, to: number, fileOffset: number): void {
    this.#u8 = u8;
    this.#view = new DataView(u8.buffer, u8.byteOffset, u8.byteLength);
    this.position = from;
    this.#end = to;
    this.#fileOffset = fileOffset - from;
  }

  next(packet: Packet): Read {
    if (this.damage !== undefined) return Read.damaged;
    if (!this.#started) {
      const state = this.#header();
      if (state !== Read.packet) return state;
    }
    const at = this.position;
    const header = this.#recordHeader;
    const left = this.#end - at;
    if (left < header) {
      this.need = header;
      return Read.more;
    }
    const view = this.#view;
    const little = this.#little;
    const caplen = view.getUint32(at + 8, little);
    if (caplen > this.#frameLimit) {
      return this.#fail(`a packet of ${caplen} bytes, more than the limit of ${this.#frameLimit},`);
    }
    if (left < header + caplen) {
      this.need = header + caplen;
      return Read.more;
    }
    const wirelen = view.getUint32(at + 12, little);
    packet.ts = view.getUint32(at, little) + view.getUint32(at + 4, little) / this.#units;
    packet.u8 = this.#u8;
    packet.offset = at + header;
    packet.caplen = caplen;
    packet.wirelen = wirelen > caplen ? wirelen : caplen;
    packet.linkType = this.linkType;
    this.position = at + header + caplen;
    this.packets++;
    return Read.packet;
  }

  /**
   * Fills a block with frames, at most `most`, as far as they are whole in the window: how many; 0 also when `next` has
   * something to say.
   */
  fill(block: PacketBlock, most: number): number {
    block.count = 0;
    if (this.damage !== undefined || !this.#started) return 0;
    const { places, times } = block;
    const view = this.#view;
    const little = this.#little;
    const header = this.#recordHeader;
    const units = this.#units;
    const end = this.#end;
    let at = this.position;
    let count = 0;
    for (; count < most && at + header <= end; count++) {
      const caplen = view.getUint32(at + 8, little);
      if (caplen > this.#frameLimit || at + header + caplen > end) break;
      const wirelen = view.getUint32(at + 12, little);
      const place = PLACE_WORDS * count;
      places[place] = at + header;
      places[place + 1] = caplen;
      places[place + 2] = wirelen > caplen ? wirelen : caplen;
      places[place + 3] = this.linkType;
      times[count] = view.getUint32(at, little) + view.getUint32(at + 4, little) / units;
      at += header + caplen;
    }
    block.u8 = this.#u8;
    block.count = count;
    this.position = at;
    this.packets += count;
    return count;
  }

  finish(): CaptureDamage | undefined {
    if (this.damage === undefined && (this.position < this.#end || !this.#started)) {
      const left = this.#end - this.position;
      this.#fail(
        this.#started
          ? `a record cut off (${left} of ${this.need} bytes)`
          : `a file header cut off (${left} of ${PCAP_HEADER_BYTES} bytes)`,
      );
    }
    return this.damage;
  }

  #header(): Read {
    if (this.#end - this.position < PCAP_HEADER_BYTES) {
      this.need = PCAP_HEADER_BYTES;
      return Read.more;
    }
    const view = this.#view;
    const at = this.position;
    const magic = magicOf(view.getUint32(at, false));
    if (magic === undefined) return this.#fail('no pcap file header');
    const little = magic.little;
    const major = view.getUint16(at + 4, little);
    if (major !== 2)
      return this.#fail(`pcap version ${major}.${view.getUint16(at + 6, little)}, which is unknown,`);
    this.#little = little;
    this.nano = magic.magic === MAGIC_NANO;
    this.#units = this.nano ? 1e9 : 1e6;
    this.#recordHeader = magic.magic === MAGIC_PATCHED ? 24 : 16;
    this.snaplen = view.getUint32(at + 16, little);
    // The upper half of the word tells about a frame check sequence.
    this.linkType = dltOfLinkType(view.getUint16(little ? at + 20 : at + 22, little));
    this.#frameLimit = Math.max(MAX_FRAME_BYTES, Math.min(this.snaplen, MAX_BLOCK_BYTES));
    this.position = at + PCAP_HEADER_BYTES;
    this.#started = true;
    return Read.packet;
  }

  #fail(what: string): Read {
    this.damage = new CaptureDamage(what, this.packets, this.#fileOffset + this.position);
    return Read.damaged;
  }
}

export interface PcapFormat {
  nano?: boolean;
  bigEndian?: boolean;
  /** LINKTYPE value of the file; 1 is Ethernet. */
  linkType?: number;
  snaplen?: number;
}

/** One frame for a writer: seconds since the epoch, or exact seconds and nanoseconds. */
export interface FrameToWrite {
  ts: number | { seconds: number; nanoseconds: number };
  bytes: Uint8Array;
  /** Bytes on the wire when more than were captured. */
  wirelen?: number;
}

/** Seconds and nanoseconds of a time; a double is rounded to the microseconds that it can hold. */
export function splitTime(ts: FrameToWrite['ts']): { seconds: number; nanoseconds: number } {
  if (typeof ts !== 'number') return ts;
  const seconds = Math.floor(ts);
  const micros = Math.round((ts - seconds) * 1e6);
  return micros === 1_000_000
    ? { seconds: seconds + 1, nanoseconds: 0 }
    : { seconds, nanoseconds: micros * 1000 };
}

/** Encodes the classic format; the caller joins or writes the pieces. */
export class PcapWriter {
  readonly #nano: boolean;
  readonly #little: boolean;
  readonly #linkType: number;
  readonly #snaplen: number;

  constructor(format: PcapFormat = {}) {
    this.#nano = format.nano ?? false;
    this.#little = !(format.bigEndian ?? false);
    this.#linkType = format.linkType ?? 1;
    this.#snaplen = format.snaplen ?? MAX_FRAME_BYTES;
  }

  header(): Uint8Array {
    const out = new Uint8Array(PCAP_HEADER_BYTES);
    const view = new DataView(out.buffer);
    const little = this.#little;
    view.setUint32(0, this.#nano ? MAGIC_NANO : MAGIC_MICRO, little);
    view.setUint16(4, 2, little);
    view.setUint16(6, 4, little);
    view.setUint32(16, this.#snaplen, little);
    view.setUint32(20, this.#linkType, little);
    return out;
  }

  record(frame: FrameToWrite): Uint8Array {
    const out = new Uint8Array(this.recordBytes(frame.bytes.length));
    this.recordInto(frame, out, 0);
    return out;
  }

  recordBytes(caplen: number): number {
    return 16 + caplen;
  }

  /** Writes the record at out[at]; returns the offset after it. */
  recordInto(frame: FrameToWrite, out: Uint8Array, at: number): number {
    const view = new DataView(out.buffer, out.byteOffset, out.byteLength);
    const little = this.#little;
    const { seconds, nanoseconds } = splitTime(frame.ts);
    view.setUint32(at, seconds, little);
    view.setUint32(at + 4, this.#nano ? nanoseconds : Math.floor(nanoseconds / 1000), little);
    view.setUint32(at + 8, frame.bytes.length, little);
    view.setUint32(at + 12, frame.wirelen ?? frame.bytes.length, little);
    out.set(frame.bytes, at + 16);
    return at + 16 + frame.bytes.length;
  }
}

/** A whole pcap file in memory. */
export function pcapFile(frames: Iterable<FrameToWrite>, format: PcapFormat = {}): Uint8Array {
  const writer = new PcapWriter(format);
  const parts = [writer.header()];
  for (const frame of frames) parts.push(writer.record(frame));
  return Buffer.concat(parts);
}
