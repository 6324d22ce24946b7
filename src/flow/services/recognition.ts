import type { TlsInfo } from '../types.ts';
import type { Choice } from './choice.ts';
import {
  type Announced,
  type PayloadSink,
  type Service,
  ServiceNews,
  type ServiceParser,
} from './service.ts';

/** What `feed` says beside ServiceNews.established, flip and encrypted. */
export const RecognitionNews = {
  /** TLS, DTLS or QUIC was confirmed. */
  tls: 1,
  /** Nothing more is wanted of either side. */
  done: 4,
  /** There is something in `announced`. */
  announced: 64,
  /** `names` or `host` have changed; the same bit as ServiceNews.told. */
  told: 256,
} as const;

const PASSED_ON = ServiceNews.established | ServiceNews.flip | ServiceNews.encrypted | ServiceNews.told;
/** Recognizers that look at the same payload at once. */
const MAX_CANDIDATES = 6;
/** Bytes of both sides after which recognizers that are not sure are let go; a small datagram counts as SMALLEST. */
const MAX_UNCONFIRMED = 65_536;
const SMALLEST = 128;
/** And those that are sure and still want more. */
const MAX_LOOKED = 4_194_304;
/** A violation within so many bytes takes the name off again (Zeek: DPD::ignore_violations_after). */
const VIOLATION_LIMIT = 10_240;
/** Names that `service` has at most; carriers can be nested without end. */
const MAX_NAMES = 8;

/**
 * The payload of one connection, in order, given to the recognizers that its first bytes suggest. One object serves one
 * connection after the other.
 */
export class Recognition {
  /** Confirmed services in the order of confirmation. */
  readonly names: string[] = [];
  tls: TlsInfo | undefined = undefined;
  /** The first that a parser has told. */
  host: string | undefined = undefined;
  /** Connections that were announced; whoever takes note of them takes them out. */
  readonly announced: Announced[] = [];

  readonly #services: Service[] = [];
  readonly #parsers: ServiceParser[] = [];
  readonly #inside: number[] = [];
  readonly #sink: PayloadSink;
  #choice: Choice | undefined = undefined;
  #respPort = 0;
  /** Candidates whose name is in `names`: bits by index. */
  #confirmed = 0;
  /** Sides whose first bytes have been looked at: bit 0 responder, bit 1 originator. */
  #begun = 0;
  /** Bytes since the last protocol began, and since the connection did. */
  #looked = 0;
  #total = 0;
  #carrier: ServiceParser | undefined = undefined;
  #news = 0;

  constructor() {
    this.#sink = (fromOrig, u8, offset, length) => {
      if ((this.#news & RecognitionNews.done) === 0) this.#payload(fromOrig, u8, offset, length);
    };
  }

  /** Begins with another connection; `choice` is of the services of its transport. */
  begin(choice: Choice, respPort: number): void {
    this.names.length = 0;
    this.tls = undefined;
    this.host = undefined;
    this.announced.length = 0;
    this.#choice = choice;
    this.#respPort = respPort;
    this.#total = 0;
    this.#carrier = undefined;
    this.#anew();
  }

  /** Lets go of all parsers. */
  release(): void {
    this.#anew();
    this.#carrier = undefined;
    this.tls = undefined;
    this.host = undefined;
  }

  /** Recognizers that look on. */
  get candidates(): number {
    return this.#parsers.length;
  }

  /** The next bytes of one side, or a datagram; bits of RecognitionNews, `established`, `flip` and `encrypted`. */
  feed(fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): number {
    this.#news = 0;
    this.#total += length;
    const carrier = this.#carrier;
    if (carrier?.unwrap === undefined) this.#payload(fromOrig, u8, offset, length);
    else this.#unwrap(carrier, fromOrig, u8, offset, length);
    if (this.#total > MAX_LOOKED) this.#news |= RecognitionNews.done;
    return this.#news;
  }

  #payload(fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): void {
    if (length <= 0) return;
    const bit = 1 << fromOrig;
    if ((this.#begun & bit) === 0) {
      this.#begun |= bit;
      this.#admit(fromOrig, u8, offset, length);
    }
    this.#looked += length < SMALLEST ? SMALLEST : length;
    for (let i = 0; i < this.#parsers.length; ) {
      const parser = this.#parsers[i];
      const news = parser.data(fromOrig, u8, offset, length);
      if (news === 0 && parser.inside === undefined && parser.announced === undefined) {
        i++;
        continue;
      }
      if (parser.announced !== undefined && parser.announced.length > 0) {
        this.announced.push(...parser.announced.splice(0));
        this.#news |= RecognitionNews.announced;
      }
      this.#news |= news & PASSED_ON;
      if ((news & ServiceNews.told) !== 0) this.host ??= parser.host;
      if (this.#take(i, news)) i = 0;
      if ((news & ServiceNews.handsOver) !== 0) {
        this.#handOver(i, fromOrig, u8, offset, length);
        return;
      }
      if ((news & (ServiceNews.rejected | ServiceNews.done)) === 0) {
        i++;
        continue;
      }
      if ((news & ServiceNews.rejected) !== 0) this.#takeOff(i);
      else if ((this.#confirmed & (1 << i)) !== 0) this.#news |= RecognitionNews.done;
      this.#remove(i);
    }
    if (this.#looked > MAX_UNCONFIRMED && this.#confirmed === 0) this.#news |= RecognitionNews.done;
    if (this.#parsers.length === 0 && this.#begun === 3) this.#news |= RecognitionNews.done;
  }

  /** Chooses the recognizers that the first bytes of a side suggest. */
  #admit(fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): void {
    // One of them is sure already.
    if (this.#confirmed !== 0 || this.#choice === undefined) return;
    for (const service of this.#choice.of(u8[offset], fromOrig)) {
      if (this.#parsers.length === MAX_CANDIDATES) return;
      if (!service.looksLike(u8, offset, length, fromOrig, this.#respPort)) continue;
      if (this.#services.includes(service)) continue;
      this.#services.push(service);
      this.#parsers.push(service.parser(this.#respPort));
      this.#inside.push(0);
    }
  }

  /** Names that a parser has found; true when it is the only one left and therefore the first now. */
  #take(index: number, news: number): boolean {
    const parser = this.#parsers[index];
    const inside = parser.inside;
    if (inside !== undefined) {
      for (let i = this.#inside[index]; i < inside.length; i++) this.#name(inside[i]);
      this.#inside[index] = inside.length;
    }
    if ((news & ServiceNews.confirmed) === 0) return false;
    this.#name(this.#services[index].name);
    if (parser.tls !== undefined) {
      this.tls = parser.tls;
      this.#news |= RecognitionNews.tls;
    }
    // The others were mistaken.
    const service = this.#services[index];
    const taken = this.#inside[index];
    this.#anew();
    this.#begun = 3;
    this.#services.push(service);
    this.#parsers.push(parser);
    this.#inside.push(taken);
    this.#confirmed = 1;
    return true;
  }

  #name(name: string): void {
    if (this.names.length === MAX_NAMES || this.names.includes(name)) return;
    this.names.push(name);
    this.#news |= RecognitionNews.told;
  }

  /** A violation: the name goes if that came early. */
  #takeOff(index: number): void {
    if ((this.#confirmed & (1 << index)) === 0 || this.#total > VIOLATION_LIMIT) return;
    const at = this.names.indexOf(this.#services[index].name);
    if (at < 0) return;
    this.names.splice(at, 1);
    this.#news |= RecognitionNews.told;
  }

  #remove(index: number): void {
    this.#services.splice(index, 1);
    this.#parsers.splice(index, 1);
    this.#inside.splice(index, 1);
    const below = (1 << index) - 1;
    this.#confirmed = (this.#confirmed & below) | ((this.#confirmed >>> 1) & ~below);
  }

  #handOver(index: number, fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): void {
    const parser = this.#parsers[index];
    const rest = Math.min(parser.rest ?? 0, length);
    this.#anew();
    if (parser.unwrap !== undefined) {
      // A carrier inside of a carrier is not followed.
      if (this.#carrier !== undefined) this.#news |= RecognitionNews.done;
      this.#carrier = parser;
      if (rest > 0) this.#unwrap(parser, fromOrig, u8, offset + length - rest, rest);
    } else if (rest > 0) {
      this.#payload(fromOrig, u8, offset + length - rest, rest);
    }
  }

  #unwrap(carrier: ServiceParser, fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number): void {
    const news = carrier.unwrap?.(fromOrig, u8, offset, length, this.#sink) ?? ServiceNews.done;
    if ((news & (ServiceNews.done | ServiceNews.rejected)) !== 0) this.#news |= RecognitionNews.done;
  }

  #anew(): void {
    this.#services.length = 0;
    this.#parsers.length = 0;
    this.#inside.length = 0;
    this.#confirmed = 0;
    this.#begun = 0;
    this.#looked = 0;
  }
}
