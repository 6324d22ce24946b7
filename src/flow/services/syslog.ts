import { isDigit } from './ascii.ts';
import { bySide, charOf, never, oneOf } from './choice.ts';
import { oneMessage } from './datagram.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';

/** RFC 3164, 5424; over TCP RFC 6587. */
const OPEN = 0x3c;
const CLOSE = 0x3e;
const SPACE = 0x20;
/** Facility 23, severity 7. */
const MAX_PRIORITY = 191;
const MAX_DIGITS = 6;

/** Reads a number of at most `digits` digits that ends in `close`; -1 when it is none, -2 when it may go on. */
function numberUpTo(u8: Uint8Array, at: number, end: number, digits: number, close: number): number {
  let value = 0;
  for (let i = at; i < end; i++) {
    if (i > at && u8[i] === close) return value;
    if (i - at === digits || !isDigit(u8[i])) return -1;
    value = value * 10 + u8[i] - 0x30;
  }
  return -2;
}

function isDatagram(u8: Uint8Array, offset: number, length: number): boolean {
  if (length < 4 || u8[offset] !== OPEN) return false;
  const priority = numberUpTo(u8, offset + 1, offset + length, 3, CLOSE);
  return priority >= 0 && priority <= MAX_PRIORITY;
}

export const SYSLOG = oneMessage('syslog', oneOf(OPEN), isDatagram);

const State = { frame: 0, length: 1, priority: 2, text: 3 } as const;

/** Frames of either kind: with their length in front, or ended by a newline. Confirmed by a whole one. */
class SyslogParser implements ServiceParser {
  #state: number = State.frame;
  #value = 0;
  #digits = 0;
  /** Bytes of the frame that are to come; -1: up to a newline. */
  #left = -1;

  data(fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): number {
    if (fromOrig === 0) return ServiceNews.rejected;
    for (let at = offset; at < offset + length; at++) {
      const news = this.#byte(u8[at]);
      if (news !== 0) return news;
    }
    return 0;
  }

  #byte(byte: number): number {
    switch (this.#state) {
      case State.frame:
        this.#value = 0;
        this.#digits = 0;
        if (byte === OPEN) return this.#into(State.priority);
        if (this.#left >= 0 || !isDigit(byte) || byte === 0x30) return ServiceNews.rejected;
        this.#state = State.length;
        return this.#digit(byte);
      case State.length:
        if (byte !== SPACE) return this.#digit(byte);
        this.#left = this.#value;
        return this.#into(State.frame);
      case State.priority:
        if (byte !== CLOSE) return this.#digit(byte);
        if (this.#digits === 0 || this.#value > MAX_PRIORITY) return ServiceNews.rejected;
        if (this.#left > 0) this.#left -= this.#digits + 2;
        return this.#into(State.text);
      default:
        if (this.#left < 0 ? byte === 10 || byte === 0 : --this.#left <= 0)
          return ServiceNews.confirmed | ServiceNews.done;
        return 0;
    }
  }

  #into(state: number): number {
    this.#state = state;
    return 0;
  }

  #digit(byte: number): number {
    if (!isDigit(byte) || ++this.#digits > MAX_DIGITS) return ServiceNews.rejected;
    this.#value = this.#value * 10 + byte - 0x30;
    return 0;
  }
}

function looksLikeStream(u8: Uint8Array, offset: number, length: number, fromOrig: 0 | 1): boolean {
  if (fromOrig === 0) return false;
  const end = offset + length;
  let at = offset;
  if (isDigit(u8[at]) && u8[at] !== 0x30) {
    while (at < end && at - offset < MAX_DIGITS && isDigit(u8[at])) at++;
    if (at === end) return true;
    if (u8[at] !== SPACE) return false;
    at++;
  }
  if (at === end) return true;
  if (u8[at] !== OPEN) return false;
  const priority = numberUpTo(u8, at + 1, end, 3, CLOSE);
  return priority === -2 || (priority >= 0 && priority <= MAX_PRIORITY);
}

export const SYSLOG_TCP: Service = {
  name: 'syslog_tcp',
  transport: 'tcp',
  first: bySide(charOf('<123456789'), never),
  looksLike: looksLikeStream,
  parser: () => new SyslogParser(),
};
