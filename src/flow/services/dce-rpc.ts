import { u16be, u16le } from './bytes.ts';
import { oneOf } from './choice.ts';
import { BAD_HEADER, FrameParser } from './frames.ts';
import { nameToken } from './gssapi.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';

const VERSION = 5;
const HEADER = 16;
const MAX_TYPE = 19;
/** Begins a session, and alters it; request; response; refusal. */
const BIND = 11;
const ALTER = 14;
const BIND_ACK = 12;
const KEEP = 8192;
const TRAILER = 8;

/** DCE/RPC over TCP (C706 chapter 12), connection-oriented; names what authenticates in it (MS-RPCE 2.2.2.11). */
class DceRpcParser extends FrameParser {
  readonly inside: string[] = [];
  /** Of the PDU that a side is sending: type, and length of the authentication token. */
  readonly #type: [number, number] = [0, 0];
  readonly #auth: [number, number] = [0, 0];

  constructor() {
    super(KEEP);
  }

  protected headerBytes(): number {
    return HEADER;
  }

  protected header(fromOrig: 0 | 1, u8: Uint8Array): number {
    if (!looksLikeDceRpc(u8, 0, HEADER)) return BAD_HEADER;
    const u16 = u8[4] >>> 4 === 1 ? u16le : u16be;
    const length = u16(u8, 8);
    this.#type[fromOrig] = u8[2];
    this.#auth[fromOrig] = u16(u8, 10);
    return length < HEADER || this.#auth[fromOrig] > length - HEADER ? BAD_HEADER : length - HEADER;
  }

  protected message(fromOrig: 0 | 1, u8: Uint8Array, at: number, kept: number, length: number): number {
    const type = this.#type[fromOrig];
    const auth = this.#auth[fromOrig];
    const request = type === BIND || type === ALTER;
    if (!this.sure && request !== (fromOrig === 1)) return ServiceNews.rejected;
    const token = at + length - auth;
    if (auth > 0 && kept === length && token - at >= TRAILER && type >= BIND)
      nameToken(u8, token, at + kept, this.inside);
    return this.confirm();
  }
}

/** The common header of a PDU: version 5.0 or 5.1, type, flags, and ASCII, little or big endian. */
export function looksLikeDceRpc(u8: Uint8Array, offset: number, length: number): boolean {
  if (u8[offset] !== VERSION || (length > 1 && u8[offset + 1] > 1)) return false;
  if (length > 2 && u8[offset + 2] > MAX_TYPE) return false;
  if (length > 4 && u8[offset + 4] !== 0x10 && u8[offset + 4] !== 0) return false;
  for (let i = 5; i < 8 && i < length; i++) if (u8[offset + i] !== 0) return false;
  return true;
}

export const DCE_RPC: Service = {
  name: 'dce_rpc',
  transport: 'tcp',
  first: oneOf(VERSION),
  looksLike(u8, offset, length, fromOrig) {
    if (!looksLikeDceRpc(u8, offset, length)) return false;
    if (length < 3) return true;
    return u8[offset + 2] === (fromOrig === 1 ? BIND : BIND_ACK) || u8[offset + 2] === ALTER;
  },
  parser: (): ServiceParser => new DceRpcParser(),
};
