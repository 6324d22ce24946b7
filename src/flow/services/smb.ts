import { u16le, u32be, u32le } from './bytes.ts';
import { oneOf } from './choice.ts';
import { looksLikeDceRpc } from './dce-rpc.ts';
import { BAD_HEADER, FrameParser } from './frames.ts';
import { nameToken } from './gssapi.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';

const SMB1 = 0xff534d42;
const SMB2 = 0xfe534d42;
/** Encrypted and compressed SMB 3. */
const TRANSFORM = 0xfd534d42;
const COMPRESSED = 0xfc534d42;
/** Zeek is sure after three pieces that could be read. */
const MESSAGES = 3;
const KEEP = 4096;

const SMB1_HEADER = 32;
const SMB1_TRANSACTION = 0x25;
const SMB1_NEGOTIATE = 0x72;
const SMB1_SESSION_SETUP = 0x73;
const SMB2_HEADER = 64;
const SMB2_NEGOTIATE = 0;
const SMB2_SESSION_SETUP = 1;
const SMB2_WRITE = 9;
const SMB2_IOCTL = 11;
const SERVER_TO_CLIENT = 1;
const PIPE_TRANSCEIVE = 0x0011c017;

/** SMB 1 to 3 over TCP, direct or in NetBIOS sessions; names what authenticates in it, and DCE/RPC over pipes. */
class SmbParser extends FrameParser {
  readonly inside: string[] = [];
  #messages = 0;
  /** The message whose header a side has sent is one of SMB. */
  readonly #session: [boolean, boolean] = [false, false];

  constructor() {
    super(KEEP);
  }

  protected headerBytes(): number {
    return 4;
  }

  protected header(fromOrig: 0 | 1, u8: Uint8Array): number {
    // Session message, or what sets up and keeps a NetBIOS session.
    if (u8[0] !== 0 && (u8[0] < 0x81 || u8[0] > 0x85)) return BAD_HEADER;
    const length = (u8[1] << 16) | (u8[2] << 8) | u8[3];
    this.#session[fromOrig] = u8[0] === 0;
    return u8[0] === 0 && length < 4 ? BAD_HEADER : length;
  }

  protected message(fromOrig: 0 | 1, u8: Uint8Array, at: number, kept: number, _length: number): number {
    if (!this.#session[fromOrig]) return 0;
    const end = at + kept;
    const magic = u32be(u8, at);
    if (magic === SMB1) {
      if (kept < SMB1_HEADER) return ServiceNews.rejected;
      this.#smb1(fromOrig, u8, at, end);
    } else if (magic === SMB2) {
      if (kept < SMB2_HEADER || u16le(u8, at + 4) !== SMB2_HEADER) return ServiceNews.rejected;
      this.#smb2(u8, at, end);
    } else if (magic !== TRANSFORM && magic !== COMPRESSED) {
      return ServiceNews.rejected;
    }
    return ++this.#messages >= MESSAGES ? this.confirm() : 0;
  }

  /** MS-SMB 2.2.4: the security blob of negotiation and session setup, and transactions on pipes. */
  #smb1(fromOrig: 0 | 1, u8: Uint8Array, at: number, end: number): void {
    const command = u8[at + 4];
    const words = at + SMB1_HEADER + 1;
    const count = u8[words - 1];
    const bytes = words + count * 2 + 2;
    if (words + count * 2 + 2 > end) return;
    if (command === SMB1_SESSION_SETUP && fromOrig === 1 && count === 12)
      this.#token(u8, bytes, u16le(u8, words + 14), end);
    else if (command === SMB1_SESSION_SETUP && fromOrig === 0 && count === 4)
      this.#token(u8, bytes, u16le(u8, words + 6), end);
    else if (command === SMB1_NEGOTIATE && fromOrig === 0 && count === 17)
      this.#token(u8, bytes + 16, end - bytes - 16, end);
    else if (command === SMB1_TRANSACTION && fromOrig === 1 && count >= 14)
      this.#pipe(u8, at + u16le(u8, words + 24), end);
  }

  /** MS-SMB2 2.2.3 to 2.2.6, 2.2.21 and 2.2.31: where the messages say that their buffers are. */
  #smb2(u8: Uint8Array, at: number, end: number): void {
    const command = u16le(u8, at + 12);
    const response = (u8[at + 16] & SERVER_TO_CLIENT) !== 0;
    const body = at + SMB2_HEADER;
    if (body + 64 > end && command === SMB2_NEGOTIATE) return;
    if (body + 32 > end && command > SMB2_SESSION_SETUP) return;
    if (body + 16 > end) return;
    if (command === SMB2_NEGOTIATE && response)
      this.#token(u8, at + u16le(u8, body + 56), u16le(u8, body + 58), end);
    else if (command === SMB2_SESSION_SETUP && response)
      this.#token(u8, at + u16le(u8, body + 4), u16le(u8, body + 6), end);
    else if (command === SMB2_SESSION_SETUP)
      this.#token(u8, at + u16le(u8, body + 12), u16le(u8, body + 14), end);
    else if (command === SMB2_WRITE && !response) this.#pipe(u8, at + u16le(u8, body + 2), end);
    else if (command === SMB2_IOCTL && !response && u32le(u8, body + 4) === PIPE_TRANSCEIVE)
      this.#pipe(u8, at + u32le(u8, body + 24), end);
  }

  #token(u8: Uint8Array, from: number, length: number, end: number): void {
    if (length > 0 && from < end) nameToken(u8, from, Math.min(end, from + length), this.inside);
  }

  #pipe(u8: Uint8Array, from: number, end: number): void {
    if (
      from < end &&
      end - from >= 16 &&
      looksLikeDceRpc(u8, from, end - from) &&
      !this.inside.includes('dce_rpc')
    )
      this.inside.push('dce_rpc');
  }
}

export const SMB: Service = {
  name: 'smb',
  transport: 'tcp',
  first: oneOf(0, 0x81, 0x82),
  looksLike(u8, offset, length) {
    if (u8[offset] !== 0) return u8[offset] === 0x81 || u8[offset] === 0x82;
    if (length > 4 && u8[offset + 4] < 0xfc) return false;
    if (length > 5 && u8[offset + 5] !== 0x53) return false;
    if (length > 6 && u8[offset + 6] !== 0x4d) return false;
    return length < 8 || u8[offset + 7] === 0x42;
  },
  parser: (): ServiceParser => new SmbParser(),
};
