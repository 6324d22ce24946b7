import type { TlsInfo } from '../types.ts';
import { type ClientOffer, clientPrints, isGrease, ja3s, MAX_LIST } from './fingerprint.ts';

/** Parsing of ClientHello and ServerHello bodies (RFC 8446 section 4.1, RFC 5246 section 7.4.1, RFC 6347 section 4.2.1). */

export const TLS12 = 0x0303;
export const TLS13 = 0x0304;
export const DTLS12 = 0xfefd;
export const DTLS13 = 0xfefc;

/** ServerKeyExchange begins so when it names a group (RFC 8422 section 5.4); what is no such key exchange may too. */
export const NAMED_GROUP = 3;

const EXT_SERVER_NAME = 0;
const EXT_GROUPS = 10;
const EXT_POINT_FORMATS = 11;
const EXT_SIGNATURES = 13;
const EXT_ALPN = 16;
const EXT_PRE_SHARED_KEY = 41;
const EXT_SUPPORTED_VERSIONS = 43;
const EXT_KEY_SHARE = 51;
/** A DNS name has at most 253 characters; some clients send more. */
const MAX_NAME = 512;
const MAX_ALPN = 1024;

/** Random of a ServerHello that is a HelloRetryRequest: SHA-256 of that name. */
const RETRY_RANDOM = Uint8Array.from(
  'cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c'.match(/../g) ?? [],
  (byte) => Number.parseInt(byte, 16),
);

/** What carries the handshake: TLS over TCP, QUIC, DTLS. JA4's letters. */
export type HelloTransport = 't' | 'q' | 'd';

/** Nothing seen yet. */
export function emptyTlsInfo(): TlsInfo {
  return {
    ts: 0,
    version: 0,
    cipher: 0,
    curve: 0,
    serverName: undefined,
    alpn: undefined,
    established: false,
    resumed: false,
    history: '',
    lastAlert: -1,
    ja3: undefined,
    ja3s: undefined,
    ja4: undefined,
  };
}

/** What the recognizer keeps of a hello beside what goes into TlsInfo. */
export interface HelloState {
  /** Session id that the client sent, to compare with the server's answer. */
  clientSession: Uint8Array;
  /** Protocols that the client offers, joined by commas. */
  alpnOffer: string | undefined;
  /** The ServerHello was a request for another ClientHello. */
  retry: boolean;
}

export function emptyHelloState(): HelloState {
  return { clientSession: new Uint8Array(0), alpnOffer: undefined, retry: false };
}

/** Reads within u8[at, end) and notes when it would have to go beyond. */
class Cursor {
  readonly u8: Uint8Array;
  at: number;
  end: number;
  ok = true;

  constructor(u8: Uint8Array, at: number, end: number) {
    this.u8 = u8;
    this.at = at;
    this.end = end;
  }

  /** Whether `bytes` more are there. */
  has(bytes: number): boolean {
    if (bytes > this.end - this.at) this.ok = false;
    return this.ok;
  }

  u16(): number {
    if (!this.has(2)) return 0;
    const value = (this.u8[this.at] << 8) | this.u8[this.at + 1];
    this.at += 2;
    return value;
  }

  byte(): number {
    return this.has(1) ? this.u8[this.at++] : 0;
  }

  /** A piece of that many bytes; an empty one when they are not there. */
  piece(bytes: number): Cursor {
    const size = this.has(bytes) ? bytes : 0;
    const piece = new Cursor(this.u8, this.at, this.at + size);
    this.at += size;
    return piece;
  }

  get left(): number {
    return this.end - this.at;
  }

  equals(bytes: Uint8Array): boolean {
    if (this.left !== bytes.length) return false;
    for (let i = 0; i < bytes.length; i++) if (this.u8[this.at + i] !== bytes[i]) return false;
    return true;
  }

  copy(): Uint8Array {
    return this.u8.slice(this.at, this.end);
  }

  /** Numbers of that many bytes to the end, as far as they are wanted. */
  list(width: 1 | 2, out: number[]): void {
    while (this.left >= width && out.length < MAX_LIST) out.push(width === 1 ? this.byte() : this.u16());
  }

  /** Printable ASCII as it is, other bytes as \xNN, as Zeek writes them. */
  text(limit: number): string {
    let out = '';
    const end = Math.min(this.end, this.at + limit);
    for (let i = this.at; i < end; i++) {
      const byte = this.u8[i];
      out +=
        byte > 0x20 && byte < 0x7f ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`;
    }
    return out;
  }
}

function knownVersion(version: number): boolean {
  return (version >= 0x0300 && version <= TLS13) || isDraft13(version) || isDtls(version);
}

/** DTLS 1.0, 1.2 and 1.3. */
function isDtls(version: number): boolean {
  return version === 0xfeff || version === DTLS12 || version === DTLS13;
}

/** Drafts of TLS 1.3 announced themselves as 0x7fNN. */
export function isDraft13(version: number): boolean {
  return version >>> 8 === 0x7f && (version & 0xff) <= 0x50;
}

/** Reads a ClientHello into `info` and `state`; false when it is none. */
export function clientHello(
  u8: Uint8Array,
  offset: number,
  length: number,
  info: TlsInfo,
  state: HelloState,
  transport: HelloTransport = 't',
): boolean {
  const c = new Cursor(u8, offset, offset + length);
  const legacyVersion = c.u16();
  if (!knownVersion(legacyVersion)) return false;
  c.piece(32);
  const session = c.piece(c.byte());
  if (transport === 'd') c.piece(c.byte());
  const ciphers = c.piece(c.u16());
  const compressions = c.piece(c.byte());
  if (!c.ok || session.left > 32 || ciphers.left < 2 || ciphers.left % 2 !== 0 || compressions.left < 1)
    return false;
  state.clientSession = session.copy();
  const offer: ClientOffer = {
    legacyVersion,
    version: legacyVersion,
    ciphers: [],
    extensions: [],
    groups: [],
    pointFormats: [],
    signatures: [],
    hasServerName: false,
    alpn: undefined,
  };
  ciphers.list(2, offer.ciphers);
  const extensions = c.left === 0 ? c.piece(0) : c.piece(c.u16());
  while (c.ok && extensions.ok && extensions.left > 0) {
    const type = extensions.u16();
    const body = extensions.piece(extensions.u16());
    if (offer.extensions.length < MAX_LIST) offer.extensions.push(type);
    clientExtension(type, body, info, state, offer);
    if (!body.ok) return false;
  }
  if (!c.ok || !extensions.ok) return false;
  const prints = clientPrints(offer, transport);
  info.ja3 = prints.ja3;
  info.ja4 = prints.ja4;
  return true;
}

function clientExtension(
  type: number,
  body: Cursor,
  info: TlsInfo,
  state: HelloState,
  offer: ClientOffer,
): void {
  switch (type) {
    case EXT_SERVER_NAME:
      offer.hasServerName = true;
      serverName(body, info);
      break;
    case EXT_ALPN:
      offer.alpn = firstProtocol(body);
      state.alpnOffer = protocols(body) ?? state.alpnOffer;
      break;
    case EXT_GROUPS:
      body.piece(body.u16()).list(2, offer.groups);
      break;
    case EXT_POINT_FORMATS:
      body.piece(body.byte()).list(1, offer.pointFormats);
      break;
    case EXT_SIGNATURES:
      body.piece(body.u16()).list(2, offer.signatures);
      break;
    case EXT_SUPPORTED_VERSIONS: {
      const versions: number[] = [];
      body.piece(body.byte()).list(2, versions);
      const known = versions.filter((version) => !isGrease(version) && knownVersion(version));
      // DTLS counts downwards.
      if (known.length > 0)
        offer.version = isDtls(known[0]) ? Math.min(...known) : Math.max(...known.map(released));
      break;
    }
    default:
  }
}

/** Drafts count as what they became. */
function released(version: number): number {
  return isDraft13(version) ? TLS13 : version;
}

/** The first entry of a list of protocols; the cursor stays where it is. */
function firstProtocol(body: Cursor): Uint8Array | undefined {
  if (body.left < 3) return undefined;
  const size = body.u8[body.at + 2];
  return size === 0 || size + 3 > body.left ? undefined : body.u8.slice(body.at + 3, body.at + 3 + size);
}

/** Reads a ServerHello into `info` and `state`; false when it is none. */
export function serverHello(
  u8: Uint8Array,
  offset: number,
  length: number,
  info: TlsInfo,
  state: HelloState,
): boolean {
  const c = new Cursor(u8, offset, offset + length);
  const legacy = c.u16();
  if (!knownVersion(legacy)) return false;
  state.retry = c.piece(32).equals(RETRY_RANDOM);
  let version = legacy;
  let resumed = false;
  let cipher: number;
  if (isDraft13(legacy)) {
    // Until draft 21 there was neither session nor compression method.
    cipher = c.u16();
  } else {
    const session = c.piece(c.byte());
    if (session.left > 32) return false;
    resumed = session.left > 0 && session.equals(state.clientSession);
    cipher = c.u16();
    c.byte();
  }
  const extensions = c.left === 0 ? c.piece(0) : c.piece(c.u16());
  const types: number[] = [];
  let preShared = false;
  while (c.ok && extensions.ok && extensions.left > 0) {
    const type = extensions.u16();
    const body = extensions.piece(extensions.u16());
    if (types.length < MAX_LIST) types.push(type);
    if (type === EXT_SUPPORTED_VERSIONS) version = body.u16();
    else if (type === EXT_KEY_SHARE) info.curve = body.u16();
    else if (type === EXT_PRE_SHARED_KEY) preShared = true;
    else if (type === EXT_ALPN) info.alpn = protocols(body, 1) ?? info.alpn;
    if (!body.ok) return false;
  }
  if (!c.ok || !extensions.ok || !knownVersion(version)) return false;
  info.version = released(version);
  info.cipher = cipher;
  // A TLS 1.3 server echoes whatever session the client sent.
  info.resumed = info.version === TLS13 || info.version === DTLS13 ? preShared : resumed;
  info.ja3s = ja3s(legacy, cipher, types);
  return true;
}

function serverName(body: Cursor, info: TlsInfo): void {
  // A server, or a client that wants to be told, sends an empty one.
  if (body.left === 0) return;
  let named = false;
  const list = body.piece(body.u16());
  while (list.ok && list.left > 0) {
    const type = list.byte();
    const name = list.piece(list.u16());
    if (type === 0 && name.left > 0 && !named) {
      info.serverName = name.text(MAX_NAME);
      named = true;
    }
  }
  if (!list.ok) body.ok = false;
}

/** The names of a list, at most so many, joined by commas. */
function protocols(body: Cursor, most = MAX_ALPN): string | undefined {
  const list = body.piece(body.u16());
  const names: string[] = [];
  let total = 0;
  while (list.ok && list.left > 0 && total < MAX_ALPN) {
    const name = list.piece(list.byte());
    total += name.left + 1;
    if (names.length < most) names.push(name.text(255));
  }
  if (!list.ok) body.ok = false;
  return names.length === 0 ? undefined : names.join(',');
}
