import type { Packet } from './packet.ts';
import { CaptureDamage, type CaptureReader, dltOfLinkType, MAX_BLOCK_BYTES, Read } from './reader.ts';

/** First word of a pcapng file; a palindrome, so that it reads the same in both byte orders. */
export const PCAPNG_MAGIC = 0x0a0d0d0a;

const BYTE_ORDER = 0x1a2b3c4d;
const BLOCK_IDB = 1;
const BLOCK_PB = 2;
const BLOCK_SPB = 3;
const BLOCK_EPB = 6;
const OPTION_END = 0;
const OPTION_IF_NAME = 2;
const OPTION_IF_TSRESOL = 9;
const OPTION_IF_TSOFFSET = 14;
/** No real capture comes near; each interface costs memory. */
const MAX_INTERFACES = 65_536;
/** Above this many units a second the exact split by 16-bit digits would overflow a double. */
const EXACT_UNITS = 2 ** 37;

/** An interface description block. */
export interface PcapngInterface {
  /** libpcap DLT value. */
  readonly linkType: number;
  /** 0: no limit. */
  readonly snaplen: number;
  readonly name: string | undefined;
  /** Units of the time stamps in a second. */
  readonly unitsPerSecond: number;
  /** Seconds to add to each time stamp. */
  readonly offsetSeconds: number;
}

/** Reader of pcapng (draft-ietf-opsawg-pcapng): any number of sections and interfaces, both byte orders. */
export class PcapngReader implements CaptureReader {
  readonly format = 'pcapng' as const;
  packets = 0;
  position = 0;
  need = 12;
  damage: CaptureDamage | undefined;
  /** Interfaces of the current section, in order of their description. */
  readonly interfaces: PcapngInterface[] = [];
  /** Index of the interface that the current packet belongs to. */
  interfaceId = 0;

  #u8: Uint8Array = new Uint8Array(0);
  #view: DataView = new DataView(new ArrayBuffer(0));
  #end = 0;
  #fileOffset = 0;
  #little = true;
  #started = false;
  #lastTime = 0;

  window(u8: Uint8Array, from: number, to: number, fileOffset: number): void {
    this.#u8 = u8;
    this.#view = new DataView(u8.buffer, u8.byteOffset, u8.byteLength);
    this.position = from;
    this.#end = to;
    this.#fileOffset = fileOffset - from;
  }

  next(packet: Packet): Read {
    if (this.damage !== undefined) return Read.damaged;
    const view = this.#view;
    for (;;) {
      const at = this.position;
      const left = this.#end - at;
      if (left < 12) {
        this.need = 12;
        return Read.more;
      }
      // The type of a section header is the same in both orders, and it decides the order of all that follows.
      const type = view.getUint32(at, this.#little);
      if (type === PCAPNG_MAGIC) {
        const order = view.getUint32(at + 8, true);
        if (order === BYTE_ORDER) this.#little = true;
        else if (order === 0x4d3c2b1a) this.#little = false;
        else return this.#fail('a section header without a valid byte-order mark');
      } else if (!this.#started) {
        return this.#fail('no pcapng section header');
      }
      const little = this.#little;
      const length = view.getUint32(at + 4, little);
      if (length < 12 || length > MAX_BLOCK_BYTES)
        return this.#fail(`a block of ${length} bytes, outside of 12 to ${MAX_BLOCK_BYTES},`);
      // Lengths are to be multiples of four; some writers do not count the padding, as libpcap allows for.
      const padded = (length + 3) & ~3;
      if (left < padded) {
        this.need = padded;
        return Read.more;
      }
      if (
        view.getUint32(at + padded - 4, little) !== length &&
        view.getUint32(at + length - 4, little) !== length
      ) {
        return this.#fail('a block whose two lengths differ');
      }
      if (type === BLOCK_EPB || type === BLOCK_PB || type === BLOCK_SPB) {
        if (!this.#packetBlock(type, at, length, packet)) return Read.damaged;
        this.position = at + padded;
        this.packets++;
        return Read.packet;
      }
      if (type === PCAPNG_MAGIC) {
        if (!this.#section(at, length)) return Read.damaged;
      } else if (type === BLOCK_IDB && !this.#describe(at, length)) {
        return Read.damaged;
      }
      this.position = at + padded;
    }
  }

  finish(): CaptureDamage | undefined {
    if (this.damage === undefined && (this.position < this.#end || !this.#started)) {
      const left = this.#end - this.position;
      this.#fail(`a block cut off (${left} of ${this.need} bytes)`);
    }
    return this.damage;
  }

  #packetBlock(type: number, at: number, length: number, packet: Packet): boolean {
    const view = this.#view;
    const little = this.#little;
    const header = type === BLOCK_SPB ? 12 : 28;
    if (length < header + 4) return this.#refuse('a packet block too short for its header');
    let id = 0;
    if (type === BLOCK_EPB) id = view.getUint32(at + 8, little);
    else if (type === BLOCK_PB) id = view.getUint16(at + 8, little);
    const described = this.interfaces[id];
    if (described === undefined) return this.#refuse(`a packet of interface ${id}, which is not described,`);
    const room = length - header - 4;
    let caplen: number;
    let wirelen: number;
    if (type === BLOCK_SPB) {
      wirelen = view.getUint32(at + 8, little);
      caplen = wirelen < room ? wirelen : room;
      if (described.snaplen > 0 && described.snaplen < caplen) caplen = described.snaplen;
    } else {
      caplen = view.getUint32(at + 20, little);
      wirelen = view.getUint32(at + 24, little);
      this.#lastTime = this.#time(
        described,
        view.getUint32(at + 12, little),
        view.getUint32(at + 16, little),
      );
    }
    if (caplen > room)
      return this.#refuse(`a packet of ${caplen} bytes in a block that has room for ${room}`);
    this.interfaceId = id;
    // A simple packet block has no time of its own: it happened when the last one did.
    packet.ts = this.#lastTime;
    packet.u8 = this.#u8;
    packet.offset = at + header;
    packet.caplen = caplen;
    packet.wirelen = wirelen > caplen ? wirelen : caplen;
    packet.linkType = described.linkType;
    return true;
  }

  #time(described: PcapngInterface, high: number, low: number): number {
    const units = described.unitsPerSecond;
    if (high < 0x200000 || units > EXACT_UNITS) {
      const total = high * 4294967296 + low;
      const seconds = Math.floor(total / units);
      return seconds + described.offsetSeconds + (total - seconds * units) / units;
    }
    // Long division by 16-bit digits: 64 bits of nanoseconds do not fit a double.
    let rest = high >>> 16;
    const q3 = Math.floor(rest / units);
    rest = (rest - q3 * units) * 65536 + (high & 0xffff);
    const q2 = Math.floor(rest / units);
    rest = (rest - q2 * units) * 65536 + (low >>> 16);
    const q1 = Math.floor(rest / units);
    rest = (rest - q1 * units) * 65536 + (low & 0xffff);
    const q0 = Math.floor(rest / units);
    rest -= q0 * units;
    return ((q3 * 65536 + q2) * 65536 + q1) * 65536 + q0 + described.offsetSeconds + rest / units;
  }

  #section(at: number, length: number): boolean {
    if (length < 28) return this.#refuse('a section header that is too short');
    const major = this.#view.getUint16(at + 12, this.#little);
    if (major !== 1) return this.#refuse(`pcapng version ${major}, which is unknown,`);
    this.interfaces.length = 0;
    this.#started = true;
    return true;
  }

  #describe(at: number, length: number): boolean {
    if (length < 20) return this.#refuse('an interface description that is too short');
    if (this.interfaces.length >= MAX_INTERFACES)
      return this.#refuse(`more than ${MAX_INTERFACES} interfaces`);
    const view = this.#view;
    const little = this.#little;
    let unitsPerSecond = 1e6;
    let offsetSeconds = 0;
    let name: string | undefined;
    let option = at + 16;
    const end = at + length - 4;
    while (option + 4 <= end) {
      const code = view.getUint16(option, little);
      const size = view.getUint16(option + 2, little);
      const value = option + 4;
      if (code === OPTION_END) break;
      if (value + size > end) return this.#refuse('an option that is longer than its block');
      if (code === OPTION_IF_TSRESOL && size >= 1) {
        const resolution = view.getUint8(value);
        unitsPerSecond = resolution & 0x80 ? 2 ** (resolution & 0x7f) : 10 ** resolution;
      } else if (code === OPTION_IF_TSOFFSET && size >= 8) {
        const high = view.getInt32(little ? value + 4 : value, little);
        offsetSeconds = high * 4294967296 + view.getUint32(little ? value : value + 4, little);
      } else if (code === OPTION_IF_NAME && size <= 1024) {
        name = Buffer.from(this.#u8.buffer, this.#u8.byteOffset + value, size).toString('utf8');
      }
      option = value + ((size + 3) & ~3);
    }
    this.interfaces.push({
      linkType: dltOfLinkType(view.getUint16(at + 8, little)),
      snaplen: view.getUint32(at + 12, little),
      name,
      unitsPerSecond,
      offsetSeconds,
    });
    return true;
  }

  #refuse(what: string): false {
    this.damage = new CaptureDamage(what, this.packets, this.#fileOffset + this.position);
    return false;
  }

  #fail(what: string): Read {
    this.#refuse(what);
    return Read.damaged;
  }
}
