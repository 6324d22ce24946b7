import type { Choice, Choices } from './services/choice.ts';
import { CHOICES } from './services/index.ts';
import { Recognition, RecognitionNews } from './services/recognition.ts';
import { type Announced, ServiceNews } from './services/service.ts';
import type { Side, TlsInfo } from './types.ts';

/** What a delivery changed; bits. */
export const StreamNews = {
  /** TLS, DTLS or QUIC was recognized. */
  tls: 1,
  /** TLS: both sides have finished the handshake. */
  established: 2,
  /** Nothing more is wanted of this flow. */
  done: 4,
  /** Nothing more is wanted of this side, unless the first bytes of the other suggest something. */
  sideDone: 8,
  /** Both sides are wanted (again). */
  begun: 16,
  /** The originator turned out to be the responder. */
  flip: 32,
  /** Connections are announced, see `announced`. */
  announced: 64,
  /** SSH: both sides have switched to new keys. */
  encrypted: 128,
  /** Names or host have changed. */
  told: 256,
} as const;

interface Segment {
  seq: number;
  bytes: Uint8Array;
}

/** One flow that is being recognized; the objects are used again. */
class Stream {
  readonly recognition = new Recognition();
  slot = -1;
  /** Place among the streams in work. */
  place = -1;
  /** TCP: next relative sequence number wanted of both sides; 0: whatever comes. */
  next0 = 1;
  next1 = 1;
  readonly held0: Segment[] = [];
  readonly held1: Segment[] = [];
  heldBytes = 0;
}

/** Segments held back per side; more are no reordering. */
const MAX_SEGMENTS = 64;
/** Flows that are recognized at the same time; beyond, one after the other is given up. */
const MAX_STREAMS = 32_768;
/** Objects kept for the next flow. */
const MAX_SPARE = 1024;

/**
 * The payload of connections, in order, to the recognizers of services: until those have seen enough, or data is
 * missing. Only segments that come out of order are copied, within limits. Of flows that have been recognized only the
 * name is kept; those of no known service cost one look at the first bytes of each side.
 */
export class Streams {
  readonly #choices: Choices;
  readonly #perFlow: number;
  readonly #total: number;
  /** By slot. */
  readonly #streams: (Stream | undefined)[] = [];
  readonly #names: (string | undefined)[] = [];
  readonly #tls: (TlsInfo | undefined)[] = [];
  readonly #hosts: (string | undefined)[] = [];
  /** Streams in work; the hand goes round when there is no place left. */
  readonly #places: (Stream | undefined)[] = [];
  readonly #freePlaces: number[] = [];
  #hand = 0;
  readonly #spare: Stream[] = [];
  #heldBytes = 0;
  #announced: Announced[] = [];

  /** Limits in bytes of what is held back per flow and for all. */
  constructor(perFlow: number, total: number, choices: Choices = CHOICES) {
    this.#choices = choices;
    this.#perFlow = perFlow;
    this.#total = total;
  }

  /**
   * TCP payload that was captured whole; `seq` is relative, 1 the first byte. `peerBegun`: the first bytes of the other
   * side were looked at and suggested nothing. Bits of StreamNews.
   */
  segment(
    slot: number,
    side: Side,
    fromOrig: 0 | 1,
    respPort: number,
    peerBegun: boolean,
    seq: number,
    u8: Uint8Array,
    offset: number,
    bytes: number,
  ): number {
    let stream = this.#streams[slot];
    let begun = 0;
    if (stream === undefined) {
      if (this.#names[slot] !== undefined) return StreamNews.done;
      if (seq === 1 && !this.#choices.tcp.suggests(u8, offset, bytes, fromOrig, respPort))
        return StreamNews.sideDone;
      stream = this.#begin(slot, this.#choices.tcp, respPort);
      begun = StreamNews.begun;
      // What the other side has sent since then was not counted.
      if (peerBegun && side === 0) stream.next1 = 0;
      else if (peerBegun) stream.next0 = 0;
    }
    const next = side === 0 ? stream.next0 : stream.next1;
    if (next !== 0 && seq > next) return begun | this.#hold(stream, side, seq, u8, offset, bytes);
    let news = this.#feed(stream, side, fromOrig, seq, u8, offset, bytes);
    const held = side === 0 ? stream.held0 : stream.held1;
    while (held.length > 0 && (news & RecognitionNews.done) === 0) {
      const wanted = side === 0 ? stream.next0 : stream.next1;
      const index = held.findIndex((segment) => segment.seq <= wanted);
      if (index < 0) break;
      const [segment] = held.splice(index, 1) as [Segment];
      this.#heldBytes -= segment.bytes.length;
      stream.heldBytes -= segment.bytes.length;
      news |= this.#feed(stream, side, fromOrig, segment.seq, segment.bytes, 0, segment.bytes.length);
    }
    return begun | this.#conclude(stream, news);
  }

  /** The payload of a UDP datagram that was captured whole. Bits of StreamNews. */
  datagram(
    slot: number,
    fromOrig: 0 | 1,
    respPort: number,
    u8: Uint8Array,
    offset: number,
    bytes: number,
  ): number {
    let stream = this.#streams[slot];
    let begun = 0;
    if (stream === undefined) {
      if (this.#names[slot] !== undefined) return StreamNews.done;
      if (!this.#choices.udp.suggests(u8, offset, bytes, fromOrig, respPort)) return StreamNews.sideDone;
      stream = this.#begin(slot, this.#choices.udp, respPort);
      begun = StreamNews.begun;
    }
    return begun | this.#conclude(stream, stream.recognition.feed(fromOrig, u8, offset, bytes));
  }

  /** Names of the services in the order of confirmation, joined by commas. */
  service(slot: number): string | undefined {
    const stream = this.#streams[slot];
    return stream === undefined ? this.#names[slot] : joined(stream.recognition.names);
  }

  /** The handshake as far as it was recognized. */
  info(slot: number): TlsInfo | undefined {
    return this.#streams[slot]?.recognition.tls ?? this.#tls[slot];
  }

  /** HTTP: host of the first request that named one. */
  host(slot: number): string | undefined {
    return this.#streams[slot]?.recognition.host ?? this.#hosts[slot];
  }

  /** The connections that the last delivery announced. */
  get announced(): readonly Announced[] {
    return this.#announced;
  }

  /** A flow whose service, and handshake, are known without a look at it. */
  known(slot: number, service: string | undefined, tls?: TlsInfo): void {
    this.#grow(slot);
    this.#names[slot] = service;
    this.#tls[slot] = tls;
  }

  /** No more payload of this flow will come, or can be used. */
  stop(slot: number): void {
    const stream = this.#streams[slot];
    if (stream !== undefined) this.#finish(stream);
  }

  release(slot: number): void {
    this.stop(slot);
    if (slot >= this.#names.length) return;
    this.#names[slot] = undefined;
    this.#tls[slot] = undefined;
    this.#hosts[slot] = undefined;
  }

  #grow(slot: number): void {
    while (this.#streams.length <= slot) {
      this.#streams.push(undefined);
      this.#names.push(undefined);
      this.#tls.push(undefined);
      this.#hosts.push(undefined);
    }
  }

  #begin(slot: number, choice: Choice, respPort: number): Stream {
    this.#grow(slot);
    const stream = this.#spare.pop() ?? new Stream();
    stream.slot = slot;
    stream.next0 = 1;
    stream.next1 = 1;
    stream.recognition.begin(choice, respPort);
    this.#streams[slot] = stream;
    let place = this.#freePlaces.pop() ?? this.#places.length;
    if (place === MAX_STREAMS) {
      place = this.#hand;
      this.#hand = (this.#hand + 1) % MAX_STREAMS;
      const oldest = this.#places[place];
      if (oldest !== undefined) {
        this.#finish(oldest);
        this.#freePlaces.pop();
      }
    }
    this.#places[place] = stream;
    stream.place = place;
    return stream;
  }

  #feed(
    stream: Stream,
    side: Side,
    fromOrig: 0 | 1,
    seq: number,
    u8: Uint8Array,
    offset: number,
    bytes: number,
  ): number {
    const next = side === 0 ? stream.next0 : stream.next1;
    const skip = next === 0 ? 0 : next - seq;
    if (skip >= bytes) return 0;
    if (side === 0) stream.next0 = seq + bytes;
    else stream.next1 = seq + bytes;
    return stream.recognition.feed(fromOrig, u8, offset + skip, bytes - skip);
  }

  #conclude(stream: Stream, found: number): number {
    if (found === 0) return 0;
    let news = 0;
    if ((found & RecognitionNews.tls) !== 0) news |= StreamNews.tls;
    if ((found & ServiceNews.established) !== 0) news |= StreamNews.established;
    if ((found & ServiceNews.flip) !== 0) news |= StreamNews.flip;
    if ((found & ServiceNews.encrypted) !== 0) news |= StreamNews.encrypted;
    if ((found & RecognitionNews.told) !== 0) news |= StreamNews.told;
    if ((found & RecognitionNews.announced) !== 0) {
      this.#announced = stream.recognition.announced.splice(0);
      news |= StreamNews.announced;
    }
    if ((found & RecognitionNews.done) === 0) return news;
    this.#finish(stream);
    return news | StreamNews.done;
  }

  #hold(stream: Stream, side: Side, seq: number, u8: Uint8Array, offset: number, bytes: number): number {
    const held = side === 0 ? stream.held0 : stream.held1;
    if (
      held.length >= MAX_SEGMENTS ||
      stream.heldBytes + bytes > this.#perFlow ||
      this.#heldBytes + bytes > this.#total
    ) {
      this.#finish(stream);
      return StreamNews.done;
    }
    held.push({ seq, bytes: u8.slice(offset, offset + bytes) });
    stream.heldBytes += bytes;
    this.#heldBytes += bytes;
    return 0;
  }

  /** Lets go of everything but what was found out. */
  #finish(stream: Stream): void {
    const slot = stream.slot;
    this.#names[slot] = joined(stream.recognition.names);
    this.#tls[slot] = stream.recognition.tls;
    this.#hosts[slot] = stream.recognition.host;
    this.#heldBytes -= stream.heldBytes;
    stream.heldBytes = 0;
    stream.held0.length = 0;
    stream.held1.length = 0;
    stream.recognition.release();
    this.#streams[slot] = undefined;
    this.#places[stream.place] = undefined;
    this.#freePlaces.push(stream.place);
    if (this.#spare.length < MAX_SPARE) this.#spare.push(stream);
  }
}

function joined(names: readonly string[]): string | undefined {
  if (names.length < 2) return names[0];
  return names.join(',');
}
