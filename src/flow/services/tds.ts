import { u16be } from './bytes.ts';
import { bySide, never, oneOf } from './choice.ts';
import { BAD_HEADER, FrameParser } from './frames.ts';
import { type PayloadSink, type Service, ServiceNews, type ServiceParser } from './service.ts';

/** Types of packets (MS-TDS 2.2.3.1.1): PRELOGIN, in which the TLS handshake goes as well, and what servers answer with. */
const PRELOGIN = 0x12;
const ANSWER = 0x04;
/** Type, status, length with the header, process id, number, window. */
const HEADER = 8;
const END_OF_MESSAGE = 1;
/** The packet size before anything else has been agreed upon. */
const MAX_PACKET = 4096;
const KEEP = 512;

/** PRELOGIN (2.2.6.5): options of token, offset and length, then their data. The version comes first. */
const OPTION = 5;
const VERSION = 0;
const VERSION_BYTES = 6;
const ENCRYPTION = 1;
const TERMINATOR = 0xff;
const SMALLEST = OPTION + 1 + VERSION_BYTES;

/** What the server says of encryption. With "off" the login alone is encrypted, and plain TDS follows. */
const ON = 1;
const NOT_SUPPORTED = 2;
const REQUIRED = 3;
/** Above are flags: certificates of clients. */
const MODE = 0x0f;

/** First bytes of TLS records; no type of a TDS packet is among them. */
const CHANGE_CIPHER_SPEC = 20;
const HEARTBEAT = 24;

class HandshakeSide {
  /** Bytes of the packet's header so far, its length, and what is still to come of its data. */
  have = 0;
  length = 0;
  left = 0;
  /** The handshake is over: TLS records, without packets around them. */
  raw = false;
}

/** Takes the handshake out of its packets; the records that follow are passed on as they are. */
class Handshake {
  readonly #sides: readonly [HandshakeSide, HandshakeSide] = [new HandshakeSide(), new HandshakeSide()];

  unwrap(fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number, sink: PayloadSink): number {
    const side = this.#sides[fromOrig];
    const end = offset + length;
    let at = offset;
    while (at < end) {
      if (side.raw) {
        sink(fromOrig, u8, at, end - at);
        return 0;
      }
      if (side.left > 0) {
        const size = Math.min(end - at, side.left);
        sink(fromOrig, u8, at, size);
        side.left -= size;
        at += size;
        continue;
      }
      if (side.have === 0 && u8[at] >= CHANGE_CIPHER_SPEC && u8[at] <= HEARTBEAT) {
        side.raw = true;
        continue;
      }
      if (!headerByte(fromOrig, side, u8[at++])) return ServiceNews.done;
    }
    return 0;
  }
}

/** TDS of Microsoft SQL Server, 7.1 to 7.4 (MS-TDS): PRELOGIN, its answer, and TLS that begins in packets. */
class TdsParser extends FrameParser {
  /** Set when it hands over. */
  unwrap?: NonNullable<ServiceParser['unwrap']>;
  #asked = false;

  constructor() {
    super(KEEP);
  }

  protected headerBytes(): number {
    return HEADER;
  }

  protected header(fromOrig: 0 | 1, u8: Uint8Array): number {
    const length = u16be(u8, 2);
    const type = fromOrig === 1 ? PRELOGIN : ANSWER;
    if (u8[0] !== type || u8[1] !== END_OF_MESSAGE || this.#asked === (fromOrig === 1)) return BAD_HEADER;
    return length < HEADER + SMALLEST || length > MAX_PACKET ? BAD_HEADER : length - HEADER;
  }

  protected message(fromOrig: 0 | 1, u8: Uint8Array, at: number, kept: number, length: number): number {
    const encryption = encryptionOf(u8, at, kept, length);
    if (encryption < 0) return ServiceNews.rejected;
    if (fromOrig === 1) {
      this.#asked = true;
      return 0;
    }
    if (encryption !== ON && encryption !== REQUIRED) return this.confirm() | ServiceNews.done;
    const handshake = new Handshake();
    this.unwrap = (side, bytes, offset, size, sink) => handshake.unwrap(side, bytes, offset, size, sink);
    return this.confirm() | ServiceNews.handsOver;
  }
}

/** The next byte of a packet's header; false when it cannot be one. Some servers answer with the other type here too. */
function headerByte(fromOrig: 0 | 1, side: HandshakeSide, byte: number): boolean {
  const place = side.have++;
  if (place === 0) return byte === PRELOGIN || (fromOrig === 0 && byte === ANSWER);
  if (place === 2 || place === 3) side.length = (side.length << 8) | byte;
  if (side.have < HEADER) return true;
  side.left = side.length - HEADER;
  side.have = 0;
  side.length = 0;
  return side.left >= 0;
}

/** What a PRELOGIN says of encryption; -1 when it is none. */
function encryptionOf(u8: Uint8Array, at: number, kept: number, length: number): number {
  let mode = NOT_SUPPORTED;
  for (let i = 0; i + OPTION <= kept; i += OPTION) {
    const token = u8[at + i];
    if (token === TERMINATOR) return i > 0 ? mode : -1;
    if ((token === VERSION) !== (i === 0)) return -1;
    const from = u16be(u8, at + i + 1);
    const size = u16be(u8, at + i + 3);
    if (from + size > length || (token === VERSION && size !== VERSION_BYTES)) return -1;
    if (token !== ENCRYPTION) continue;
    if (size === 0 || from >= kept) return -1;
    mode = u8[at + from] & MODE;
  }
  return -1;
}

export const TDS: Service = {
  name: 'tds',
  transport: 'tcp',
  first: bySide(oneOf(PRELOGIN), never),
  looksLike(u8, offset, length, fromOrig) {
    if (fromOrig === 0 || u8[offset] !== PRELOGIN) return false;
    if (length > 1 && u8[offset + 1] !== END_OF_MESSAGE) return false;
    if (length > 2 && u8[offset + 2] > MAX_PACKET >>> 8) return false;
    return length <= HEADER || u8[offset + HEADER] === VERSION;
  },
  parser: (): ServiceParser => new TdsParser(),
};
