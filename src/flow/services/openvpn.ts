import { isAt, u16be } from './bytes.ts';
import { bySide, never, oneOf } from './choice.ts';
import { BAD_HEADER, FrameParser } from './frames.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';

/** First byte: operation in the upper five bits, key 0. Resets of the client (version 2 and 3) and of the server. */
const CLIENT_RESET = 0x38;
const CLIENT_RESET_3 = 0x50;
const SERVER_RESET = 0x40;
const SESSION = 8;
/** Operation, session, packet counter of no acknowledgement: what the shortest reset has. */
const MIN_RESET = 14;
/** With a key shared before, the session is encrypted; a reset has a counter, a time and a tag then. */
const MIN_WRAPPED = 54;
const MAX_RESET = 400;
/** Where the server names the client's session: behind acknowledgements, tag and counters. */
const KEEP = 128;

/** What both transports share: the reset of the server has to follow that of the client and name its session. */
class Resets {
  #session = '';
  #wrapped = false;

  message(fromOrig: 0 | 1, u8: Uint8Array, at: number, kept: number, length: number): number {
    if (fromOrig === 1) {
      if (!isClientReset(u8[at], length)) return ServiceNews.rejected;
      this.#wrapped = length >= MIN_WRAPPED;
      this.#session = String.fromCharCode(...u8.subarray(at + 1, at + 1 + SESSION));
      return 0;
    }
    if (this.#session === '' || u8[at] !== SERVER_RESET || length < MIN_RESET || length > MAX_RESET)
      return ServiceNews.rejected;
    for (let i = 1 + SESSION; i + SESSION <= kept; i++)
      if (isAt(u8, at + i, at + kept, this.#session)) return ServiceNews.confirmed | ServiceNews.done;
    return this.#wrapped && length >= MIN_WRAPPED
      ? ServiceNews.confirmed | ServiceNews.done
      : ServiceNews.rejected;
  }
}

function isClientReset(first: number, length: number): boolean {
  return (first === CLIENT_RESET || first === CLIENT_RESET_3) && length >= MIN_RESET && length <= MAX_RESET;
}

class OpenvpnTcp extends FrameParser {
  readonly #resets = new Resets();

  constructor() {
    super(KEEP);
  }

  protected headerBytes(): number {
    return 2;
  }

  protected header(_fromOrig: 0 | 1, u8: Uint8Array): number {
    const length = u16be(u8, 0);
    return length < MIN_RESET || length > MAX_RESET ? BAD_HEADER : length;
  }

  protected message(fromOrig: 0 | 1, u8: Uint8Array, at: number, kept: number, length: number): number {
    return this.#resets.message(fromOrig, u8, at, kept, length);
  }
}

class OpenvpnUdp implements ServiceParser {
  readonly #resets = new Resets();

  data(fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): number {
    return this.#resets.message(fromOrig, u8, offset, Math.min(length, KEEP), length);
  }
}

export const OPENVPN_TCP: Service = {
  name: 'openvpn',
  transport: 'tcp',
  first: bySide(oneOf(0, 1), never),
  looksLike(u8, offset, length, fromOrig) {
    if (fromOrig === 0 || u8[offset] > MAX_RESET >>> 8) return false;
    if (length < 3) return true;
    // A reset is alone in the first segment.
    const size = u16be(u8, offset);
    return length <= size + 2 && isClientReset(u8[offset + 2], size);
  },
  parser: (): ServiceParser => new OpenvpnTcp(),
};

export const OPENVPN_UDP: Service = {
  name: 'openvpn',
  transport: 'udp',
  first: bySide(oneOf(CLIENT_RESET, CLIENT_RESET_3), never),
  looksLike: (u8, offset, length, fromOrig) => fromOrig === 1 && isClientReset(u8[offset], length),
  parser: (): ServiceParser => new OpenvpnUdp(),
};
