import type { TlsInfo } from '../types.ts';
import { u32be } from './bytes.ts';
import { between, bySide, never } from './choice.ts';
import { InitialKeys, initialSecret, quicVersion } from './quic-crypto.ts';
import { CryptoStream, readFrames, VarInts } from './quic-frames.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';
import { clientHello, emptyHelloState, emptyTlsInfo, type HelloState, serverHello } from './tls-hello.ts';
import { noteMessage } from './tls-history.ts';

/** RFC 9000, section 17. */
const LONG = 0x80;
const FIXED = 0x40;
const MAX_CONNECTION_ID = 20;
/** Up to the destination's connection id. */
const LONG_HEADER = 6;
const CLIENT_HELLO = 1;
const SERVER_HELLO = 2;
/** Initial packets that do not decrypt, after which it is not QUIC, and datagrams after which no more is learned. */
const MAX_FAILURES = 4;
const MAX_DATAGRAMS = 128;

function looksLikeQuic(u8: Uint8Array, offset: number, length: number, fromOrig: 0 | 1): boolean {
  return (
    fromOrig === 1 &&
    length > LONG_HEADER + 1 &&
    (u8[offset] & (LONG | FIXED)) === (LONG | FIXED) &&
    u8[offset + 5] <= MAX_CONNECTION_ID &&
    quicVersion(u32be(u8, offset + 1)) !== undefined
  );
}

class Side {
  keys: InitialKeys | undefined;
  crypto: CryptoStream | undefined = new CryptoStream();
  /** Bytes of handshake messages that have been read. */
  read = 0;
  /** Has sent a packet with a short header, after the ServerHello. */
  short = false;
}

/**
 * QUIC 1, 2 and the last drafts: as in Zeek confirmed by the first Initial packet that decrypts, with `ssl` beside it
 * when the ClientHello is whole. Established when both sides use the final keys.
 */
class QuicParser implements ServiceParser {
  readonly tls: TlsInfo = emptyTlsInfo();
  readonly inside: string[] = [];
  readonly #hello: HelloState = emptyHelloState();
  readonly #sides: readonly [Side, Side] = [new Side(), new Side()];
  #keyed = false;
  #confirmed = false;
  #answered = false;
  #failures = 0;
  #datagrams = 0;

  data(fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): number {
    let news = 0;
    const end = offset + length;
    for (let at = offset; at >= 0 && at < end; ) {
      if ((u8[at] & FIXED) === 0) break;
      if ((u8[at] & LONG) === 0) {
        news |= this.#short(fromOrig);
        break;
      }
      at = this.#long(fromOrig, u8, at, end);
    }
    if (!this.#confirmed && this.inside.length > 0) {
      this.#confirmed = true;
      news |= ServiceNews.confirmed;
    }
    if (this.#failures >= MAX_FAILURES && !this.#confirmed) return ServiceNews.rejected;
    if (++this.#datagrams >= MAX_DATAGRAMS) news |= this.#confirmed ? ServiceNews.done : ServiceNews.rejected;
    return news;
  }

  /** A packet with a long header; the offset behind it, or -1 when nothing more can be read of the datagram. */
  #long(fromOrig: 0 | 1, u8: Uint8Array, begin: number, end: number): number {
    if (begin + LONG_HEADER > end) return -1;
    const version = quicVersion(u32be(u8, begin + 1));
    const destinationBytes = u8[begin + 5];
    const destination = begin + LONG_HEADER;
    const source = destination + destinationBytes;
    if (version === undefined || destinationBytes > MAX_CONNECTION_ID || source >= end) return -1;
    const sourceBytes = u8[source];
    if (sourceBytes > MAX_CONNECTION_ID) return -1;
    const c = new VarInts(u8, source + 1, end);
    c.skip(sourceBytes);
    const type = (u8[begin] >>> 4) & 3;
    if (type === version.retry) {
      // The client begins again, with the connection id that it was told.
      if (fromOrig === 0 && !this.#answered) this.#keyed = false;
      return -1;
    }
    if (type === version.initial) c.skip(c.next());
    const size = c.next();
    const number = c.at;
    c.skip(size);
    if (!c.ok) return -1;
    if (type !== version.initial) return c.at;
    if (!this.#keyed) {
      if (fromOrig === 0) return c.at;
      const id = u8.subarray(destination, source);
      const initial = initialSecret(version, id);
      this.#sides[1].keys = new InitialKeys(version, initial, true);
      this.#sides[0].keys = new InitialKeys(version, initial, false);
      for (const side of this.#sides) {
        side.crypto = new CryptoStream();
        side.read = 0;
      }
      this.#keyed = true;
    }
    this.#initial(fromOrig, u8, begin, number, c.at);
    return c.at;
  }

  #initial(fromOrig: 0 | 1, u8: Uint8Array, begin: number, number: number, end: number): void {
    const side = this.#sides[fromOrig];
    if (side.crypto === undefined) return;
    const frames = side.keys?.open(u8, begin, number, end);
    if (frames === undefined) {
      this.#failures++;
      return;
    }
    // As Zeek does: these two names in this order.
    if (this.inside.length === 0) this.inside.push('quic');
    if (!readFrames(frames, side.crypto)) side.crypto = undefined;
    else this.#messages(side);
  }

  /** Reads the messages that are whole. */
  #messages(side: Side): void {
    const crypto = side.crypto;
    if (crypto === undefined) return;
    while (crypto.ready >= side.read + 4) {
      const bytes = crypto.bytes;
      const at = side.read;
      const size = (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
      if (crypto.ready < at + 4 + size) return;
      side.read = at + 4 + size;
      const fromClient = side === this.#sides[1];
      let valid = false;
      if (bytes[at] === CLIENT_HELLO && fromClient) {
        valid = clientHello(bytes, at + 4, size, this.tls, this.#hello, 'q');
        if (valid && this.inside.length === 1) this.inside.push('ssl');
      } else if (bytes[at] === SERVER_HELLO && !fromClient) {
        valid = serverHello(bytes, at + 4, size, this.tls, this.#hello);
        if (valid && !this.#hello.retry) this.#answered = true;
      }
      if (valid) noteMessage(this.tls, fromClient, bytes[at], this.#hello.retry);
      else side.crypto = undefined;
      if (this.#answered) {
        // Nothing of interest comes in the clear any more.
        for (const each of this.#sides) each.crypto = undefined;
        return;
      }
      if (!valid) return;
    }
  }

  #short(fromOrig: 0 | 1): number {
    if (!this.#answered) return 0;
    this.#sides[fromOrig].short = true;
    if (!this.#sides[0].short || !this.#sides[1].short) return 0;
    this.tls.established = true;
    return ServiceNews.established | ServiceNews.done;
  }
}

export const QUIC: Service = {
  name: 'quic',
  transport: 'udp',
  first: bySide(between(LONG | FIXED, 0xff), never),
  looksLike: looksLikeQuic,
  parser: () => new QuicParser(),
};
