import { hash } from 'node:crypto';

/** Lists longer than this are cut: a hello has at most a few dozen of anything. */
export const MAX_LIST = 128;

/** What a ClientHello offers, in its order, as the fingerprints need it. */
export interface ClientOffer {
  /** Of the hello itself, and the highest that it supports. */
  legacyVersion: number;
  version: number;
  ciphers: number[];
  extensions: number[];
  groups: number[];
  pointFormats: number[];
  signatures: number[];
  hasServerName: boolean;
  /** First protocol of ALPN. */
  alpn: Uint8Array | undefined;
}

/** RFC 8701: values that only keep others from ossifying. */
export function isGrease(value: number): boolean {
  return (value & 0x0f0f) === 0x0a0a && value >>> 8 === (value & 0xff);
}

function dashed(values: readonly number[]): string {
  return values.filter((value) => !isGrease(value)).join('-');
}

function md5(text: string): string {
  return hash('md5', text);
}

function short(text: string): string {
  return text === '' ? '000000000000' : hash('sha256', text).slice(0, 12);
}

/** Hellos that are remembered: clients are of a few hundred kinds, and begin many connections each. */
const MAX_REMEMBERED = 4096;

/** A map that forgets all when it is full: who sends ever new hellos has them computed, as if there were none. */
class Remembered<T> {
  readonly #made = new Map<string, T>();

  get(key: string): T | undefined {
    return this.#made.get(key);
  }

  put(key: string, value: T): T {
    if (this.#made.size >= MAX_REMEMBERED) this.#made.clear();
    this.#made.set(key, value);
    return value;
  }
}

/** Fingerprints of a ClientHello. */
export interface ClientPrints {
  readonly ja3: string;
  readonly ja4: string;
}

const clients = new Remembered<ClientPrints>();
const servers = new Remembered<string>();
const scratch: number[] = [];

function listed(values: readonly number[]): void {
  scratch.push(values.length);
  for (let i = 0; i < values.length; i++) scratch.push(values[i]);
}

/** All that JA3 and JA4 depend on, 16 bits each: no two offers that differ in it have one text. */
function offerKey(offer: ClientOffer, transport: 't' | 'q' | 'd'): string {
  const { alpn } = offer;
  scratch.length = 0;
  scratch.push(
    transport.charCodeAt(0),
    offer.legacyVersion,
    offer.version,
    offer.hasServerName ? 1 : 0,
    alpn === undefined ? 0 : alpn.length,
    alpn === undefined || alpn.length === 0 ? 0 : (alpn[0] << 8) | alpn[alpn.length - 1],
  );
  listed(offer.ciphers);
  listed(offer.extensions);
  listed(offer.groups);
  listed(offer.pointFormats);
  listed(offer.signatures);
  return String.fromCharCode(...scratch);
}

/** JA3 and JA4, remembered for the next connection of such a client. */
export function clientPrints(offer: ClientOffer, transport: 't' | 'q' | 'd'): ClientPrints {
  const key = offerKey(offer, transport);
  return clients.get(key) ?? clients.put(key, { ja3: ja3(offer), ja4: ja4(offer, transport) });
}

/** JA3: MD5 of version, ciphers, extensions, groups and point formats. */
export function ja3(offer: ClientOffer): string {
  const { legacyVersion, ciphers, extensions, groups, pointFormats } = offer;
  return md5(
    `${legacyVersion},${dashed(ciphers)},${dashed(extensions)},${dashed(groups)},${pointFormats.join('-')}`,
  );
}

/** JA3S: the same of a ServerHello. */
export function ja3s(legacyVersion: number, cipher: number, extensions: readonly number[]): string {
  const text = `${legacyVersion},${cipher},${extensions.join('-')}`;
  return servers.get(text) ?? servers.put(text, md5(text));
}

const VERSIONS = new Map([
  [0x0304, '13'],
  [0x0303, '12'],
  [0x0302, '11'],
  [0x0301, '10'],
  [0x0300, 's3'],
  [0x0002, 's2'],
  [0xfeff, 'd1'],
  [0xfefd, 'd2'],
  [0xfefc, 'd3'],
]);

function hex4(value: number): string {
  return value.toString(16).padStart(4, '0');
}

function count(values: readonly number[]): string {
  return String(Math.min(99, values.length)).padStart(2, '0');
}

function isAlphanumeric(byte: number): boolean {
  return (byte >= 0x30 && byte <= 0x39) || (byte >= 0x41 && byte <= 0x5a) || (byte >= 0x61 && byte <= 0x7a);
}

/** First and last character of the first protocol; of one that is no text the first and last hexadecimal digit. */
function alpnMark(alpn: Uint8Array | undefined): string {
  if (alpn === undefined || alpn.length === 0) return '00';
  const first = alpn[0];
  const last = alpn[alpn.length - 1];
  if (isAlphanumeric(first) && isAlphanumeric(last)) return String.fromCharCode(first, last);
  return (first >>> 4).toString(16) + (last & 15).toString(16);
}

/** JA4 (FoxIO): `transport` is t for TCP, q for QUIC, d for DTLS. */
export function ja4(offer: ClientOffer, transport: 't' | 'q' | 'd'): string {
  const ciphers = offer.ciphers.filter((value) => !isGrease(value));
  const extensions = offer.extensions.filter((value) => !isGrease(value));
  const sorted = extensions
    .filter((value) => value !== 0x0000 && value !== 0x0010)
    .map(hex4)
    .sort();
  const signatures = offer.signatures.filter((value) => !isGrease(value)).map(hex4);
  const hashed =
    sorted.length === 0 ? '' : sorted.join(',') + (signatures.length > 0 ? `_${signatures.join(',')}` : '');
  return (
    transport +
    (VERSIONS.get(offer.version) ?? '00') +
    (offer.hasServerName ? 'd' : 'i') +
    count(ciphers) +
    count(extensions) +
    alpnMark(offer.alpn) +
    `_${short(ciphers.map(hex4).sort().join(','))}_${short(hashed)}`
  );
}
