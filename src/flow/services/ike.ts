import { u32be } from './bytes.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';

const HEADER = 28;
const NAT_PORT = 4500;
/** On port 4500 four zero bytes tell IKE from ESP (RFC 3948). */
const MARKER = 4;
const KEEPALIVE = 0xff;
/** Exchanges of version 1 (RFC 2408) and version 2 (RFC 7296, with what was added). */
const V1 = new Set([1, 2, 3, 4, 5, 6, 32, 33]);
const MIN_V2 = 34;
const MAX_V2 = 44;
/** ESP has no mark of its own: so many packets of a side with the same index and rising numbers are taken for it. */
const ESP_PACKETS = 3;
const MIN_ESP = 28;
const MAX_STEP = 64;

/** Whether u8[offset, offset + length) is an ISAKMP message: header, and the length that it gives. */
function isIke(u8: Uint8Array, offset: number, length: number): boolean {
  if (length < HEADER || u32be(u8, offset + 24) !== length) return false;
  const version = u8[offset + 17];
  const exchange = u8[offset + 18];
  const known =
    version === 0x10 ? V1.has(exchange) : version === 0x20 && exchange >= MIN_V2 && exchange <= MAX_V2;
  return known && (u32be(u8, offset) !== 0 || u32be(u8, offset + 4) !== 0);
}

function isMarked(u8: Uint8Array, offset: number, length: number): boolean {
  return length > MARKER && u32be(u8, offset) === 0;
}

/** IKE on any port, and ESP in UDP where NAT is passed. */
class IkeParser implements ServiceParser {
  readonly inside: string[] = [];
  readonly #index: [number, number] = [0, 0];
  readonly #number: [number, number] = [0, 0];
  readonly #count: [number, number] = [0, 0];
  #confirmed = false;

  data(fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): number {
    const marker = isMarked(u8, offset, length) ? MARKER : 0;
    if (isIke(u8, offset + marker, length - marker)) {
      if (this.#confirmed) return 0;
      this.#confirmed = true;
      return ServiceNews.confirmed;
    }
    if (length === 1 && u8[offset] === KEEPALIVE) return 0;
    if (length < MIN_ESP || marker > 0) return this.#confirmed ? 0 : ServiceNews.rejected;
    return this.#esp(fromOrig, u32be(u8, offset), u32be(u8, offset + 4));
  }

  #esp(fromOrig: 0 | 1, index: number, number: number): number {
    const step = number - this.#number[fromOrig];
    const follows = index === this.#index[fromOrig] && step > 0 && step <= MAX_STEP;
    this.#index[fromOrig] = index;
    this.#number[fromOrig] = number;
    this.#count[fromOrig] = follows ? this.#count[fromOrig] + 1 : 1;
    if (this.#count[fromOrig] < ESP_PACKETS) return 0;
    this.inside.push('esp');
    return ServiceNews.done;
  }
}

export const IKE: Service = {
  name: 'ike',
  transport: 'udp',
  looksLike(u8, offset, length, _fromOrig, respPort) {
    const marker = isMarked(u8, offset, length) ? MARKER : 0;
    if (isIke(u8, offset + marker, length - marker)) return true;
    if (respPort !== NAT_PORT) return false;
    return (length === 1 && u8[offset] === KEEPALIVE) || (length >= MIN_ESP && u32be(u8, offset) > 255);
  },
  parser: (): ServiceParser => new IkeParser(),
};
