import { u16be } from './bytes.ts';
import { type Service, ServiceNews, type ServiceParser } from './service.ts';

/** RFC 1035, 2136, 6762, 1002. */
const HEADER = 12;
/** As Zeek's dns_max_queries. */
const MAX_QUESTIONS = 25;
const MAX_RECORDS = 1024;
const MAX_NAME = 255;
/** Of a message over TCP as much is looked at. */
const MAX_MESSAGE = 4096;
const RESPONSE = 0x80;

function isPort(port: number): boolean {
  return port === 53 || port === 137 || port === 5353 || port === 5355;
}

/** Behind the name at `at`; -1 when it is none. Compression pointers must lead back; they are not followed. */
function afterName(u8: Uint8Array, begin: number, at: number, end: number): number {
  let total = 0;
  for (let i = at; i < end; ) {
    const size = u8[i];
    if (size === 0) return i + 1;
    if (size >= 0xc0) {
      const target = i + 1 < end ? begin + (u16be(u8, i) & 0x3fff) : i;
      return target < i ? i + 2 : -1;
    }
    if (size > 63) return -1;
    total += size + 1;
    if (total > MAX_NAME) return -1;
    i += size + 1;
  }
  return -1;
}

const Verdict = { no: 0, cut: 1, yes: 2 } as const;

/**
 * Whether this is a DNS message; `cut`: as far as it goes. Without a port that says so it has to be an ordinary query or
 * response that fills its datagram.
 */
function check(u8: Uint8Array, begin: number, end: number, hinted: boolean): number {
  if (end - begin < HEADER) return Verdict.no;
  const questions = u16be(u8, begin + 4);
  const records = u16be(u8, begin + 6) + u16be(u8, begin + 8) + u16be(u8, begin + 10);
  const opcode = (u8[begin + 2] >>> 3) & 15;
  if (questions > MAX_QUESTIONS || records > MAX_RECORDS || questions + records === 0) return Verdict.no;
  if (!hinted && (questions !== 1 || opcode !== 0 || (u8[begin + 3] & 0x40) !== 0)) return Verdict.no;
  if (!hinted && (u8[begin + 2] & RESPONSE) === 0 && u16be(u8, begin + 6) + u16be(u8, begin + 8) > 0)
    return Verdict.no;
  let at = begin + HEADER;
  for (let i = 0; i < questions; i++) {
    at = afterName(u8, begin, at, end);
    if (at < 0 || at + 4 > end) return Verdict.no;
    at += 4;
  }
  // What follows the answers is Zeek's business no more: a name that is damaged there does not matter.
  const needed = hinted ? u16be(u8, begin + 6) : records;
  for (let i = 0; i < needed; i++) {
    at = afterName(u8, begin, at, end);
    if (at < 0 || at + 10 > end) return i > 0 ? Verdict.cut : Verdict.no;
    at += 10 + u16be(u8, at + 8);
    if (at > end) return Verdict.cut;
  }
  return hinted || at === end ? Verdict.yes : Verdict.cut;
}

/** Of a message that does not fit into its datagram so much has to be right that it is one. */
function isMessage(u8: Uint8Array, begin: number, end: number, respPort: number): boolean {
  const hinted = isPort(respPort);
  const verdict = check(u8, begin, end, hinted);
  return verdict === Verdict.yes || (hinted && verdict === Verdict.cut);
}

/** Whether Zeek's analyzer gives up on a datagram to a port of DNS; whatever else is wrong it stays. */
export function isDnsViolation(u8: Uint8Array, offset: number, length: number): boolean {
  return length >= HEADER && u16be(u8, offset + 4) > MAX_QUESTIONS;
}

/** Without a port that says so a query alone is not enough. */
class DatagramParser implements ServiceParser {
  /** Id of the query that waits for its response. */
  #query = -1;
  readonly #hinted: boolean;

  constructor(hinted: boolean) {
    this.#hinted = hinted;
  }

  data(fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): number {
    const verdict = check(u8, offset, offset + length, this.#hinted);
    if (verdict === Verdict.no || (verdict === Verdict.cut && !this.#hinted)) return ServiceNews.rejected;
    const response = (u8[offset + 2] & RESPONSE) !== 0;
    if (this.#hinted) {
      const flip = response && fromOrig === 1 ? ServiceNews.flip : 0;
      return ServiceNews.confirmed | ServiceNews.done | flip;
    }
    if (!response) {
      this.#query = u16be(u8, offset);
      return 0;
    }
    return this.#query === u16be(u8, offset)
      ? ServiceNews.confirmed | ServiceNews.done
      : ServiceNews.rejected;
  }
}

/** Messages with their length in front. */
class StreamParser implements ServiceParser {
  readonly #sides = [new Uint8Array(0), new Uint8Array(0)];
  readonly #have: [number, number] = [0, 0];

  data(fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): number {
    const want = MAX_MESSAGE + 2;
    if (this.#sides[fromOrig].length === 0) this.#sides[fromOrig] = new Uint8Array(want);
    const kept = this.#sides[fromOrig];
    const have = this.#have[fromOrig];
    const size = Math.min(length, want - have);
    for (let i = 0; i < size; i++) kept[have + i] = u8[offset + i];
    this.#have[fromOrig] = have + size;
    if (have + size < 2) return 0;
    const message = u16be(kept, 0);
    if (message < HEADER) return ServiceNews.rejected;
    const end = Math.min(message, MAX_MESSAGE) + 2;
    if (this.#have[fromOrig] < end) return 0;
    const verdict = check(kept, 2, end, true);
    if (verdict === Verdict.no) return ServiceNews.rejected;
    if (verdict === Verdict.cut && end === message + 2) return ServiceNews.rejected;
    return ServiceNews.confirmed | ServiceNews.done;
  }
}

/** The beginning of a message over TCP, as far as it goes: length, id, and flags and counts that make sense. */
function looksLikeStream(u8: Uint8Array, offset: number, length: number): boolean {
  if (length >= 2 && u16be(u8, offset) < HEADER) return false;
  if (length >= 5 && ((u8[offset + 4] >>> 3) & 15) > 6) return false;
  if (length >= 8 && u16be(u8, offset + 6) > MAX_QUESTIONS) return false;
  return length < 10 || u16be(u8, offset + 8) < MAX_RECORDS;
}

/** Where a port says so one message is enough, and nothing is kept. */
const HINTED = new DatagramParser(true);

export const DNS: Service = {
  name: 'dns',
  transport: 'udp',
  looksLike: (u8, offset, length, _fromOrig, respPort) => isMessage(u8, offset, offset + length, respPort),
  parser: (respPort) => (isPort(respPort) ? HINTED : new DatagramParser(false)),
};

export const DNS_TCP: Service = {
  name: 'dns',
  transport: 'tcp',
  looksLike: (u8, offset, length, _fromOrig, respPort) =>
    isPort(respPort) && looksLikeStream(u8, offset, length),
  parser: () => new StreamParser(),
};
