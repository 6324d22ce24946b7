import { begins, mayBegin } from './ascii.ts';
import { bySide, charOf, never } from './choice.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';
import { TextParser } from './text.ts';

/** RFB 003.008 and the like. */
const VERSION_LENGTH = 11;

/** RFB, the protocol of VNC (RFC 6143): confirmed when the client answers the server's version. */
class RfbParser extends TextParser {
  #server = false;

  protected line(fromOrig: 0 | 1, u8: Uint8Array, at: number, length: number): number {
    if (length !== VERSION_LENGTH || !begins(u8, at, length, 'RFB ') || u8[at + 7] !== 0x2e)
      return ServiceNews.rejected;
    if (fromOrig === 1) return this.#server ? this.confirm() | ServiceNews.done : ServiceNews.rejected;
    this.#server = true;
    return 0;
  }
}

export const RFB: Service = {
  name: 'rfb',
  transport: 'tcp',
  first: bySide(never, charOf('R')),
  looksLike: (u8, offset, length, fromOrig) => fromOrig === 0 && mayBegin(u8, offset, length, 'RFB 00'),
  parser: (): ServiceParser => new RfbParser(),
};
