import { Ber } from './ber.ts';
import { u32be } from './bytes.ts';
import { oneOf } from './choice.ts';
import { BAD_HEADER, FrameParser } from './frames.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';

const SEQUENCE = 0x30;
const INTEGER = 2;
const VERSION = 5;
const KEEP = 64;
const MAX_MESSAGE = 1 << 20;
/** Tags of messages, application class, whose version is the first field; that of requests to the KDC is the second. */
const MESSAGES = new Set([0x6b, 0x6d, 0x6e, 0x6f, 0x74, 0x75, 0x76, 0x7e]);
const KDC_REQUESTS = new Set([0x6a, 0x6c]);

/** Whether u8[at, end), the beginning of `length` bytes, is a Kerberos message (RFC 4120 section 5). */
function isMessage(u8: Uint8Array, at: number, end: number, length: number): boolean {
  const outer = new Ber(u8, at, end);
  if (!outer.next() || outer.to !== at + length) return false;
  const request = KDC_REQUESTS.has(outer.tag);
  if (!request && !MESSAGES.has(outer.tag)) return false;
  const sequence = outer.inside();
  if (!sequence.expect(SEQUENCE)) return false;
  const fields = sequence.inside();
  return (
    number(fields, request ? 0xa1 : 0xa0) === VERSION &&
    number(fields, request ? 0xa2 : 0xa1) === (outer.tag & 0x1f)
  );
}

function number(fields: Ber, tag: number): number {
  if (!fields.expect(tag)) return -1;
  const value = fields.inside();
  return value.expect(INTEGER) ? value.integer() : -1;
}

/** Kerberos over TCP: messages behind their length in four bytes. */
class KrbTcp extends FrameParser {
  constructor() {
    super(KEEP);
  }

  protected headerBytes(): number {
    return 4;
  }

  protected header(_fromOrig: 0 | 1, u8: Uint8Array): number {
    const length = u32be(u8, 0);
    return length < 16 || length > MAX_MESSAGE ? BAD_HEADER : length;
  }

  protected message(_fromOrig: 0 | 1, u8: Uint8Array, at: number, kept: number, length: number): number {
    return isMessage(u8, at, at + kept, length) ? this.confirm() : ServiceNews.rejected;
  }
}

class KrbUdp implements ServiceParser {
  data(_fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): number {
    return isMessage(u8, offset, offset + length, length)
      ? ServiceNews.confirmed | ServiceNews.done
      : ServiceNews.rejected;
  }
}

function isTag(tag: number): boolean {
  return KDC_REQUESTS.has(tag) || MESSAGES.has(tag);
}

export const KRB_TCP: Service = {
  name: 'krb_tcp',
  transport: 'tcp',
  first: oneOf(0),
  looksLike(u8, offset, length) {
    if (u8[offset] !== 0 || (length > 1 && u8[offset + 1] > 0x10)) return false;
    return length < 5 || isTag(u8[offset + 4]);
  },
  parser: (): ServiceParser => new KrbTcp(),
};

export const KRB_UDP: Service = {
  name: 'krb',
  transport: 'udp',
  first: isTag,
  looksLike: (u8, offset) => isTag(u8[offset]),
  parser: (): ServiceParser => new KrbUdp(),
};
