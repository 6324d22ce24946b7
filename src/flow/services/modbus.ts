import { u16be } from './bytes.ts';
import { BAD_HEADER, FrameParser } from './frames.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';

/** Transaction, protocol 0, length; then unit and function. */
const HEADER = 6;
const MAX_LENGTH = 254;
const KEEP = 16;
const EXCEPTION = 0x80;
/** Length of requests that have always the same, from the unit on, by function code. */
const REQUEST_LENGTH = new Map([
  [1, 6],
  [2, 6],
  [3, 6],
  [4, 6],
  [5, 6],
  [6, 6],
  [7, 2],
  [11, 2],
  [12, 2],
  [17, 2],
  [22, 8],
  [24, 4],
]);
/** Other functions (Modbus Application Protocol 1.1b), and those of vendors. */
const OTHERS = new Set([8, 9, 10, 13, 14, 15, 16, 18, 19, 20, 21, 23, 40, 43, 90, 125, 126, 127]);

function isRequest(code: number, length: number): boolean {
  return REQUEST_LENGTH.get(code) === length || (OTHERS.has(code) && length >= 2);
}

function isFunction(code: number): boolean {
  const bare = code & 0x7f;
  return REQUEST_LENGTH.has(bare) || OTHERS.has(bare);
}

/** Modbus over TCP: without a mark of its own, so confirmed by a response that fits a request. */
class ModbusParser extends FrameParser {
  /** Transaction of the message that a side is sending. */
  readonly #sending: [number, number] = [0, 0];
  #transaction = -1;
  #code = 0;

  constructor() {
    super(KEEP);
  }

  protected headerBytes(): number {
    return HEADER;
  }

  protected header(fromOrig: 0 | 1, u8: Uint8Array): number {
    this.#sending[fromOrig] = u16be(u8, 0);
    const length = u16be(u8, 4);
    return u16be(u8, 2) !== 0 || length < 2 || length > MAX_LENGTH ? BAD_HEADER : length;
  }

  protected message(fromOrig: 0 | 1, u8: Uint8Array, at: number, _kept: number, length: number): number {
    const code = u8[at + 1];
    const transaction = this.#sending[fromOrig];
    if (this.sure) return isFunction(code) ? 0 : ServiceNews.rejected;
    if (fromOrig === 1) {
      if (!isRequest(code, length)) return ServiceNews.rejected;
      this.#transaction = transaction;
      this.#code = code;
      return 0;
    }
    if (!isFunction(code) || ((code & EXCEPTION) !== 0 && length !== 3)) return ServiceNews.rejected;
    return transaction === this.#transaction && (code & 0x7f) === this.#code ? this.confirm() : 0;
  }
}

export const MODBUS: Service = {
  name: 'modbus',
  transport: 'tcp',
  first: (_byte, fromOrig) => fromOrig === 1,
  looksLike(u8, offset, length, fromOrig) {
    if (fromOrig === 0) return false;
    if ((length > 2 && u8[offset + 2] !== 0) || (length > 3 && u8[offset + 3] !== 0)) return false;
    if (length > 4 && u8[offset + 4] !== 0) return false;
    if (length > 5 && (u8[offset + 5] < 2 || u8[offset + 5] > MAX_LENGTH)) return false;
    return length < 8 || isRequest(u8[offset + 7], u8[offset + 5]);
  },
  parser: (): ServiceParser => new ModbusParser(),
};
