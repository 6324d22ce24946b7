import { type FrameToWrite, splitTime } from './pcap.ts';
import { PCAPNG_MAGIC } from './pcapng.ts';

/** An interface to describe at the start of the section. */
export interface InterfaceToWrite {
  /** LINKTYPE value; 1 is Ethernet. */
  linkType?: number;
  /** 0: no limit. */
  snaplen?: number;
  name?: string;
  /** Free text about it (if_description). */
  description?: string;
  /** opt_comment. */
  comment?: string;
  /** The filter that chose its packets (if_filter). */
  filter?: string;
  /** Nanosecond time stamps instead of microseconds. */
  nano?: boolean;
  /** Seconds to take off each time stamp (if_tsoffset). */
  offsetSeconds?: number;
}

export interface PcapngFormat {
  bigEndian?: boolean;
  interfaces?: InterfaceToWrite[];
  /** What wrote it (shb_userappl). */
  application?: string;
}

/** Encodes one section of pcapng; the caller joins or writes the pieces. */
export class PcapngWriter {
  readonly #little: boolean;
  readonly #interfaces: readonly InterfaceToWrite[];
  readonly #application: string | undefined;

  constructor(format: PcapngFormat = {}) {
    this.#little = !(format.bigEndian ?? false);
    this.#interfaces = format.interfaces ?? [{}];
    this.#application = format.application;
  }

  /** The section header and the descriptions of all interfaces. */
  header(): Uint8Array {
    const start = new Uint8Array(16);
    const view = new DataView(start.buffer);
    view.setUint32(0, 0x1a2b3c4d, this.#little);
    view.setUint16(4, 1, this.#little);
    // Length of the section: unknown.
    start.fill(0xff, 8, 16);
    const parts = [
      this.block(
        PCAPNG_MAGIC,
        start,
        this.#application === undefined ? [] : [this.#text(4, this.#application)],
      ),
    ];
    for (const each of this.#interfaces) parts.push(this.#interface(each));
    return Buffer.concat(parts);
  }

  /** An enhanced packet block. */
  record(frame: FrameToWrite, interfaceId = 0, comment?: string): Uint8Array {
    const described = this.#interfaces[interfaceId];
    if (described === undefined) throw new RangeError(`no interface ${interfaceId}`);
    const { seconds, nanoseconds } = splitTime(frame.ts);
    const units = described.nano ? 1_000_000_000n : 1_000_000n;
    const fraction = described.nano ? nanoseconds : Math.floor(nanoseconds / 1000);
    const time = BigInt(seconds - (described.offsetSeconds ?? 0)) * units + BigInt(fraction);
    const body = new Uint8Array(20 + aligned(frame.bytes.length));
    const view = new DataView(body.buffer);
    const little = this.#little;
    view.setUint32(0, interfaceId, little);
    view.setUint32(4, Number(time >> 32n), little);
    view.setUint32(8, Number(time & 0xffffffffn), little);
    view.setUint32(12, frame.bytes.length, little);
    view.setUint32(16, frame.wirelen ?? frame.bytes.length, little);
    body.set(frame.bytes, 20);
    return this.block(6, body, comment === undefined ? [] : [this.#text(1, comment)]);
  }

  /** Any block: its body, a multiple of four bytes, and its options, each with header and padding. */
  block(type: number, body: Uint8Array, options: readonly Uint8Array[] = []): Uint8Array {
    const all = options.length === 0 ? [] : [...options, new Uint8Array(4)];
    const length = 12 + body.length + all.reduce((sum, option) => sum + option.length, 0);
    const out = new Uint8Array(length);
    const view = new DataView(out.buffer);
    view.setUint32(0, type, this.#little);
    view.setUint32(4, length, this.#little);
    view.setUint32(length - 4, length, this.#little);
    let at = 8;
    for (const part of [body, ...all]) {
      out.set(part, at);
      at += part.length;
    }
    return out;
  }

  option(code: number, value: Uint8Array): Uint8Array {
    const out = new Uint8Array(4 + aligned(value.length));
    const view = new DataView(out.buffer);
    view.setUint16(0, code, this.#little);
    view.setUint16(2, value.length, this.#little);
    out.set(value, 4);
    return out;
  }

  #text(code: number, text: string): Uint8Array {
    return this.option(code, new TextEncoder().encode(text).subarray(0, 0xffff));
  }

  #interface(each: InterfaceToWrite): Uint8Array {
    const body = new Uint8Array(8);
    const view = new DataView(body.buffer);
    view.setUint16(0, each.linkType ?? 1, this.#little);
    view.setUint32(4, each.snaplen ?? 0, this.#little);
    const options: Uint8Array[] = [];
    if (each.comment !== undefined) options.push(this.#text(1, each.comment));
    if (each.name !== undefined) options.push(this.#text(2, each.name));
    if (each.description !== undefined) options.push(this.#text(3, each.description));
    if (each.nano) options.push(this.option(9, Uint8Array.of(9)));
    // The first byte says what the text is: 0 a libpcap expression.
    if (each.filter !== undefined)
      options.push(this.option(11, new TextEncoder().encode(`\0${each.filter}`)));
    if (each.offsetSeconds !== undefined) {
      const value = new Uint8Array(8);
      new DataView(value.buffer).setBigInt64(0, BigInt(each.offsetSeconds), this.#little);
      options.push(this.option(14, value));
    }
    return this.block(1, body, options);
  }
}

function aligned(length: number): number {
  return (length + 3) & ~3;
}

/** A frame, and which interface saw it. */
export interface FrameOnInterface extends FrameToWrite {
  interfaceId?: number;
  comment?: string;
}

/** A whole pcapng file in memory. */
export function pcapngFile(frames: Iterable<FrameOnInterface>, format: PcapngFormat = {}): Uint8Array {
  const writer = new PcapngWriter(format);
  const parts = [writer.header()];
  for (const frame of frames) parts.push(writer.record(frame, frame.interfaceId, frame.comment));
  return Buffer.concat(parts);
}
