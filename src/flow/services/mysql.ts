import { u32le } from './bytes.ts';
import { BAD_HEADER, FrameParser } from './frames.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';

const CLIENT_PROTOCOL_41 = 0x200;
const CLIENT_SSL = 0x800;
/** Length of the packet that asks for TLS and has nothing else. */
const SSL_REQUEST = 32;
const KEEP = 128;
const MAX_GREETING = 1024;
const MAX_RESPONSE = 1 << 16;
const MAX_VERSION = 80;

/** The handshake of MySQL and its likes: the server's greeting, the client's answer with or without TLS. */
class MysqlParser extends FrameParser {
  #greeted = false;
  #version = 0;

  constructor() {
    super(KEEP);
  }

  protected headerBytes(): number {
    return 4;
  }

  protected header(fromOrig: 0 | 1, u8: Uint8Array): number {
    const length = u8[0] | (u8[1] << 8) | (u8[2] << 16);
    if (fromOrig === 1) return u8[3] !== 1 || length < 5 || length > MAX_RESPONSE ? BAD_HEADER : length;
    return u8[3] !== 0 || this.#greeted || length < 10 || length > MAX_GREETING ? BAD_HEADER : length;
  }

  protected message(fromOrig: 0 | 1, u8: Uint8Array, at: number, kept: number, length: number): number {
    if (fromOrig === 0) {
      this.#greeted = true;
      this.#version = u8[at];
      if ((this.#version !== 10 && this.#version !== 9) || !isVersion(u8, at + 1, at + kept))
        return ServiceNews.rejected;
      return 0;
    }
    if (!this.#greeted) return ServiceNews.rejected;
    const news = this.confirm();
    const flags = u32le(u8, at);
    if (this.#version === 10 && (flags & CLIENT_SSL) !== 0) {
      const modern = (flags & CLIENT_PROTOCOL_41) !== 0;
      if (length === SSL_REQUEST || !modern) return news | ServiceNews.handsOver;
    }
    return news | ServiceNews.done;
  }
}

/** Printable text that ends with NUL. */
function isVersion(u8: Uint8Array, at: number, end: number): boolean {
  for (let i = at; i < end && i < at + MAX_VERSION; i++) {
    if (u8[i] === 0) return i > at;
    if (u8[i] < 0x20 || u8[i] > 0x7e) return false;
  }
  return false;
}

export const MYSQL: Service = {
  name: 'mysql',
  transport: 'tcp',
  first: (_byte, fromOrig) => fromOrig === 0,
  looksLike(u8, offset, length, fromOrig) {
    if (fromOrig === 1) return false;
    if (length > 1 && u8[offset + 1] > 3) return false;
    if (length > 2 && u8[offset + 2] !== 0) return false;
    if (length > 3 && u8[offset + 3] !== 0) return false;
    if (length > 4 && u8[offset + 4] !== 10 && u8[offset + 4] !== 9) return false;
    return length < 6 || (u8[offset + 5] >= 0x20 && u8[offset + 5] <= 0x7e);
  },
  parser: (): ServiceParser => new MysqlParser(),
};
