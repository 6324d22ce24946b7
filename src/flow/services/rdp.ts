import { find, isAt, u16be, u16le, u32be, u32le } from './bytes.ts';
import { bySide, never, oneOf } from './choice.ts';
import { BAD_HEADER, FrameParser } from './frames.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';

const TPKT = 3;
const CONNECTION_REQUEST = 0xe0;
const CONNECTION_CONFIRM = 0xd0;
const DATA = 0xf0;
/** Beginning of the part of a connection request or confirm that differs: reference numbers and class before. */
const VARIABLE = 7;
/** RDP Negotiation Request, Response and Failure (MS-RDPBCGR 2.2.1.1 and 2.2.1.2): type, flags, length 8, value. */
const NEGOTIATION_REQUEST = 1;
const NEGOTIATION_RESPONSE = 2;
const NEGOTIATION_FAILURE = 3;
const NEGOTIATION = 8;
const KEEP = 1024;

/** RDP up to where encryption begins: X.224 connection with negotiation, or the conference of standard security. */
class RdpParser extends FrameParser {
  /** The client's request is one that only RDP has. */
  #requested = false;
  #conference = false;

  constructor() {
    super(KEEP);
  }

  protected headerBytes(): number {
    return 4;
  }

  protected header(_fromOrig: 0 | 1, u8: Uint8Array): number {
    const length = u16be(u8, 2);
    return u8[0] !== TPKT || u8[1] !== 0 || length < 7 ? BAD_HEADER : length - 4;
  }

  protected message(fromOrig: 0 | 1, u8: Uint8Array, at: number, kept: number, length: number): number {
    const end = at + kept;
    const type = u8[at + 1] & 0xf0;
    if (u8[at] + 1 > length) return ServiceNews.rejected;
    if (fromOrig === 1 && type === CONNECTION_REQUEST) {
      this.#requested =
        isAt(u8, at + VARIABLE, end, 'Cookie: mst') || negotiation(u8, end, NEGOTIATION_REQUEST) >= 0;
      return 0;
    }
    if (fromOrig === 0 && type === CONNECTION_CONFIRM) {
      if (negotiation(u8, end, NEGOTIATION_FAILURE) >= 0) return this.confirm() | ServiceNews.done;
      const protocol = negotiation(u8, end, NEGOTIATION_RESPONSE);
      if (protocol > 0) return this.confirm() | ServiceNews.handsOver;
      return this.#requested || protocol === 0 ? this.confirm() : 0;
    }
    if (type !== DATA) return ServiceNews.rejected;
    if (fromOrig === 1 && find(u8, at, end, 'Duca') > 0) this.#conference = true;
    if (fromOrig === 0 && this.#conference && find(u8, at, end, 'McDn') > 0)
      return this.confirm() | ServiceNews.done;
    return 0;
  }
}

/** Value of the negotiation that ends a connection request or confirm; -1 when there is none of that type. */
function negotiation(u8: Uint8Array, end: number, type: number): number {
  const at = end - NEGOTIATION;
  return at >= 0 && u8[at] === type && u16le(u8, at + 2) === NEGOTIATION ? u32le(u8, at + 4) : -1;
}

export const RDP: Service = {
  name: 'rdp',
  transport: 'tcp',
  first: oneOf(TPKT),
  looksLike(u8, offset, length, fromOrig) {
    if (u8[offset] !== TPKT || (length > 1 && u8[offset + 1] !== 0)) return false;
    if (length > 2 && u8[offset + 2] > 2) return false;
    const type = fromOrig === 1 ? CONNECTION_REQUEST : CONNECTION_CONFIRM;
    return length < 6 || (u8[offset + 5] & 0xf0) === type;
  },
  parser: (): ServiceParser => new RdpParser(),
};

const SYN = 1;
const ACK = 4;

/** RDP over UDP (MS-RDPEUDP): the SYN of the client, and the server's SYN with ACK. */
class RdpeudpParser implements ServiceParser {
  #syn = false;

  data(fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): number {
    if (length < 8) return ServiceNews.rejected;
    const flags = u16be(u8, offset + 6);
    if (fromOrig === 1) {
      if (this.#syn) return 0;
      this.#syn = (flags & (SYN | ACK)) === SYN && u32be(u8, offset) === 0xffffffff;
      return this.#syn ? 0 : ServiceNews.rejected;
    }
    if (!this.#syn || (flags & (SYN | ACK)) !== (SYN | ACK)) return ServiceNews.rejected;
    return ServiceNews.confirmed | ServiceNews.done;
  }
}

export const RDPEUDP: Service = {
  name: 'rdpeudp',
  transport: 'udp',
  first: bySide(oneOf(0xff), never),
  looksLike(u8, offset, length, fromOrig) {
    if (fromOrig === 0 || length < 64) return false;
    return u32be(u8, offset) === 0xffffffff && (u8[offset + 7] & (SYN | ACK)) === SYN;
  },
  parser: (): ServiceParser => new RdpeudpParser(),
};
