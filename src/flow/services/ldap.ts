import { Ber, berHeader, berLength } from './ber.ts';
import { isAt } from './bytes.ts';
import { oneOf } from './choice.ts';
import { BAD_HEADER, FrameParser, wants } from './frames.ts';
import { nameToken } from './gssapi.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';

const SEQUENCE = 0x30;
const INTEGER = 2;
const OCTET_STRING = 4;
const ENUMERATED = 10;

/** Tags of the operations (RFC 4511): those of requests, and those of responses. */
const REQUESTS = new Set([0x60, 0x42, 0x63, 0x66, 0x68, 0x4a, 0x6c, 0x6e, 0x50, 0x77]);
const RESPONSES = new Set([0x61, 0x64, 0x65, 0x67, 0x69, 0x6b, 0x6d, 0x6f, 0x73, 0x78, 0x79]);
const BIND_REQUEST = 0x60;
const BIND_RESPONSE = 0x61;
const EXTENDED_REQUEST = 0x77;
const EXTENDED_RESPONSE = 0x78;
const SASL = 0xa3;
const SERVER_SASL_CREDENTIALS = 0x87;
const REQUEST_NAME = 0x80;
const START_TLS = '1.3.6.1.4.1.1466.20037';

/** Tokens of Kerberos with a large PAC begin with what is looked at. */
const KEEP = 2048;
const MAX_MESSAGE = 1 << 26;

/** What one message says beside being LDAP. */
const Found = { bad: 0, message: 1, done: 2, handsOver: 3 } as const;

/** One direction-less session: the same for TCP and UDP. */
class LdapSession {
  readonly inside: string[] = [];
  #sasl = false;
  #startTls = false;

  /** The contents of an LDAPMessage, u8[at, end) of `length` bytes. */
  message(u8: Uint8Array, at: number, end: number, length: number): number {
    const fields = new Ber(u8, at, end);
    if (!fields.expect(INTEGER) || fields.to - fields.from > 4 || fields.to <= fields.from) return Found.bad;
    if (!fields.next() || fields.to > at + length) return Found.bad;
    const tag = fields.tag;
    if (!REQUESTS.has(tag) && !RESPONSES.has(tag)) return Found.bad;
    if (tag === BIND_REQUEST) return this.#bind(fields.inside());
    if (tag === EXTENDED_REQUEST) {
      const request = fields.inside();
      if (!request.expect(REQUEST_NAME)) return Found.bad;
      this.#startTls =
        request.to - request.from === START_TLS.length && isAt(u8, request.from, request.until, START_TLS);
      return Found.message;
    }
    if (tag === BIND_RESPONSE || tag === EXTENDED_RESPONSE) {
      const response = fields.inside();
      if (!response.expect(ENUMERATED)) return Found.bad;
      const success = response.integer() === 0;
      if (tag === EXTENDED_RESPONSE) return success && this.#startTls ? Found.handsOver : Found.message;
      while (response.next())
        if (response.tag === SERVER_SASL_CREDENTIALS)
          nameToken(u8, response.from, response.until, this.inside);
      // What follows may be wrapped (RFC 4752).
      return success && this.#sasl ? Found.done : Found.message;
    }
    return Found.message;
  }

  #bind(request: Ber): number {
    if (!request.expect(INTEGER)) return Found.bad;
    const version = request.integer();
    if (version < 1 || version > 127 || !request.expect(OCTET_STRING)) return Found.bad;
    if (request.expect(SASL)) {
      this.#sasl = true;
      const sasl = request.inside();
      if (sasl.expect(OCTET_STRING) && sasl.expect(OCTET_STRING))
        nameToken(sasl.u8, sasl.from, sasl.until, this.inside);
    }
    return Found.message;
  }
}

/** LDAP over TCP (RFC 4511), with StartTLS. */
class LdapTcp extends FrameParser {
  readonly #session = new LdapSession();
  readonly inside = this.#session.inside;

  constructor() {
    super(KEEP);
  }

  protected headerBytes(): number {
    return 2;
  }

  protected header(_fromOrig: 0 | 1, u8: Uint8Array, bytes: number): number {
    const size = berHeader(u8, 0, bytes);
    if (size < 0 || u8[0] !== SEQUENCE) return BAD_HEADER;
    if (size === 0) return wants(2 + (u8[1] & 0x7f));
    const length = berLength(u8, 0);
    return length < 5 || length > MAX_MESSAGE ? BAD_HEADER : length;
  }

  protected message(_fromOrig: 0 | 1, u8: Uint8Array, at: number, kept: number, length: number): number {
    const found = this.#session.message(u8, at, at + kept, length);
    if (found === Found.bad) return ServiceNews.rejected;
    const news = this.confirm();
    if (found === Found.handsOver) return news | ServiceNews.handsOver;
    return found === Found.done ? news | ServiceNews.done : news;
  }
}

/** LDAP in datagrams, as domain controllers are looked for. */
class LdapUdp implements ServiceParser {
  readonly #session = new LdapSession();
  readonly inside = this.#session.inside;

  data(_fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): number {
    const outer = new Ber(u8, offset, offset + length);
    if (!outer.expect(SEQUENCE) || outer.to > offset + length) return ServiceNews.rejected;
    const found = this.#session.message(u8, outer.from, outer.to, outer.to - outer.from);
    return found === Found.bad ? ServiceNews.rejected : ServiceNews.confirmed | ServiceNews.done;
  }
}

/** SEQUENCE, length, INTEGER, and the tag of an operation: as far as it is there. */
function looksLike(u8: Uint8Array, offset: number, length: number): boolean {
  if (u8[offset] !== SEQUENCE) return false;
  const end = offset + length;
  const size = berHeader(u8, offset, end);
  if (size <= 0) return size === 0;
  const id = offset + size;
  if (id >= end) return true;
  if (u8[id] !== INTEGER) return false;
  if (id + 1 >= end) return true;
  const octets = u8[id + 1];
  if (octets < 1 || octets > 4) return false;
  const operation = id + 2 + octets;
  return operation >= end || REQUESTS.has(u8[operation]) || RESPONSES.has(u8[operation]);
}

export const LDAP_TCP: Service = {
  name: 'ldap_tcp',
  transport: 'tcp',
  first: oneOf(SEQUENCE),
  looksLike,
  parser: (): ServiceParser => new LdapTcp(),
};

export const LDAP_UDP: Service = {
  name: 'ldap_udp',
  transport: 'udp',
  first: oneOf(SEQUENCE),
  looksLike,
  parser: (): ServiceParser => new LdapUdp(),
};
