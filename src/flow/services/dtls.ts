import type { TlsInfo } from '../types.ts';
import { oneOf } from './choice.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';
import {
  clientHello,
  DTLS13,
  emptyHelloState,
  emptyTlsInfo,
  type HelloState,
  NAMED_GROUP,
  serverHello,
} from './tls-hello.ts';
import { HistoryLetter, noteAlert, noteFlip, noteLetter, noteMessage } from './tls-history.ts';

/** RFC 6347 section 4, RFC 9147 section 4. */
const RECORD_HEADER = 13;
const MESSAGE_HEADER = 12;
const CHANGE_CIPHER_SPEC = 20;
const ALERT = 21;
const HANDSHAKE = 22;
const APPLICATION_DATA = 23;
const CLIENT_HELLO = 1;
const SERVER_HELLO = 2;
const HELLO_VERIFY = 3;
const SERVER_KEY_EXCHANGE = 12;
const SERVER_HELLO_DONE = 14;
/** First byte of an encrypted record of DTLS 1.3: 001 and flags. */
const UNIFIED_MASK = 0xe0;
const UNIFIED = 0x20;
const MAX_HELLO = 16_384;
const MAX_DATAGRAMS = 256;

function u24(u8: Uint8Array, at: number): number {
  return (u8[at] << 16) | (u8[at + 1] << 8) | u8[at + 2];
}

function isVersion(u8: Uint8Array, at: number): boolean {
  return u8[at] === 0xfe && (u8[at + 1] === 0xff || u8[at + 1] === 0xfd);
}

/** A handshake record of epoch 0 with a hello. */
function looksLikeDtls(u8: Uint8Array, offset: number, length: number): boolean {
  if (length < RECORD_HEADER + MESSAGE_HEADER || u8[offset] !== HANDSHAKE || !isVersion(u8, offset + 1))
    return false;
  if (u8[offset + 3] !== 0 || u8[offset + 4] !== 0) return false;
  const type = u8[offset + RECORD_HEADER];
  return type === CLIENT_HELLO || type === SERVER_HELLO || type === HELLO_VERIFY;
}

class Side {
  /** A hello in fragments: its bytes so far, in order. */
  buffer: Uint8Array | undefined;
  have = 0;
  helloDone = false;
  changedCipher = false;
  finished = false;
}

/** DTLS 1.0 to 1.3, confirmed by a valid ServerHello as TLS is. */
class DtlsParser implements ServiceParser {
  readonly tls: TlsInfo = emptyTlsInfo();
  readonly #hello: HelloState = emptyHelloState();
  readonly #sides: readonly [Side, Side] = [new Side(), new Side()];
  #client: Side | undefined;
  #confirmed = false;
  #over = false;
  #datagrams = 0;

  data(fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): number {
    const before = this.#confirmed;
    const end = offset + length;
    for (let at = offset; at < end && !this.#over; ) {
      const next = this.#record(this.#sides[fromOrig], u8, at, end);
      if (next < 0) return this.#confirmed ? ServiceNews.done : ServiceNews.rejected;
      at = next;
    }
    let news = this.#confirmed && !before ? ServiceNews.confirmed : 0;
    if (this.#sides[0].finished && this.#sides[1].finished) {
      this.tls.established = true;
      news |= ServiceNews.established | ServiceNews.done;
    }
    if (this.#over || ++this.#datagrams >= MAX_DATAGRAMS) news |= ServiceNews.done;
    return news;
  }

  /** One record; the offset behind it, or -1 when it is none. */
  #record(side: Side, u8: Uint8Array, at: number, end: number): number {
    if ((u8[at] & UNIFIED_MASK) === UNIFIED) {
      // Without a length it goes to the end; what was encrypted is not counted apart.
      if (this.tls.version !== DTLS13) return -1;
      side.finished = true;
      return end;
    }
    if (at + RECORD_HEADER > end || !isVersion(u8, at + 1)) return -1;
    const type = u8[at];
    const epoch = (u8[at + 3] << 8) | u8[at + 4];
    const body = at + RECORD_HEADER;
    const next = body + ((u8[at + 11] << 8) | u8[at + 12]);
    if (next > end || type < CHANGE_CIPHER_SPEC || type > APPLICATION_DATA + 3) return -1;
    if (epoch === 0) {
      if (type === HANDSHAKE) return this.#messages(side, u8, body, next) ? next : -1;
      if (type === CHANGE_CIPHER_SPEC) {
        if (side !== this.#client && !side.helloDone) this.tls.resumed = true;
        side.changedCipher = true;
        noteLetter(this.tls, this.#isClient(side), HistoryLetter.changeCipherSpec);
      } else if (type === ALERT && next - body === 2) {
        noteAlert(this.tls, this.#isClient(side), u8[body + 1]);
        if (u8[body] === 2) this.#over = true;
      }
    } else if (side.changedCipher && this.#confirmed && type === HANDSHAKE) {
      side.finished = true;
    }
    return next;
  }

  #messages(side: Side, u8: Uint8Array, begin: number, end: number): boolean {
    let at = begin;
    while (at < end) {
      if (at + MESSAGE_HEADER > end) return false;
      const type = u8[at];
      const length = u24(u8, at + 1);
      const offset = u24(u8, at + 6);
      const size = u24(u8, at + 9);
      const body = at + MESSAGE_HEADER;
      if (body + size > end || offset + size > length) return false;
      if (type === SERVER_HELLO_DONE) side.helloDone = true;
      else if (type === SERVER_KEY_EXCHANGE && offset === 0 && size >= 3 && u8[body] === NAMED_GROUP)
        this.tls.curve = (u8[body + 1] << 8) | u8[body + 2];
      if (type === CLIENT_HELLO || type === SERVER_HELLO) {
        if (length > MAX_HELLO || !this.#role(side, type)) return false;
        if (!this.#piece(side, type, u8, body, length, offset, size)) return false;
      }
      if (offset + size === length) noteMessage(this.tls, this.#isClient(side), type, this.#hello.retry);
      at = body + size;
    }
    return true;
  }

  #role(side: Side, type: number): boolean {
    const other = side === this.#sides[0] ? this.#sides[1] : this.#sides[0];
    if (this.#client === undefined) {
      this.#client = type === CLIENT_HELLO ? side : other;
      if (this.#client === this.#sides[0]) noteFlip(this.tls);
    }
    return (this.#client === side) === (type === CLIENT_HELLO);
  }

  #isClient(side: Side): boolean {
    return side === (this.#client ?? this.#sides[1]);
  }

  /** Part of a hello; pieces that come out of order are sent again, and wait for that. */
  #piece(
    side: Side,
    type: number,
    u8: Uint8Array,
    at: number,
    length: number,
    offset: number,
    size: number,
  ): boolean {
    if (size === length) return this.#whole(type, u8, at, length);
    if (offset === 0) {
      side.buffer = new Uint8Array(length);
      side.have = 0;
    }
    const buffer = side.buffer;
    if (buffer === undefined || buffer.length !== length || offset !== side.have) return true;
    for (let i = 0; i < size; i++) buffer[offset + i] = u8[at + i];
    side.have += size;
    if (side.have < length) return true;
    side.buffer = undefined;
    return this.#whole(type, buffer, 0, length);
  }

  #whole(type: number, u8: Uint8Array, at: number, length: number): boolean {
    if (type === CLIENT_HELLO) return clientHello(u8, at, length, this.tls, this.#hello, 'd');
    if (!serverHello(u8, at, length, this.tls, this.#hello)) return false;
    this.#confirmed = true;
    return true;
  }
}

export const DTLS: Service = {
  name: 'ssl',
  transport: 'udp',
  first: oneOf(HANDSHAKE),
  looksLike: looksLikeDtls,
  parser: () => new DtlsParser(),
};
