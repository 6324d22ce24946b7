import { type Service, ServiceNews, type ServiceParser } from './service.ts';

/** RFC 5905, section 7.3; modes 6 and 7: RFC 9327. */
const PORT = 123;
const HEADER = 48;
const CLIENT = 3;
const SERVER = 4;
const CONTROL = 6;
const CONTROL_HEADER = 12;
const PRIVATE_HEADER = 8;
const ORIGIN = 24;
const TRANSMIT = 40;
const MAX_STRATUM = 16;

/** Version 1 to 4, and a mode. */
function isFirst(byte: number): boolean {
  const version = (byte >>> 3) & 7;
  return version >= 1 && version <= 4 && (byte & 7) !== 0;
}

function isMessage(u8: Uint8Array, offset: number, length: number, hinted: boolean): boolean {
  if (length < PRIVATE_HEADER) return false;
  if (!isFirst(u8[offset])) return false;
  const version = (u8[offset] >>> 3) & 7;
  const mode = u8[offset] & 7;
  if (mode > SERVER + 1) {
    if (!hinted) return false;
    const size = mode === CONTROL ? CONTROL_HEADER : PRIVATE_HEADER;
    return length >= size;
  }
  if (length < HEADER || length % 4 !== 0) return false;
  if (hinted) return true;
  return version >= 3 && (mode === CLIENT || mode === SERVER) && u8[offset + 1] <= MAX_STRATUM;
}

/** NTP: on its port one message is enough; elsewhere a server has to answer with the time stamp of the question. */
class NtpParser implements ServiceParser {
  readonly #hinted: boolean;
  #asked: Uint8Array | undefined;

  constructor(hinted: boolean) {
    this.#hinted = hinted;
  }

  data(fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): number {
    if (!isMessage(u8, offset, length, this.#hinted)) return ServiceNews.rejected;
    const mode = u8[offset] & 7;
    if (this.#hinted) {
      // A server does not begin.
      const flip = mode === SERVER && fromOrig === 1 ? ServiceNews.flip : 0;
      return ServiceNews.confirmed | ServiceNews.done | flip;
    }
    if (mode === CLIENT) {
      this.#asked = u8.slice(offset + TRANSMIT, offset + HEADER);
      return 0;
    }
    const asked = this.#asked;
    if (asked === undefined) return ServiceNews.rejected;
    let zero = true;
    for (let i = 0; i < asked.length; i++) {
      if (asked[i] !== u8[offset + ORIGIN + i]) return ServiceNews.rejected;
      if (asked[i] !== 0) zero = false;
    }
    return zero ? ServiceNews.rejected : ServiceNews.confirmed | ServiceNews.done;
  }
}

const HINTED = new NtpParser(true);

export const NTP: Service = {
  name: 'ntp',
  transport: 'udp',
  first: isFirst,
  looksLike: (u8, offset, length, _fromOrig, respPort) => isMessage(u8, offset, length, respPort === PORT),
  parser: (respPort) => (respPort === PORT ? HINTED : new NtpParser(false)),
};
