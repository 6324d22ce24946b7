import type { Decoder } from '../packet/decode.ts';
import type { Packet } from '../packet/packet.ts';
import {
  distance,
  type Endpoints,
  Ep,
  endpointOf,
  PREVIOUS_SHIFT,
  peerOf,
  STATE_MASK,
  Tcp,
} from './endpoint.ts';
import type { GapTracker } from './gaps.ts';
import { type Histories, isRecorded } from './history.ts';
import {
  CONTROL_WORDS,
  DOUBLES,
  EP_ACK,
  EP_F_FIN,
  EP_LAST,
  EP_RETRANSMITS,
  EP_START,
  EP_STATE,
  EP_ZERO_WINDOWS,
  F_ATTEMPT,
  F_EXPIRE,
  F_LAST,
  F_START,
  FLAGS,
  Flag,
  LAST_FIN,
  LAST_RST,
  LAST_SYN,
  Seen,
  WORDS,
} from './layout.ts';
import { type FlowTimeouts, setTimeoutClass, Timeout } from './timeouts.ts';
import type { Side } from './types.ts';

export const TcpFlag = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16, urg: 32 } as const;

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

/** What the engine does for the tracker. */
export interface TcpHost {
  /** The originator and responder of the flow change places (history letter apart). */
  flip(slot: number): void;
  /** The handshake is complete. */
  established(slot: number): void;
  /** A timer of the flow (F_ATTEMPT, F_EXPIRE) was set. */
  timerSet(slot: number): void;
}

/**
 * The TCP state machine of conn.log, rule by rule that of Zeek's TCPSessionAdapter and TCP_Endpoint: states, history,
 * sequence numbers, closes. Endpoints are kept per side of the key, so that a flip moves nothing but a flag.
 */
export class TcpTracker {
  /** Of the last segment: relative sequence number of its first byte of data; below 1 when it has none to deliver. */
  dataSeq = 0;

  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #endpoints: Endpoints;
  readonly #gaps: GapTracker;
  readonly #histories: Histories;
  readonly #timeouts: FlowTimeouts;
  readonly #host: TcpHost;
  #doClose = false;

  constructor(
    endpoints: Endpoints,
    gaps: GapTracker,
    histories: Histories,
    timeouts: FlowTimeouts,
    host: TcpHost,
  ) {
    this.#words = endpoints.words;
    this.#doubles = endpoints.doubles;
    this.#endpoints = endpoints;
    this.#gaps = gaps;
    this.#histories = histories;
    this.#timeouts = timeouts;
    this.#host = host;
  }

  /** Prepares a new flow. */
  open(slot: number): void {
    this.#endpoints.initTracking(endpointOf(slot, 0));
    this.#endpoints.initTracking(endpointOf(slot, 1));
    this.#doubles[slot * DOUBLES + F_ATTEMPT] = Number.POSITIVE_INFINITY;
    this.#doubles[slot * DOUBLES + F_EXPIRE] = Number.POSITIVE_INFINITY;
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
    const seq = readWord(u8, at + 4);
    if (seq === this.#words[(synAck ? resp : orig) + EP_START]) return false;
    // The SYN that a SYN-ACK before it answered, captured in the wrong order.
    return !(
      !synAck &&
      endpoints.state(orig) === Tcp.synAckSent &&
      endpoints.state(resp) === Tcp.inactive &&
      seq === this.#words[resp + EP_START]
    );
  }

  /** Accounts one segment whose header and checksum are good. `header` is the length of the TCP header. */
  segment(slot: number, side: Side, decoder: Decoder, packet: Packet, header: number): void {
    const doubles = this.#doubles;
    const endpoints = this.#endpoints;
    const u8 = packet.u8;
    const at = decoder.transport;
    const flags = u8[at + 13];
    const seq = readWord(u8, at + 4);
    const ack = readWord(u8, at + 8);
    const bytes = decoder.transportBytes - header;
    const ep = endpointOf(slot, side);
    const peer = peerOf(ep);
    const control = flags & (TcpFlag.syn | TcpFlag.fin | TcpFlag.rst);

    let sequenceBytes = (flags & TcpFlag.rst) !== 0 ? 0 : bytes;
    if ((flags & TcpFlag.syn) !== 0) sequenceBytes++;
    if ((flags & TcpFlag.fin) !== 0) sequenceBytes++;
    const end = (seq + sequenceBytes) | 0;

    // Nearly all segments: nothing begins, ends or changes its state.
    const steady =
      control === 0 && endpoints.state(ep) === Tcp.established && endpoints.state(peer) === Tcp.established;
    if (!steady) {
      this.#notePartial(slot, this.isOrig(slot, side), flags);
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
      doubles[slot * DOUBLES + F_LAST] = packet.ts;
    if ((flags & TcpFlag.fin) !== 0) {
      endpoints.mark(ep, Ep.finSeen);
      const fin = relative + sequenceBytes;
      doubles[(ep >>> 1) + EP_F_FIN] = fin < 0 ? Number.MAX_SAFE_INTEGER : fin;
    }

    let acked = 0;
    if ((flags & TcpFlag.ack) !== 0) acked = this.#acknowledge(peer, ack, flags);
    this.#advance(slot, side, ep, end, flags, bytes);

    this.#doClose = false;
    if (!steady) this.#transition(slot, ep, this.isOrig(slot, side), flags, bytes, seq, packet);
    if ((flags & TcpFlag.ack) !== 0 && this.#gaps.acked(slot, peer, acked)) this.#checkEof(slot, peer);
    if (!steady) this.#noteHeard(slot, this.isOrig(slot, side));

    this.dataSeq = 0;
    if (
      bytes > 0 &&
      decoder.captured >= decoder.transportBytes &&
      (flags & TcpFlag.rst) === 0 &&
      relative >= 0
    ) {
      this.dataSeq = (flags & TcpFlag.syn) !== 0 ? relative + 1 : relative;
      this.#gaps.sent(ep, this.dataSeq, bytes);
    }
    this.#checkEof(slot, ep);
    if (this.#doClose) this.#close(slot, ep);
    if (control !== 0) this.checkExpiry(slot);
  }

  #origOf(slot: number): number {
    return endpointOf(slot, (this.#words[slot * WORDS + FLAGS] & Flag.origHigh) !== 0 ? 1 : 0);
  }

  #notePartial(slot: number, isOrig: boolean, flags: number): void {
    const at = slot * WORDS + FLAGS;
    const word = this.#words[at];
    if (isOrig) {
      if ((word & Flag.heardOrig) === 0)
        this.#words[at] =
          (flags & (TcpFlag.syn | TcpFlag.ack)) === TcpFlag.syn ? word & ~Flag.partial : word | Flag.partial;
    } else if ((word & (Flag.heardResp | Flag.partial)) === 0 && (flags & TcpFlag.syn) === 0) {
      this.#words[at] = word | Flag.partial;
    }
  }

  #noteHeard(slot: number, isOrig: boolean): void {
    const at = slot * WORDS + FLAGS;
    this.#words[at] = this.#words[at] | (isOrig ? Flag.heardOrig : Flag.heardResp);
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
      if (histories.isLoneSynAck(slot)) {
        this.#flip(slot);
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
      const last = slot * WORDS + (ep === endpointOf(slot, 0) ? 0 : CONTROL_WORDS);
      if (syn) {
        const letter = (flags & TcpFlag.ack) !== 0 ? LETTER.h : LETTER.s;
        this.#again(slot, last + LAST_SYN, Seen.syn, letter, relative, isOrig);
      } else if (fin) {
        this.#again(slot, last + LAST_FIN, Seen.fin, LETTER.f, relative + bytes, isOrig);
      } else {
        this.#again(slot, last + LAST_RST, Seen.rst, LETTER.r, relative, isOrig);
      }
    }
  }

  /** A control letter, again only with another sequence number than that of the one before. */
  #again(slot: number, at: number, bit: number, letter: number, relative: number, isOrig: boolean): void {
    const seq = relative | 0;
    if (this.#histories.once(slot, bit, letter, isOrig) && seq !== this.#words[at])
      this.#histories.add(slot, letter, isOrig);
    this.#words[at] = seq;
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

  #setState(slot: number, ep: number, state: number): void {
    const at = ep + EP_STATE;
    const word = this.#words[at];
    const old = word & STATE_MASK;
    if (old === state) return;
    if (!isHandshake(state) && isHandshake(old) && isHandshake(this.#endpoints.state(peerOf(ep))))
      setTimeoutClass(this.#words, slot, Timeout.tcp);
    this.#words[at] =
      (word & ~((STATE_MASK << PREVIOUS_SHIFT) | STATE_MASK)) | (old << PREVIOUS_SHIFT) | state;
  }

  #transition(
    slot: number,
    ep: number,
    isOrig: boolean,
    flags: number,
    bytes: number,
    seq: number,
    packet: Packet,
  ): void {
    switch (this.#endpoints.state(ep)) {
      case Tcp.inactive:
        this.#fromInactive(slot, ep, isOrig, flags, bytes, seq, packet);
        break;
      case Tcp.synSent:
      case Tcp.synAckSent:
        this.#fromSynSent(slot, ep, flags);
        break;
      case Tcp.established:
      case Tcp.partial:
        this.#fromEstablished(slot, ep, flags);
        break;
      case Tcp.closed:
        if ((flags & TcpFlag.rst) !== 0 && this.#endpoints.state(peerOf(ep)) !== Tcp.closed) {
          this.#setState(slot, ep, Tcp.reset);
          if (!this.#endpoints.has(ep, Ep.didClose)) this.#doClose = true;
        }
        break;
      default:
        break;
    }
  }

  #fromInactive(
    slot: number,
    ep: number,
    isOrig: boolean,
    flags: number,
    bytes: number,
    seq: number,
    packet: Packet,
  ): void {
    const endpoints = this.#endpoints;
    const peer = peerOf(ep);
    const hasAck = (flags & TcpFlag.ack) !== 0;
    if ((flags & TcpFlag.syn) !== 0) {
      if (isOrig) {
        this.#setState(slot, ep, hasAck ? Tcp.synAckSent : Tcp.synSent);
        this.#doubles[slot * DOUBLES + F_ATTEMPT] = packet.ts + this.#timeouts.attempt;
        this.#host.timerSet(slot);
      } else {
        if (!hasAck && endpoints.state(peer) === Tcp.synAckSent && seq === this.#words[ep + EP_START]) {
          // SYN and SYN-ACK in the wrong order.
          this.#flip(slot);
          this.#histories.flipped(slot);
          this.#setState(slot, peer, Tcp.established);
          this.#noteHeard(slot, true);
        }
        if (endpoints.state(peer) === Tcp.synSent) this.#setState(slot, peer, Tcp.established);
        this.#setState(slot, ep, Tcp.established);
        if (endpoints.state(peer) !== Tcp.partial) this.#host.established(slot);
      }
    }
    if ((flags & TcpFlag.fin) !== 0) {
      this.#setState(slot, ep, Tcp.closed);
      this.#doClose = true;
    }
    if ((flags & TcpFlag.rst) !== 0) {
      this.#setState(slot, ep, Tcp.reset);
      this.#doClose = true;
    }
    if (endpoints.state(ep) !== Tcp.inactive) return;
    // Some answer a SYN with an ACK before their SYN-ACK.
    if (!isOrig && bytes === 0 && endpoints.state(peer) === Tcp.synSent) return;
    if (hasAck && endpoints.state(peer) === Tcp.established) {
      this.#setState(slot, ep, Tcp.established);
      const at = slot * WORDS + FLAGS;
      this.#words[at] = this.#words[at] & ~Flag.partial;
      this.#noteHeard(slot, isOrig);
    } else {
      this.#setState(slot, ep, Tcp.partial);
    }
  }

  #fromSynSent(slot: number, ep: number, flags: number): void {
    if ((flags & TcpFlag.fin) !== 0) {
      this.#setState(slot, ep, Tcp.closed);
      this.#doClose = true;
    }
    if ((flags & TcpFlag.rst) !== 0) {
      this.#setState(slot, ep, Tcp.reset);
      this.#quiet(slot);
      this.#doClose = true;
    }
  }

  #fromEstablished(slot: number, ep: number, flags: number): void {
    const endpoints = this.#endpoints;
    const peer = peerOf(ep);
    if (
      (flags & TcpFlag.syn) !== 0 &&
      (flags & TcpFlag.ack) === 0 &&
      endpoints.state(ep) === Tcp.partial &&
      endpoints.state(peer) === Tcp.inactive
    ) {
      this.#setState(slot, ep, Tcp.synSent);
    }
    if ((flags & TcpFlag.fin) !== 0 && (flags & TcpFlag.rst) === 0) {
      this.#setState(slot, ep, Tcp.closed);
      // FIN and RST of the peer, and now this FIN: an ordinary end.
      if (endpoints.state(peer) === Tcp.reset && endpoints.previous(peer) === Tcp.closed)
        this.#setState(slot, peer, Tcp.closed);
      this.#doClose = true;
    }
    if ((flags & TcpFlag.rst) !== 0) {
      this.#setState(slot, ep, Tcp.reset);
      this.#doClose = true;
      if (endpoints.state(peer) !== Tcp.reset || endpoints.previous(peer) !== Tcp.established)
        this.#quiet(slot);
    }
  }

  #quiet(slot: number): void {
    const at = slot * WORDS + FLAGS;
    this.#words[at] = this.#words[at] | Flag.quiet;
  }

  #flip(slot: number): void {
    const at = slot * WORDS + FLAGS;
    const word = this.#words[at];
    const heard =
      ((word & Flag.heardOrig) !== 0 ? Flag.heardResp : 0) |
      ((word & Flag.heardResp) !== 0 ? Flag.heardOrig : 0);
    this.#words[at] = (word & ~(Flag.heardOrig | Flag.heardResp | Flag.partial)) | heard;
    this.#host.flip(slot);
  }

  #checkEof(slot: number, ep: number): void {
    const endpoints = this.#endpoints;
    if (endpoints.has(ep, Ep.didEof)) return;
    const state = endpoints.state(ep);
    if (!endpoints.has(ep, Ep.finSeen) && state !== Tcp.closed && state !== Tcp.reset) return;
    if (this.#gaps.pending(ep)) return;
    endpoints.mark(ep, Ep.didEof);
    const at = slot * WORDS + FLAGS;
    if ((this.#words[at] & Flag.closeDeferred) !== 0) {
      this.#close(slot, ep);
      this.#words[at] = this.#words[at] & ~Flag.closeDeferred;
    }
  }

  /** The endpoint has sent its FIN or RST: closed, unless something is outstanding. */
  #close(slot: number, ep: number): void {
    const endpoints = this.#endpoints;
    const peer = peerOf(ep);
    const at = slot * WORDS + FLAGS;
    if (this.#gaps.pending(ep)) {
      this.#words[at] = this.#words[at] | Flag.closeDeferred;
      return;
    }
    this.#words[at] = this.#words[at] & ~Flag.closeDeferred;
    if (endpoints.has(ep, Ep.didClose)) return;
    endpoints.mark(ep, Ep.didClose);
    if (
      endpoints.state(ep) === Tcp.reset ||
      endpoints.has(peer, Ep.didClose) ||
      endpoints.state(peer) === Tcp.inactive
    ) {
      this.#words[at] = this.#words[at] | Flag.closing | Flag.quiet;
      const record = slot * DOUBLES;
      this.#doubles[record + F_ATTEMPT] = Number.POSITIVE_INFINITY;
      this.#doubles[record + F_EXPIRE] = this.#doubles[record + F_LAST] + this.#timeouts.close;
      this.#host.timerSet(slot);
    } else if (endpoints.previous(ep) !== Tcp.inactive) {
      const record = slot * DOUBLES;
      this.#words[at] |= Flag.halfClosed;
      this.#doubles[record + F_ATTEMPT] = this.#doubles[record + F_LAST] + this.#timeouts.halfClosedCheck;
      this.#host.timerSet(slot);
    }
  }

  /** Whether the looks at half-closed connections can end this one, were it silent. */
  #mayExpire(slot: number): boolean {
    const flags = this.#words[slot * WORDS + FLAGS];
    if ((flags & (Flag.quiet | Flag.closing)) !== 0) return false;
    const a = endpointOf(slot, 0);
    const b = peerOf(a);
    const endpoints = this.#endpoints;
    const oneSilent = endpoints.state(a) === Tcp.inactive || endpoints.state(b) === Tcp.inactive;
    const oneClosed = endpoints.has(a, Ep.didClose) || endpoints.has(b, Ep.didClose);
    if (oneClosed && (oneSilent || endpoints.state(a) === Tcp.reset || endpoints.state(b) === Tcp.reset))
      return true;
    return endpoints.state(a) === Tcp.inactive && endpoints.state(b) === Tcp.inactive;
  }

  /** Sets F_EXPIRE to the next of the regular looks (5 s after the start, every 6 s from there) if one can matter. */
  checkExpiry(slot: number): void {
    if (!this.#mayExpire(slot)) return;
    const record = slot * DOUBLES;
    const last = this.#doubles[record + F_LAST];
    const first = this.#doubles[record + F_START] + this.#timeouts.attempt;
    const period = this.#timeouts.halfClosedCheck;
    const look = last < first ? first : first + period * (Math.floor((last - first) / period) + 1);
    if (look < this.#doubles[record + F_EXPIRE]) {
      this.#doubles[record + F_EXPIRE] = look;
      this.#host.timerSet(slot);
    }
  }

  /** Runs the timers that are due at `now`; true when they end the flow. Inactivity is the engine's. */
  expired(slot: number, now: number): boolean {
    const record = slot * DOUBLES;
    const doubles = this.#doubles;
    const flags = this.#words[slot * WORDS + FLAGS];
    const expire = doubles[record + F_EXPIRE];
    if ((flags & Flag.closing) !== 0) return expire <= now;
    if (doubles[record + F_ATTEMPT] <= now) {
      doubles[record + F_ATTEMPT] = Number.POSITIVE_INFINITY;
      if ((flags & Flag.quiet) === 0) {
        if ((flags & Flag.halfClosed) !== 0) {
          if (this.#mayExpire(slot) && this.#isSilent(slot, now)) return true;
          doubles[record + F_ATTEMPT] = now + this.#timeouts.halfClosedCheck;
        } else if (this.#isUnanswered(slot)) {
          return true;
        }
      }
    }
    if (expire <= now) {
      doubles[record + F_EXPIRE] = Number.POSITIVE_INFINITY;
      if (this.#mayExpire(slot)) {
        if (this.#isSilent(slot, now)) return true;
        doubles[record + F_EXPIRE] = now + this.#timeouts.halfClosedCheck;
      }
    }
    return false;
  }

  #isUnanswered(slot: number): boolean {
    const orig = this.#origOf(slot);
    const state = this.#endpoints.state(orig);
    return (
      (state === Tcp.synSent || state === Tcp.synAckSent) &&
      this.#endpoints.state(peerOf(orig)) === Tcp.inactive
    );
  }

  #isSilent(slot: number, now: number): boolean {
    return this.#doubles[slot * DOUBLES + F_LAST] + this.#timeouts.linger < now;
  }
}

function isHandshake(state: number): boolean {
  return state === Tcp.inactive || state === Tcp.synSent || state === Tcp.synAckSent;
}

function readWord(u8: Uint8Array, at: number): number {
  return (u8[at] << 24) | (u8[at + 1] << 16) | (u8[at + 2] << 8) | u8[at + 3];
}
