import { contains, isDigit, mayBegin } from './ascii.ts';
import { bySide, charOf } from './choice.ts';
import { LineReader } from './line-reader.ts';
import { type PayloadSink, type Service, ServiceNews, type ServiceParser } from './service.ts';
import { WebSocketFrames } from './websocket.ts';

const SPACE = 0x20;
/** The longest registered method has 17 letters. */
const MAX_METHOD = 24;
/** A host with its port, and blanks around. */
const MAX_HOST = 280;
/** Lines of one header; more are no header. */
const MAX_LINES = 1024;
/** Requests that did not ask for another protocol are followed no further than this one. */
const MAX_ANSWERS = 4;

/** What a request asks for. */
const Asks = { nothing: 0, tunnel: 1, upgrade: 2, websocket: 3 } as const;
type Asks = (typeof Asks)[keyof typeof Asks];

/** Where Zeek takes a request for enough; elsewhere it takes the reply too. */
const PORTS = new Set([80, 81, 631, 1080, 3128, 8000, 8080, 8888]);

/** Of RFC 9110's token characters those that methods are made of in practice. */
function isMethodByte(byte: number): boolean {
  return (byte >= 0x41 && byte <= 0x5a) || byte === 0x2d || byte === 0x5f || (byte >= 0x61 && byte <= 0x7a);
}

function looksLikeRequest(u8: Uint8Array, offset: number, length: number): boolean {
  let i = 0;
  while (i < length && i < 4 && (u8[offset + i] === 13 || u8[offset + i] === 10)) i++;
  const begin = i;
  while (i < length && i - begin <= MAX_METHOD && isMethodByte(u8[offset + i])) i++;
  if (i === length) return true;
  return i > begin + 1 && u8[offset + i] === SPACE;
}

/** Behind the last space of a request line; a space at its end is not meant. */
function lastWord(u8: Uint8Array, offset: number, length: number): number {
  let i = length;
  while (i > 0 && u8[offset + i - 1] === SPACE) i--;
  while (i > 0 && u8[offset + i - 1] !== SPACE) i--;
  return i;
}

/**
 * HTTP/0.9 to 1.1 (RFC 9112): confirmed by a reply to a request, on a port of HTTP by the request, as in Zeek. Stays
 * for CONNECT and Upgrade, and hands over when the server agrees.
 */
class HttpParser implements ServiceParser {
  rest = 0;
  readonly inside: string[] = [];
  /** Set when it hands over to a websocket. */
  unwrap?: NonNullable<ServiceParser['unwrap']>;

  host: string | undefined = undefined;

  readonly #requests = new LineReader();
  readonly #replies = new LineReader();
  /** Lines of the header that is being read; 0: the first line is next; -1: the body, which is not looked at. */
  #requestLine = 0;
  #replyLine = 0;
  #asks: Asks = Asks.nothing;
  #asked = false;
  #status = 0;
  #simple = false;
  #confirmed = false;
  #answers = 0;
  readonly #hinted: boolean;

  constructor(hinted: boolean) {
    this.#hinted = hinted;
  }

  data(fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): number {
    return fromOrig === 1
      ? this.#fromClient(u8, offset, offset + length)
      : this.#fromServer(u8, offset, offset + length);
  }

  #fromClient(u8: Uint8Array, begin: number, end: number): number {
    let news = 0;
    let at = begin;
    while (this.#requestLine >= 0) {
      const line = this.#requests;
      at = line.take(u8, at, end);
      if (at < 0) return news;
      if (this.#requestLine === 0) {
        if (line.length === 0) continue;
        if (!this.#request(line)) return ServiceNews.rejected;
        if (this.#hinted && !this.#simple && !this.#confirmed) {
          this.#confirmed = true;
          news |= ServiceNews.confirmed;
        }
      } else if (line.length === 0) {
        // What follows is the body of this request; the next one begins after the reply.
        this.#requestLine = -1;
        break;
      } else {
        news |= this.#requestHeader(line);
      }
      if (++this.#requestLine > MAX_LINES) return ServiceNews.rejected;
    }
    return news;
  }

  #request({ u8, offset, length }: LineReader): boolean {
    let method = 0;
    while (method < length && method <= MAX_METHOD && isMethodByte(u8[offset + method])) method++;
    if (method < 2 || u8[offset + method] !== SPACE || method + 1 >= length) return false;
    const version = lastWord(u8, offset, length);
    const versionLength = length - version;
    this.#simple = false;
    if (versionLength < 8 || !mayBegin(u8, offset + version, versionLength, 'HTTP/')) {
      // A long target may have pushed the version out of what is kept of the line.
      const cut = length >= 512;
      this.#simple = !cut;
      if (!cut && (!mayBegin(u8, offset, 4, 'GET ') || u8[offset + 4] !== 0x2f)) return false;
    }
    this.#asks = method === 7 && mayBegin(u8, offset, 8, 'CONNECT ') ? Asks.tunnel : Asks.nothing;
    this.#asked = true;
    // The body of the last reply, if it had one, is over.
    if (this.#replyLine < 0) this.#replyLine = 0;
    return true;
  }

  #requestHeader(line: LineReader): number {
    const { u8, offset, length } = line;
    if (this.host === undefined && length > 5 && mayBegin(u8, offset, length, 'HOST:'))
      return this.#host(line);
    this.#asking(line);
    return 0;
  }

  /** RFC 9110 section 7.2: a name, an address, or an address in brackets; then perhaps a port. */
  #host({ u8, offset, length }: LineReader): number {
    let text = '';
    for (let i = 5; i < length && i < 5 + MAX_HOST; i++) text += String.fromCharCode(u8[offset + i]);
    const match = /^\s*(\[[0-9a-fA-F:.]+\]|[\w.-]+)(?::\d{0,5})?\s*$/.exec(text);
    if (match === null) return 0;
    this.host = match[1].toLowerCase();
    return ServiceNews.told;
  }

  #asking({ u8, offset, length }: LineReader): void {
    if (this.#asks === Asks.tunnel || length < 8 || !mayBegin(u8, offset, length, 'UPGRADE:')) return;
    this.#asks = contains(u8, offset, length, 'WEBSOCKET') ? Asks.websocket : Asks.upgrade;
  }

  #fromServer(u8: Uint8Array, begin: number, end: number): number {
    let news = 0;
    let at = begin;
    while (this.#replyLine >= 0) {
      const line = this.#replies;
      if (this.#replyLine === 0 && this.#simple && at < end && !mayBegin(u8, at, end - at, 'HTTP/'))
        return this.#confirmed ? ServiceNews.done : ServiceNews.confirmed | ServiceNews.done;
      const next = line.take(u8, at, end);
      if (next < 0) return news;
      at = next;
      if (this.#replyLine === 0) {
        if (line.length === 0) continue;
        if (!this.#reply(line)) return ServiceNews.rejected;
        if (!this.#confirmed) {
          this.#confirmed = true;
          news |= ServiceNews.confirmed;
        }
        if (this.#asks === Asks.nothing && this.#status >= 200) return news | ServiceNews.done;
      } else if (line.length === 0) {
        const over = this.#headerEnd(end - at);
        if (over !== 0) return news | over;
        continue;
      }
      if (++this.#replyLine > MAX_LINES) return news | ServiceNews.rejected;
    }
    return news;
  }

  #reply({ u8, offset, length }: LineReader): boolean {
    if (!this.#asked || length < 12 || !mayBegin(u8, offset, length, 'HTTP/')) return false;
    let i = 5;
    while (i < length && u8[offset + i] !== SPACE) i++;
    while (i < length && u8[offset + i] === SPACE) i++;
    let status = 0;
    for (let digits = 0; digits < 3; digits++, i++) {
      if (i >= length || !isDigit(u8[offset + i])) return false;
      status = status * 10 + u8[offset + i] - 0x30;
    }
    this.#status = status;
    return true;
  }

  /** The header of a reply to a request that wants another protocol, or of an interim reply. */
  #headerEnd(rest: number): number {
    const status = this.#status;
    if (this.#asks === Asks.tunnel && status >= 200 && status < 300) {
      this.rest = rest;
      return ServiceNews.handsOver;
    }
    if (status === 101 && this.#asks !== Asks.nothing && this.#asks !== Asks.tunnel) {
      this.rest = rest;
      if (this.#asks === Asks.websocket) {
        const frames = new WebSocketFrames();
        this.unwrap = (fromOrig, u8, offset, length, sink: PayloadSink) =>
          frames.unwrap(fromOrig, u8, offset, length, sink);
        // In the order of confirmation, also when all was in one segment.
        this.inside.push('http', 'websocket');
      }
      return ServiceNews.handsOver;
    }
    if (status < 200) {
      this.#replyLine = 0;
      return 0;
    }
    // Refused, often to ask for a password: the next request may have it. The body of the answer is not looked at.
    if (status !== 401 && status !== 407) return ServiceNews.done;
    if (++this.#answers > MAX_ANSWERS) return ServiceNews.done;
    this.#replyLine = -1;
    this.#requestLine = 0;
    return 0;
  }
}

export const HTTP: Service = {
  name: 'http',
  transport: 'tcp',
  first: bySide(charOf('ABCDEFGHIJKLMNOPQRSTUVWXYZ-_\r\n'), charOf('H')),
  looksLike: (u8, offset, length, fromOrig) =>
    fromOrig === 1 ? looksLikeRequest(u8, offset, length) : mayBegin(u8, offset, length, 'HTTP/'),
  parser: (respPort) => new HttpParser(PORTS.has(respPort)),
};
