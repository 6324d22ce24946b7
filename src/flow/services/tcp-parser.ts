import { ServiceNews, type ServiceParser } from './service.ts';

/** Zeek forgives violations after so many bytes; nothing is won by looking on. */
const ENOUGH = 10_240;
const ENDS = ServiceNews.rejected | ServiceNews.done | ServiceNews.handsOver;

/** What recognizers of byte streams have in common: they are sure once, have seen enough some time, and end once. */
export abstract class TcpParser implements ServiceParser {
  rest = 0;
  protected sure = false;
  /** Bytes of both sides so far, and after how many a parser that is sure is done. */
  protected seen = 0;
  protected enough = ENOUGH;
  #over = 0;

  /** The next bytes of a side, u8[at, end); answers ServiceNews bits. What ends the parser is said no more than once. */
  protected abstract read(fromOrig: 0 | 1, u8: Uint8Array, at: number, end: number): number;

  /** Nothing more will be read. */
  protected release(): void {}

  /** `confirmed` the first time. */
  protected confirm(): number {
    if (this.sure) return 0;
    this.sure = true;
    return ServiceNews.confirmed;
  }

  data(fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): number {
    if (this.#over !== 0) return this.#over;
    this.seen += length;
    const news = this.read(fromOrig, u8, offset, offset + length);
    if ((news & ENDS) === 0 && !(this.sure && this.seen > this.enough)) return news;
    this.#over = (news & ServiceNews.rejected) | ServiceNews.done;
    this.release();
    return news | ServiceNews.done;
  }
}

/** Whether a parser has ended with this. */
export function isOver(news: number): boolean {
  return (news & ENDS) !== 0;
}

/** A side of which bytes are to be passed over. */
export class PassingSide {
  skip = 0;

  /** Passes over what it can of u8[at, end); the offset behind it. */
  pass(at: number, end: number): number {
    const size = Math.min(this.skip, end - at);
    this.skip -= size;
    return at + size;
  }
}
