import type { Decoder } from '../packet/decode.ts';
import type { Packet } from '../packet/packet.ts';
import { viewOf } from '../packet/view.ts';
import { distance, type Endpoints, Ep, MAX_IN_STEP, peerOf, STATE_MASK, Tcp } from './endpoint.ts';
import { WITHOUT_ACKS } from './gaps.ts';
import type { Histories } from './history.ts';
import {
  DOUBLES,
  EP_ACK,
  EP_ACK_WRAPS,
  EP_LAST,
  EP_LAST_WRAPS,
  EP_START,
  EP_STATE,
  F_LAST,
  FLAGS,
  Flag,
  SEEN,
  Seen,
  WORDS,
} from './layout.ts';
import { Loss } from './losses.ts';
import { TcpFlag } from './tcp-states.ts';
import type { Side } from './types.ts';

const LETTER_A = 0x41;
const LETTER_D = 0x44;

/** Flag.payloadWanted of either side. */
export const PAYLOAD_WANTED = Flag.payloadWanted * 3;

/** An endpoint for which nothing but its numbers can change. */
const STEADY = Tcp.established | Ep.inStep;
const STEADY_MASK = STATE_MASK | Ep.inStep | Ep.didClose | Ep.finSeen | Ep.skip | Ep.didEof;
const CONTROL = TcpFlag.syn | TcpFlag.fin | TcpFlag.rst | TcpFlag.ack;

/**
 * Nearly all segments: data that follows what was sent before, or an acknowledgement of data that was seen, on a
 * connection whose sides are both established. What they change is a part of what TcpTracker.segment changes, with the
 * same result; everything else is left to that.
 */
export class SteadySegments {
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #endpoints: Endpoints;
  readonly #histories: Histories;
  readonly #cutFrames: boolean;
  readonly #losses: Float64Array;

  constructor(endpoints: Endpoints, histories: Histories, cutFrames: boolean) {
    this.#cutFrames = cutFrames;
    this.#losses = endpoints.losses;
    this.#words = endpoints.words;
    this.#doubles = endpoints.doubles;
    this.#endpoints = endpoints;
    this.#histories = histories;
  }

  /**
   * Takes a segment when it is such a one: the relative sequence number of its data when its payload is wanted, 0 when it
   * is not or there is none; below 0 when it is no such segment and nothing was changed.
   */
  take(slot: number, side: Side, ep: number, decoder: Decoder, packet: Packet, bytes: number): number {
    const words = this.#words;
    const at = decoder.transport;
    const u8 = packet.u8;
    const peer = peerOf(ep);
    if ((u8[at + 13] & CONTROL) !== TcpFlag.ack) return -1;
    if ((words[ep + EP_STATE] & STEADY_MASK) !== STEADY || (words[peer + EP_STATE] & STEADY_MASK) !== STEADY)
      return -1;
    const last = words[ep + EP_LAST];
    // Out of order, or a closed window: a letter may be due.
    const view = viewOf(u8);
    if (view.getInt32(at + 4) !== last || (u8[at + 14] | u8[at + 15]) === 0) return -1;
    const flags = words[slot * WORDS + FLAGS];
    const isOrig = (flags & Flag.origHigh) === 0 ? side === 0 : side === 1;
    const bit = bytes > 0 ? Seen.data : Seen.ack;
    const seen = words[slot * WORDS + SEEN];
    const isNew = (seen & (isOrig ? bit : bit << 16)) === 0;
    // As long as the responder has no letter, one of the originator's may turn the connection.
    if (isNew && seen >>> 16 === 0) return -1;
    const ack = view.getInt32(at + 8);
    const acked = words[peer + EP_ACK];
    const news = distance(ack, acked);
    // Old, or of what was not seen; and 0 is believed with care.
    if (news < 0 || distance(words[peer + EP_LAST], ack) < 0 || ack === 0) return -1;
    let relative = 0;
    if (bytes > 0) {
      const unacked = distance(last, words[ep + EP_ACK]);
      if (unacked < 0 || unacked > MAX_IN_STEP) return -1;
      if (decoder.captured < decoder.transportBytes && !(this.#cutFrames && (flags & PAYLOAD_WANTED) === 0))
        return -1;
      // Nobody has acknowledged data yet: beyond some data, that is watched.
      const heard = (words[ep + EP_ACK] - words[ep + EP_START]) | 0;
      if ((heard === 0 || heard === 1) && this.#endpoints.relativeLast(ep) + bytes > WITHOUT_ACKS) return -1;
      if ((flags & (Flag.payloadWanted << side)) !== 0) relative = this.#endpoints.relativeLast(ep);
      const end = (last + bytes) | 0;
      if (end >>> 0 < last >>> 0) words[ep + EP_LAST_WRAPS] = words[ep + EP_LAST_WRAPS] + 1;
      words[ep + EP_LAST] = end;
    }
    if (news > 0) {
      if (ack >>> 0 < acked >>> 0) words[peer + EP_ACK_WRAPS] = words[peer + EP_ACK_WRAPS] + 1;
      words[peer + EP_ACK] = ack;
      // That of the SYN alone is none of data.
      if ((flags & Flag.marked) === 0 && ((ack - words[peer + EP_START]) | 0) !== 1)
        this.#losses[Loss.acks] = this.#losses[Loss.acks] + 1;
    }
    this.#doubles[slot * DOUBLES + F_LAST] = packet.ts;
    if (isNew) this.#histories.once(slot, bit, bytes > 0 ? LETTER_D : LETTER_A, isOrig);
    return relative;
  }
}
