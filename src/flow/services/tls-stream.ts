import type { TlsInfo } from '../types.ts';
import { ServiceNews, type ServiceParser } from './service.ts';
import {
  clientHello,
  emptyHelloState,
  emptyTlsInfo,
  type HelloState,
  NAMED_GROUP,
  serverHello,
  TLS13,
} from './tls-hello.ts';
import { HistoryLetter, noteAlert, noteFlip, noteLetter, noteMessage } from './tls-history.ts';

const CHANGE_CIPHER_SPEC = 20;
const ALERT = 21;
const HANDSHAKE = 22;
const APPLICATION_DATA = 23;
const HEARTBEAT = 24;

const CLIENT_HELLO = 1;
const SERVER_HELLO = 2;
const SERVER_KEY_EXCHANGE = 12;
const SERVER_HELLO_DONE = 14;

/** 2^14 and the expansion that RFC 5246 allows. */
const MAX_RECORD = 16_384 + 2048;
/** Hellos are kept whole until they are parsed; other messages only pass by. */
const MAX_HELLO = 16_384;
/** A certificate chain of post-quantum keys stays far below. */
const MAX_MESSAGE = 1 << 20;
/** Of one side, after which a handshake that has not finished is given up. */
const MAX_HANDSHAKE_STREAM = 1 << 20;
/**
 * The smallest TLS 1.3 record that can hold Finished: header 4, SHA-256 32, content type 1, tag 8. Shorter ones are
 * encrypted alerts (the client refuses the certificate) or the end of early data.
 */
const MIN_FINISHED_RECORD = 45;

/**
 * Whether the first bytes of a direction may begin a TLS handshake: a handshake record of SSL 3 to TLS 1.3 with a
 * ClientHello or ServerHello. Of fewer than 10 bytes all that are there must fit.
 */
export function looksLikeTls(u8: Uint8Array, offset: number, length: number): boolean {
  if (length < 1 || u8[offset] !== HANDSHAKE) return false;
  if (length < 2) return true;
  if (u8[offset + 1] !== 3 || (length > 2 && u8[offset + 2] > 4)) return false;
  if (length > 4) {
    const size = (u8[offset + 3] << 8) | u8[offset + 4];
    if (size < 4 || size > MAX_RECORD) return false;
  }
  if (length > 5 && u8[offset + 5] !== CLIENT_HELLO && u8[offset + 5] !== SERVER_HELLO) return false;
  if (length > 6 && u8[offset + 6] !== 0) return false;
  return length <= 9 || u8[offset + 9] === 3 || u8[offset + 9] === 0x7f;
}

class TlsSide {
  /** Bytes of the record header read so far, and its value without the type. */
  headerBytes = 0;
  header = 0;
  type = 0;
  recordLength = 0;
  left = 0;
  /** The record that is being read is a plaintext handshake record. */
  plain = false;
  records = 0;
  stream = 0;

  messageHeaderBytes = 0;
  messageType = 0;
  messageLeft = 0;
  messageLength = 0;
  buffer: Uint8Array | undefined;
  /** The ServerKeyExchange that is being read names a group. */
  groupNamed = false;

  hello = false;
  helloDone = false;
  changedCipher = false;
  /** A record that can only be Finished has gone by: TLS up to 1.2, and TLS 1.3. */
  finished12 = false;
  finished13 = false;
  alertLevel = 0;
  alertDescription = 0;
}

/**
 * Recognizes TLS in the two byte streams of a connection, and when both sides have finished the handshake: up to TLS 1.2
 * both have sent ChangeCipherSpec and an encrypted handshake record after it; in TLS 1.3 both send encrypted records
 * after the ServerHello, the client's long enough for Finished. Memory is bounded; no bytes make it throw.
 */
export class TlsStream implements ServiceParser {
  readonly tls: TlsInfo = emptyTlsInfo();
  readonly #hello: HelloState = emptyHelloState();
  readonly #sides: readonly [TlsSide, TlsSide] = [new TlsSide(), new TlsSide()];
  #client: TlsSide | undefined;
  #server: TlsSide | undefined;
  #done = 0;

  /** Protocols that the client offers, joined by commas, until the server's choice is known in `tls.alpn`. */
  get alpnOffer(): string | undefined {
    return this.#hello.alpnOffer;
  }

  /** The next bytes of one direction; returns what has newly happened. */
  data(fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): number {
    if (this.#done !== 0) return this.#done;
    const side = this.#sides[fromOrig];
    side.stream += length;
    let events = 0;
    let at = offset;
    const end = offset + length;
    while (at < end && this.#done === 0) {
      if (side.headerBytes < 5) {
        this.#header(side, u8[at++]);
        continue;
      }
      const size = Math.min(end - at, side.left);
      if (side.plain) events |= this.#handshake(side, u8, at, size);
      else if (side.type === ALERT || side.type === CHANGE_CIPHER_SPEC) this.#short(side, u8, at, size);
      at += size;
      side.left -= size;
      if (side.left === 0 && this.#done === 0) events |= this.#recordEnd(side);
    }
    if (this.#done === 0 && side.stream > MAX_HANDSHAKE_STREAM) this.#done = ServiceNews.done;
    return events | this.#done;
  }

  #reject(): void {
    // After a valid ServerHello it was TLS, whatever has happened to it.
    this.#done = this.#server?.hello === true ? ServiceNews.done : ServiceNews.done | ServiceNews.rejected;
    for (const side of this.#sides) side.buffer = undefined;
  }

  #header(side: TlsSide, byte: number): void {
    if (side.headerBytes === 0) side.type = byte;
    else side.header = (side.header << 8) | byte;
    side.headerBytes++;
    if (side.headerBytes < 5) {
      // The first byte alone says that most other protocols are not TLS.
      if (side.headerBytes === 1 && (byte < CHANGE_CIPHER_SPEC || byte > HEARTBEAT)) this.#reject();
      return;
    }
    const length = side.header & 0xffff;
    const version = side.header >>> 16;
    side.recordLength = length;
    side.left = length;
    const encrypted = side.changedCipher && this.tls.version !== TLS13;
    side.plain = side.type === HANDSHAKE && !encrypted;
    if (version < 0x0300 || version > TLS13 || length > MAX_RECORD || !this.#fits(side, encrypted))
      this.#reject();
    else if (length === 0) side.headerBytes = 0;
  }

  /** Whether a record of this type and length may come now. */
  #fits(side: TlsSide, encrypted: boolean): boolean {
    switch (side.type) {
      case CHANGE_CIPHER_SPEC:
        return side.recordLength === 1 && side.hello;
      case ALERT:
        return encrypted ? side.recordLength >= 2 : side.recordLength === 2;
      case HANDSHAKE:
        return side.recordLength > 0;
      case APPLICATION_DATA:
        return side.hello && (encrypted || this.tls.version === TLS13 || this.tls.version === 0);
      default:
        return side.hello;
    }
  }

  /** Bytes of a record of one or two bytes, or the first ones of an alert that is encrypted. */
  #short(side: TlsSide, u8: Uint8Array, at: number, size: number): void {
    if (side.type === CHANGE_CIPHER_SPEC) {
      if (u8[at] !== 1) this.#reject();
      return;
    }
    if (side.left === 2) side.alertLevel = u8[at];
    if (size === side.left) side.alertDescription = u8[at + size - 1];
  }

  #recordEnd(side: TlsSide): number {
    side.headerBytes = 0;
    side.records++;
    switch (side.type) {
      case CHANGE_CIPHER_SPEC:
        noteLetter(this.tls, this.#isClient(side), HistoryLetter.changeCipherSpec);
        if (side === this.#server && this.tls.version !== TLS13 && !side.helloDone) this.tls.resumed = true;
        side.changedCipher = true;
        return 0;
      case ALERT:
        if (side.recordLength !== 2) return 0;
        noteAlert(this.tls, this.#isClient(side), side.alertDescription);
        // Fatal and in the clear: the handshake has failed, and neither side will go on.
        if (side.alertLevel === 2) this.#done = ServiceNews.done;
        return 0;
      case HANDSHAKE:
        if (side.plain) return 0;
        side.finished12 = true;
        return this.#maybeEstablished();
      case APPLICATION_DATA:
        if (this.tls.version === TLS13 && this.#server?.hello && this.#finishes13(side))
          side.finished13 = true;
        return this.#maybeEstablished();
      default:
        if (side.type === HEARTBEAT && !side.changedCipher)
          noteLetter(this.tls, this.#isClient(side), HistoryLetter.heartbeat);
        return 0;
    }
  }

  /** Before the hellos have told, the client is who began the connection. */
  #isClient(side: TlsSide): boolean {
    return side === (this.#client ?? this.#sides[1]);
  }

  /** The ServerHello that counts has been seen, not only a request for another ClientHello. */
  #answered(): boolean {
    return this.#server !== undefined && this.#server.hello && !this.#hello.retry;
  }

  #finishes13(side: TlsSide): boolean {
    return side === this.#server || side.recordLength >= MIN_FINISHED_RECORD;
  }

  #maybeEstablished(): number {
    const client = this.#client;
    const server = this.#server;
    if (client === undefined || server === undefined || !this.#answered()) return 0;
    const both =
      this.tls.version === TLS13
        ? client.finished13 && server.finished13
        : client.finished12 && server.finished12;
    if (!both) return 0;
    this.tls.established = true;
    this.#done = ServiceNews.done;
    return ServiceNews.established;
  }

  /** Bytes of plaintext handshake records: messages one after the other, whatever the record borders. */
  #handshake(side: TlsSide, u8: Uint8Array, offset: number, length: number): number {
    let events = 0;
    let at = offset;
    const end = offset + length;
    while (at < end && this.#done === 0) {
      if (side.messageHeaderBytes < 4) {
        if (side.messageHeaderBytes === 0) side.messageType = u8[at];
        else side.messageLength = (side.messageLength << 8) | u8[at];
        at++;
        side.messageHeaderBytes++;
        if (side.messageHeaderBytes < 4) continue;
        side.messageLength &= 0xffffff;
        side.messageLeft = side.messageLength;
        if (!this.#messageFits(side)) {
          this.#reject();
          return events;
        }
      }
      const size = Math.min(end - at, side.messageLeft);
      if (side.messageType === CLIENT_HELLO || side.messageType === SERVER_HELLO)
        events |= this.#helloBytes(side, u8, at, size);
      else if (side.messageType === SERVER_KEY_EXCHANGE) this.#keyExchange(side, u8, at, size);
      at += size;
      side.messageLeft -= size;
      if (side.messageLeft === 0) {
        noteMessage(this.tls, this.#isClient(side), side.messageType, this.#hello.retry);
        if (side.messageType === SERVER_HELLO_DONE) side.helloDone = true;
        side.messageHeaderBytes = 0;
        side.messageLength = 0;
      }
    }
    return events;
  }

  #messageFits(side: TlsSide): boolean {
    const type = side.messageType;
    if (type === CLIENT_HELLO || type === SERVER_HELLO)
      return side.messageLength <= MAX_HELLO && this.#role(side, type);
    // A side begins with its hello; only HelloRequest (0) may come before.
    return side.messageLength <= MAX_MESSAGE && type <= 0x20 && (type === 0 || side.hello);
  }

  /** Notes who is client and who server; false when that contradicts what is known. */
  #role(side: TlsSide, type: number): boolean {
    const other = side === this.#sides[0] ? this.#sides[1] : this.#sides[0];
    const isClient = type === CLIENT_HELLO;
    if (this.#client === undefined) {
      this.#client = isClient ? side : other;
      this.#server = isClient ? other : side;
      if (this.#client === this.#sides[0]) noteFlip(this.tls);
    }
    if (isClient) return this.#client === side;
    return this.#server === side && (!side.hello || this.#hello.retry);
  }

  /** Its first three bytes, which may come one by one. */
  #keyExchange(side: TlsSide, u8: Uint8Array, at: number, size: number): void {
    const before = side.messageLength - side.messageLeft;
    for (let i = 0; i < size && before + i < 3; i++) {
      const byte = u8[at + i];
      if (before + i === 0) side.groupNamed = byte === NAMED_GROUP;
      else if (side.groupNamed) this.tls.curve = ((this.tls.curve << 8) | byte) & 0xffff;
    }
  }

  #helloBytes(side: TlsSide, u8: Uint8Array, at: number, size: number): number {
    const total = side.messageLength;
    if (size === total) return this.#hellos(side, u8, at, total);
    // The header was the last of its record: nothing to keep yet, and the whole message may still come in one piece.
    if (size === 0) return 0;
    side.buffer ??= new Uint8Array(total);
    side.buffer.set(u8.subarray(at, at + size), total - side.messageLeft);
    if (size < side.messageLeft) return 0;
    const whole = side.buffer;
    side.buffer = undefined;
    return this.#hellos(side, whole, 0, total);
  }

  #hellos(side: TlsSide, u8: Uint8Array, at: number, length: number): number {
    if (side.messageType === CLIENT_HELLO) {
      if (!clientHello(u8, at, length, this.tls, this.#hello)) this.#reject();
      side.hello = true;
      return 0;
    }
    if (!serverHello(u8, at, length, this.tls, this.#hello)) {
      this.#reject();
      return 0;
    }
    if (side.hello) return 0;
    side.hello = true;
    return ServiceNews.confirmed;
  }
}
