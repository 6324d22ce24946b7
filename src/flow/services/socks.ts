import { bySide, never, oneOf } from './choice.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';
import { TcpParser } from './tcp-parser.ts';

const V4 = 4;
const V5 = 5;
const CONNECT = 1;
const BIND = 2;
const UDP_ASSOCIATE = 3;
const GRANTED = 0x5a;
const USER_PASSWORD = 2;
const REFUSED = 0xff;
const IPV4 = 1;
const DOMAIN = 3;
const IPV6 = 4;
/** The longest message is a user name and a password of 255 bytes each. */
const MAX_MESSAGE = 520;
/** Fields of a version 4 request before the user name. */
const V4_FIXED = 8;
const V4_REPLY = 8;

/** What a side sends next. */
const Next = { greeting: 0, login: 1, request: 2, nothing: 3 } as const;

class SocksSide {
  readonly bytes = new Uint8Array(MAX_MESSAGE);
  have = 0;
  next: number = Next.greeting;
}

/** SOCKS 4, 4a and 5 (RFC 1928, RFC 1929): confirmed by the server's reply; what was asked for follows. */
class SocksParser extends TcpParser {
  readonly #client = new SocksSide();
  readonly #server = new SocksSide();
  #version = 0;
  #method = 0;

  protected read(fromOrig: 0 | 1, u8: Uint8Array, from: number, end: number): number {
    const side = fromOrig === 1 ? this.#client : this.#server;
    for (let at = from; at < end; at++) {
      // The server has not answered yet: what is sent ahead is not followed.
      if (side.next === Next.nothing) return 0;
      side.bytes[side.have++] = u8[at];
      const news = fromOrig === 1 ? this.#fromClient(side) : this.#fromServer(side);
      if (news !== 0) {
        this.rest = end - at - 1;
        return news | ServiceNews.done;
      }
      if (side.have === MAX_MESSAGE) return ServiceNews.rejected;
    }
    return 0;
  }

  #fromClient(side: SocksSide): number {
    const { bytes, have } = side;
    if (side.next === Next.greeting) {
      if (have === 1) {
        this.#version = bytes[0];
        return this.#version === V4 || this.#version === V5 ? 0 : ServiceNews.rejected;
      }
      return this.#version === V4 ? this.#request4(side) : this.#greeting5(side);
    }
    if (side.next === Next.login) {
      if (bytes[0] !== 1) return ServiceNews.rejected;
      const password = 2 + bytes[1];
      if (have > password && have === password + 1 + bytes[password]) turn(side, Next.request);
      return 0;
    }
    if (have === 2 && (bytes[1] < CONNECT || bytes[1] > UDP_ASSOCIATE)) return ServiceNews.rejected;
    const size = size5(bytes, have);
    if (size < 0) return ServiceNews.rejected;
    if (have === size) turn(side, Next.nothing);
    return 0;
  }

  #request4(side: SocksSide): number {
    const { bytes, have } = side;
    if (have === 2) return bytes[1] === CONNECT || bytes[1] === BIND ? 0 : ServiceNews.rejected;
    if (have <= V4_FIXED || bytes[have - 1] !== 0) return 0;
    // 0.0.0.x says that a name follows the user's.
    const named = bytes[4] === 0 && bytes[5] === 0 && bytes[6] === 0 && bytes[7] !== 0;
    if (named && bytes.indexOf(0, V4_FIXED) === have - 1) return 0;
    turn(side, Next.nothing);
    return 0;
  }

  #greeting5(side: SocksSide): number {
    if (side.have === 2 && side.bytes[1] === 0) return ServiceNews.rejected;
    if (side.have === 2 + side.bytes[1]) turn(side, Next.request);
    return 0;
  }

  #fromServer(side: SocksSide): number {
    const { bytes, have } = side;
    if (this.#version === V4) return this.#reply4(bytes, have);
    if (this.#version !== V5) return ServiceNews.rejected;
    if (side.next === Next.greeting) {
      if (have === 1) return bytes[0] === V5 ? 0 : ServiceNews.rejected;
      this.#method = bytes[1];
      turn(side, this.#method === USER_PASSWORD ? Next.login : Next.request);
      if (this.#method === USER_PASSWORD) this.#client.next = Next.login;
      if (this.#method === REFUSED) return ServiceNews.done;
      return this.#method > USER_PASSWORD ? ServiceNews.rejected : 0;
    }
    if (side.next === Next.login) {
      if (have === 2) turn(side, Next.request);
      return 0;
    }
    const size = size5(bytes, have);
    if (size < 0) return ServiceNews.rejected;
    if (have !== size) return 0;
    return ServiceNews.confirmed | (bytes[1] === 0 ? ServiceNews.handsOver : 0);
  }

  #reply4(bytes: Uint8Array, have: number): number {
    if (this.#client.next !== Next.nothing) return ServiceNews.rejected;
    if (have === 1) return bytes[0] === 0 ? 0 : ServiceNews.rejected;
    if (have === 2) return bytes[1] < GRANTED || bytes[1] > GRANTED + 3 ? ServiceNews.rejected : 0;
    if (have < V4_REPLY) return 0;
    return ServiceNews.confirmed | (bytes[1] === GRANTED ? ServiceNews.handsOver : 0);
  }
}

function turn(side: SocksSide, next: number): void {
  side.have = 0;
  side.next = next;
}

/** Size of a version 5 request or reply, as far as the `have` bytes tell: version, code, 0, address, port. */
function size5(bytes: Uint8Array, have: number): number {
  if (bytes[0] !== V5 || (have > 2 && bytes[2] !== 0)) return -1;
  if (have < 5) return MAX_MESSAGE;
  switch (bytes[3]) {
    case IPV4:
      return 10;
    case DOMAIN:
      return 7 + bytes[4];
    case IPV6:
      return 22;
    default:
      return -1;
  }
}

export const SOCKS: Service = {
  name: 'socks',
  transport: 'tcp',
  first: bySide(oneOf(V4, V5), never),
  looksLike(u8, offset, length, fromOrig) {
    if (fromOrig === 0) return false;
    if (u8[offset] === V4) return length < 2 || u8[offset + 1] === CONNECT || u8[offset + 1] === BIND;
    if (u8[offset] !== V5) return false;
    // A list of methods that the first piece has whole, with one of the usual ones first.
    if (length > 1 && (u8[offset + 1] === 0 || length > 2 + u8[offset + 1])) return false;
    return length < 3 || u8[offset + 2] <= USER_PASSWORD;
  },
  parser: (): ServiceParser => new SocksParser(),
};
