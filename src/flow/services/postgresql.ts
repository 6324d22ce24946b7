import { find, u16be, u32be } from './bytes.ts';
import { bySide, never, oneOf } from './choice.ts';
import { BAD_HEADER, FrameParser, wants } from './frames.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';

/** In place of a version: questions that the server answers with one byte. */
const SSL_REQUEST = 80_877_103;
const GSS_REQUEST = 80_877_104;
const MAJOR = 3;
const KEEP = 512;
const MAX_STARTUP = 10_000;
const MAX_MESSAGE = 1 << 30;
const YES = 0x53;
const NO = 0x4e;
const GSS = 0x47;
const ERROR = 0x45;

/** What the client asked last: nothing, TLS, GSSAPI encryption. */
const Asked = { nothing: 0, ssl: 1, gss: 2 } as const;

/** PostgreSQL, protocol version 3, with SSLRequest. */
class PostgresqlParser extends FrameParser {
  #asked: number = Asked.nothing;
  #started = false;
  /** The server's answer of one byte, when that is what came last. */
  #answer = 0;

  constructor() {
    super(KEEP);
  }

  protected headerBytes(fromOrig: 0 | 1): number {
    if (fromOrig === 1) return this.#started ? 5 : 8;
    return this.#asked === Asked.nothing ? 5 : 1;
  }

  protected header(fromOrig: 0 | 1, u8: Uint8Array, bytes: number): number {
    if (fromOrig === 1 && !this.#started) {
      const length = u32be(u8, 0);
      const version = u32be(u8, 4);
      if (length === 8 && (version === SSL_REQUEST || version === GSS_REQUEST)) {
        this.#asked = version === SSL_REQUEST ? Asked.ssl : Asked.gss;
        return 0;
      }
      if (u16be(u8, 4) !== MAJOR || length < 9 || length > MAX_STARTUP) return BAD_HEADER;
      this.#asked = Asked.nothing;
      return length - 8;
    }
    if (fromOrig === 0 && this.#asked !== Asked.nothing) {
      if (u8[0] === ERROR) {
        if (bytes < 5) return wants(5);
      } else {
        const yes = this.#asked === Asked.ssl ? YES : GSS;
        this.#asked = Asked.nothing;
        this.#answer = u8[0];
        return u8[0] === yes || u8[0] === NO ? 0 : BAD_HEADER;
      }
    }
    if (fromOrig === 0 && !this.#started && u8[0] !== ERROR) return BAD_HEADER;
    const length = u32be(u8, 1);
    return !isType(u8[0]) || length < 4 || length > MAX_MESSAGE ? BAD_HEADER : length - 4;
  }

  protected message(fromOrig: 0 | 1, u8: Uint8Array, at: number, kept: number, length: number): number {
    if (fromOrig === 1) {
      if (this.#started || length === 0) return 0;
      if (find(u8, at, at + kept, 'user\0') < 0) return ServiceNews.rejected;
      this.#started = true;
      return this.confirm();
    }
    const answer = this.#answer;
    this.#answer = 0;
    this.#asked = Asked.nothing;
    if (answer === 0) return 0;
    const news = this.confirm();
    if (answer === YES) return news | ServiceNews.handsOver;
    return answer === GSS ? news | ServiceNews.done : news;
  }
}

function isType(byte: number): boolean {
  return (byte >= 0x30 && byte <= 0x39) || ((byte | 0x20) >= 0x61 && (byte | 0x20) <= 0x7a);
}

/** Questions and versions as they stand after the length. */
const BEGINNINGS = [
  [0x04, 0xd2, 0x16, 0x2f],
  [0x04, 0xd2, 0x16, 0x30],
  [0x00, 0x03, 0x00],
];

function fits(u8: Uint8Array, at: number, length: number, beginning: readonly number[]): boolean {
  for (let i = 0; i < beginning.length && i < length; i++) if (u8[at + i] !== beginning[i]) return false;
  return true;
}

export const POSTGRESQL: Service = {
  name: 'postgresql',
  transport: 'tcp',
  first: bySide(oneOf(0), never),
  looksLike(u8, offset, length, fromOrig) {
    if (fromOrig === 0 || u8[offset] !== 0) return false;
    if ((length > 1 && u8[offset + 1] !== 0) || (length > 2 && u8[offset + 2] > MAX_STARTUP >>> 8))
      return false;
    for (const beginning of BEGINNINGS) if (fits(u8, offset + 4, length - 4, beginning)) return true;
    return false;
  },
  parser: (): ServiceParser => new PostgresqlParser(),
};
