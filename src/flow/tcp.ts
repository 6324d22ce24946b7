import type { Decoder } from '../packet/decode.ts';
import type { Packet } from '../packet/packet.ts';
import { viewOf } from '../packet/view.ts';
import { coldOf, distance, type Endpoints, Ep, endpointOf, peerOf, Tcp } from './endpoint.ts';
import type { GapTracker } from './gaps.ts';
import { type Histories, isRecorded } from './history.ts';
import {
  CEP_F_FIN,
  CEP_LAST_FIN,
  CEP_LAST_RST,
  CEP_LAST_SYN,
  DOUBLES,
  EP_ACK,
  EP_LAST,
  EP_RETRANSMITS,
  EP_START,
  EP_ZERO_WINDOWS,
  F_LAST,
  FLAGS,
  Flag,
  SEEN,
  Seen,
  WORDS,
} from './layout.ts';
import type { FlowSettings } from './settings.ts';
import { TcpCloser } from './tcp-close.ts';
import { TcpFlag, type TcpHost, TcpStates } from './tcp-states.ts';
import { PAYLOAD_WANTED, SteadySegments } from './tcp-steady.ts';
import type { Side } from './types.ts';

/** Sequence numbers that leap further are not believed on SYN and RST, nor an acknowledgement of 0. */
const TOO_FAR = 1_048_576;

const LETTER = {
  a: 0x41,
  d: 0x44,
  f: 0x46,
  h: 0x48,
  i: 0x49,
  q: 0x51,
  r: 0x52,
  s: 0x53,
  t: 0x54,
  w: 0x57,
} as const;

/**
 * The TCP state machine of conn.log, rule by rule that of Zeek's TCPSessionAdapter and TCP_Endpoint: states, history,
 * sequence numbers, closes. Endpoints are kept per side of the key, so that a flip moves nothing but a flag.
 */
export class TcpTracker {
  /** Of the last segment: relative sequence number of its first byte of data; below 1 when it has none that is wanted. */
  dataSeq = 0;

  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #endpoints: Endpoints;
  readonly #gaps: GapTracker;
  readonly #histories: Histories;
  readonly #states: TcpStates;
  readonly #closer: TcpCloser;
  readonly #steady: SteadySegments;
  readonly #cutFrames: boolean;

  constructor(
    endpoints: Endpoints,
    gaps: GapTracker,
    histories: Histories,
    { timeouts, cutFrames }: Pick<FlowSettings, 'timeouts' | 'cutFrames'>,
    host: TcpHost,
  ) {
    this.#cutFrames = cutFrames;
    this.#words = endpoints.words;
    this.#doubles = endpoints.doubles;
    this.#endpoints = endpoints;
    this.#gaps = gaps;
    this.#histories = histories;
    this.#states = new TcpStates(endpoints, histories, timeouts, host);
    this.#closer = new TcpCloser(endpoints, gaps, timeouts, host);
    this.#steady = new SteadySegments(endpoints, histories, cutFrames);
  }

  /** Prepares a new flow. */
  open(slot: number): void {
    this.#endpoints.initTracking(endpointOf(slot, 0));
    this.#endpoints.initTracking(endpointOf(slot, 1));
  }

  close(slot: number): void {
    this.#gaps.release(endpointOf(slot, 0));
    this.#gaps.release(endpointOf(slot, 1));
  }

  isOrig(slot: number, side: Side): boolean {
    return ((this.#words[slot * WORDS + FLAGS] & Flag.origHigh) !== 0) === (side === 1);
  }

  /** Whether a SYN begins a new connection on the tuple of this flow. */
  isReuse(slot: number, u8: Uint8Array, at: number): boolean {
    const flags = u8[at + 13];
    if ((flags & TcpFlag.syn) === 0 || u8[at + 12] >>> 4 < 5) return false;
    const orig = this.#origOf(slot);
    const resp = peerOf(orig);
    const endpoints = this.#endpoints;
    const synAck = (flags & TcpFlag.ack) !== 0;
    if (synAck && endpoints.state(orig) !== Tcp.inactive) return false;
    if (endpoints.has(orig, Ep.didClose) || endpoints.has(resp, Ep.didClose)) return true;
    const seq = viewOf(u8).getInt32(at + 4);
    if (seq === this.#words[(synAck ? resp : orig) + EP_START]) return false;
    // The SYN that a SYN-ACK before it answered, captured in the wrong order.
    return !(
      !synAck &&
      endpoints.state(orig) === Tcp.synAckSent &&
      endpoints.state(resp) === Tcp.inactive &&
      seq === this.#words[resp + EP_START]
    );
  }

  /** Accounts one segment if it changes nothing but numbers, before its checksum is known; false: nothing was changed. */
  inStep(slot: number, side: Side, decoder: Decoder, packet: Packet, header: number): boolean {
    const bytes = decoder.transportBytes - header;
    return this.#steady.take(slot, side, endpointOf(slot, side), decoder, packet, bytes) >= 0;
  }

  /** Accounts one segment whose header and checksum are good. `header` is the length of the TCP header. */
  segment(slot: number, side: Side, decoder: Decoder, packet: Packet, header: number): void {
    const bytes = decoder.transportBytes - header;
    const ep = endpointOf(slot, side);
    const dataSeq = this.#steady.take(slot, side, ep, decoder, packet, bytes);
    if (dataSeq >= 0) {
      this.dataSeq = dataSeq;
      return;
    }
    const peer = peerOf(ep);
    this.#endpoints.settle(ep);
    this.#endpoints.settle(peer);
    this.#unsteady(slot, side, ep, peer, decoder, packet, bytes);
    this.#endpoints.engage(ep);
    this.#endpoints.engage(peer);
  }

  #unsteady(
    slot: number,
    side: Side,
    ep: number,
    peer: number,
    decoder: Decoder,
    packet: Packet,
    bytes: number,
  ): void {
    const endpoints = this.#endpoints;
    const u8 = packet.u8;
    const at = decoder.transport;
    const view = viewOf(u8);
    const seq = view.getInt32(at + 4);
    const ack = view.getInt32(at + 8);
    const flags = u8[at + 13];
    const control = flags & (TcpFlag.syn | TcpFlag.fin | TcpFlag.rst);

    let sequenceBytes = (flags & TcpFlag.rst) !== 0 ? 0 : bytes;
    if ((flags & TcpFlag.syn) !== 0) sequenceBytes++;
    if ((flags & TcpFlag.fin) !== 0) sequenceBytes++;
    const end = (seq + sequenceBytes) | 0;

    // Nearly all segments: nothing begins, ends or changes its state.
    const steady =
      control === 0 && endpoints.state(ep) === Tcp.established && endpoints.state(peer) === Tcp.established;
    if (!steady) {
      this.#states.notePartial(slot, this.isOrig(slot, side), flags);
      this.#initEndpoint(ep, flags, seq, end);
    }
    const relative = endpoints.relativeSeq(ep, seq);
    this.#letters(slot, side, ep, flags, relative, bytes);
    if (
      u8[at + 14] === 0 &&
      u8[at + 15] === 0 &&
      (flags & TcpFlag.rst) === 0 &&
      endpoints.state(peer) !== Tcp.closed &&
      endpoints.state(ep) !== Tcp.reset
    ) {
      this.#scaled(slot, side, ep + EP_ZERO_WINDOWS, LETTER.w);
    }
    if (!endpoints.has(ep, Ep.didClose) || !endpoints.has(peer, Ep.didClose))
      this.#doubles[slot * DOUBLES + F_LAST] = packet.ts;
    if ((flags & TcpFlag.fin) !== 0) {
      endpoints.mark(ep, Ep.finSeen);
      const fin = relative + sequenceBytes;
      endpoints.coldDoubles[(coldOf(ep) >>> 1) + CEP_F_FIN] = fin < 0 ? Number.MAX_SAFE_INTEGER : fin;
    }

    let acked = 0;
    if ((flags & TcpFlag.ack) !== 0) acked = this.#acknowledge(peer, ack, flags);
    this.#advance(slot, side, ep, end, flags, bytes);

    if (!steady) this.#states.transition(slot, ep, this.isOrig(slot, side), flags, bytes, seq, packet);
    if ((flags & TcpFlag.ack) !== 0 && this.#gaps.acked(slot, peer, acked)) this.#closer.checkEof(slot, peer);
    if (!steady) this.#states.noteHeard(slot, this.isOrig(slot, side));

    this.dataSeq = 0;
    if (
      bytes > 0 &&
      (decoder.captured >= decoder.transportBytes ||
        (this.#cutFrames && (this.#words[slot * WORDS + FLAGS] & PAYLOAD_WANTED) === 0)) &&
      (flags & TcpFlag.rst) === 0 &&
      relative >= 0
    ) {
      this.dataSeq = (flags & TcpFlag.syn) !== 0 ? relative + 1 : relative;
      this.#gaps.sent(ep, this.dataSeq, bytes);
    }
    this.#closer.checkEof(slot, ep);
    if (!steady && this.#states.closes) this.#closer.close(slot, ep);
    if (control !== 0) this.#closer.checkExpiry(slot);
  }

  /** See TcpCloser. */
  checkExpiry(slot: number): void {
    this.#closer.checkExpiry(slot);
  }

  /** See TcpCloser. */
  expired(slot: number, now: number): boolean {
    return this.#closer.expired(slot, now);
  }

  #origOf(slot: number): number {
    return endpointOf(slot, (this.#words[slot * WORDS + FLAGS] & Flag.origHigh) !== 0 ? 1 : 0);
  }

  #initEndpoint(ep: number, flags: number, seq: number, end: number): void {
    const endpoints = this.#endpoints;
    const syn = (flags & TcpFlag.syn) !== 0;
    switch (endpoints.state(ep)) {
      case Tcp.inactive:
        if (syn) endpoints.init(ep, seq, end);
        // As if a SYN had come before; and the first segment is no retransmission.
        else endpoints.init(ep, (seq - 1) | 0, seq);
        break;
      case Tcp.synSent:
      case Tcp.synAckSent:
        if (syn && seq !== this.#words[ep + EP_START]) endpoints.init(ep, seq, end);
        break;
      case Tcp.established:
      case Tcp.partial:
        if (syn) endpoints.init(ep, seq, end);
        break;
      case Tcp.reset:
        if (syn && endpoints.previous(ep) === Tcp.inactive) endpoints.init(ep, seq, end);
        break;
      default:
        break;
    }
  }

  #letters(slot: number, side: Side, ep: number, flags: number, relative: number, bytes: number): void {
    const histories = this.#histories;
    const syn = (flags & TcpFlag.syn) !== 0;
    const fin = (flags & TcpFlag.fin) !== 0;
    const rst = (flags & TcpFlag.rst) !== 0;
    if (!syn && !fin && !rst) {
      const data = bytes > 0;
      if (!data && (flags & TcpFlag.ack) === 0) return;
      // A lone SYN-ACK of the originator was the responder's: the handshake began before the capture.
      if (this.#words[slot * WORDS + SEEN] >>> 16 === 0 && histories.isLoneSynAck(slot)) {
        this.#states.flip(slot);
        histories.turnSynAck(slot);
      }
      const isOrig = this.isOrig(slot, side);
      if (data) histories.once(slot, Seen.data, LETTER.d, isOrig);
      else histories.once(slot, Seen.ack, LETTER.a, isOrig);
      return;
    }
    const isOrig = this.isOrig(slot, side);
    if (fin && rst) {
      histories.once(slot, Seen.finRst, LETTER.i, isOrig);
    } else if (syn && (fin || rst)) {
      histories.once(slot, Seen.multi, LETTER.q, isOrig);
    } else {
      const last = coldOf(ep);
      if (syn) {
        const letter = (flags & TcpFlag.ack) !== 0 ? LETTER.h : LETTER.s;
        this.#again(slot, last + CEP_LAST_SYN, Seen.syn, letter, relative, isOrig);
      } else if (fin) {
        this.#again(slot, last + CEP_LAST_FIN, Seen.fin, LETTER.f, relative + bytes, isOrig);
      } else {
        this.#again(slot, last + CEP_LAST_RST, Seen.rst, LETTER.r, relative, isOrig);
      }
    }
  }

  /** A control letter, again only with another sequence number than that of the one before. */
  #again(slot: number, at: number, bit: number, letter: number, relative: number, isOrig: boolean): void {
    const seq = relative | 0;
    const cold = this.#endpoints.cold;
    if (this.#histories.once(slot, bit, letter, isOrig) && seq !== cold[at])
      this.#histories.add(slot, letter, isOrig);
    cold[at] = seq;
  }

  #scaled(slot: number, side: Side, counter: number, letter: number): void {
    const count = (this.#words[counter] + 1) | 0;
    this.#words[counter] = count;
    if (isRecorded(count)) this.#histories.add(slot, letter, this.isOrig(slot, side));
  }

  /** Takes the acknowledgement to `peer`; its relative number. */
  #acknowledge(peer: number, ack: number, flags: number): number {
    const endpoints = this.#endpoints;
    if (endpoints.state(peer) === Tcp.inactive) {
      const start = (ack - 1) | 0;
      endpoints.init(peer, start, start);
      return 1;
    }
    const relative = endpoints.relativeAckOf(peer, ack);
    if (relative < 0) return 0;
    if ((flags & TcpFlag.rst) === 0) this.takeAck(peer, ack);
    return relative;
  }

  takeAck(peer: number, ack: number): void {
    const words = this.#words;
    const delta = distance(ack, words[peer + EP_ACK]);
    if (delta > 0 && !(ack === 0 && delta > TOO_FAR)) this.#endpoints.advanceAck(peer, ack);
  }

  /** Takes the sequence end: news, a leap that is not believed, or a retransmission. */
  #advance(slot: number, side: Side, ep: number, end: number, flags: number, bytes: number): void {
    const words = this.#words;
    const last = words[ep + EP_LAST];
    const delta = distance(end, last);
    if ((flags & (TcpFlag.syn | TcpFlag.rst)) !== 0 && (delta > TOO_FAR || delta < -TOO_FAR)) return;
    if ((flags & TcpFlag.fin) !== 0 && last === ((words[ep + EP_START] + 1) | 0)) {
      // Nothing but the SYN was seen before: more than 2 GiB may lie between.
      this.#endpoints.advanceLast(ep, end);
    } else if (this.#endpoints.state(ep) !== Tcp.reset) {
      if (delta > 0) this.#endpoints.advanceLast(ep, end);
      else if (bytes > 0) this.#scaled(slot, side, ep + EP_RETRANSMITS, LETTER.t);
    }
  }
}
