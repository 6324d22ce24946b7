import { u32le } from './bytes.ts';
import { oneOf } from './choice.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';

/** Messages (WireGuard protocol, section 5.4): type and three zeros, and their lengths. */
const INITIATION = 1;
const INITIATION_LENGTH = 148;
const RESPONSE = 2;
const RESPONSE_LENGTH = 92;
const COOKIE = 3;
const COOKIE_LENGTH = 64;

/** WireGuard: confirmed by an answer to the handshake that names its sender. */
class WireguardParser implements ServiceParser {
  /** Index that the sender of the last initiation has given itself, and its side. */
  #index = -1;
  #from: 0 | 1 = 1;

  data(fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): number {
    const type = u32le(u8, offset);
    if (type === INITIATION && length === INITIATION_LENGTH) {
      this.#index = u32le(u8, offset + 4);
      this.#from = fromOrig;
      return 0;
    }
    if (fromOrig === this.#from || this.#index < 0) return ServiceNews.rejected;
    const answers =
      (type === RESPONSE && length === RESPONSE_LENGTH && u32le(u8, offset + 8) === this.#index) ||
      (type === COOKIE && length === COOKIE_LENGTH && u32le(u8, offset + 4) === this.#index);
    return answers ? ServiceNews.confirmed | ServiceNews.done : ServiceNews.rejected;
  }
}

export const WIREGUARD: Service = {
  name: 'wireguard',
  transport: 'udp',
  first: oneOf(INITIATION),
  looksLike: (u8, offset, length) => length === INITIATION_LENGTH && u32le(u8, offset) === INITIATION,
  parser: (): ServiceParser => new WireguardParser(),
};
