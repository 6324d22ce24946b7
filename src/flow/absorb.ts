import { IpProto } from '../packet/decode.ts';
import type { Counts } from './counts.ts';
import { distance, type Endpoints, Ep, endpointOf, peerOf, Tcp } from './endpoint.ts';
import type { GapTracker } from './gaps.ts';
import type { Histories } from './history.ts';
import {
  DOUBLES,
  EP_ACK,
  EP_ACK_WRAPS,
  EP_F_PAYLOAD,
  EP_LAST,
  EP_LAST_WRAPS,
  EP_RETRANSMITS,
  EP_ZERO_WINDOWS,
  F_LAST,
  Seen,
} from './layout.ts';
import type { TcpTracker } from './tcp.ts';
import type { ShuntEvent, SideDelta } from './types.ts';

const WRAP = 4_294_967_296;
const LETTER = { D: 0x44, A: 0x41, T: 0x54, W: 0x57 } as const;

/** Takes what the gate dropped into the flow, so that its record is as if each packet had been accounted. */
export class Absorber {
  readonly #endpoints: Endpoints;
  readonly #gaps: GapTracker;
  readonly #counts: Counts;
  readonly #histories: Histories;
  readonly #tcp: TcpTracker;

  constructor(endpoints: Endpoints, gaps: GapTracker, counts: Counts, histories: Histories, tcp: TcpTracker) {
    this.#endpoints = endpoints;
    this.#gaps = gaps;
    this.#counts = counts;
    this.#histories = histories;
    this.#tcp = tcp;
  }

  tcp(slot: number, sides: readonly [SideDelta, SideDelta], events: readonly ShuntEvent[]): void {
    const endpoints = this.#endpoints;
    const words = endpoints.words;
    const low = endpointOf(slot, 0);
    const high = peerOf(low);
    endpoints.settle(low);
    endpoints.settle(high);
    this.#letters(slot, events);
    this.#sequence(low, sides[0]);
    this.#sequence(high, sides[1]);
    // What one side acknowledges the other has sent: after both sequence numbers, which tell the wraps.
    this.#acknowledged(slot, high, sides[0]);
    this.#acknowledged(slot, low, sides[1]);
    for (let side = 0; side < 2; side++) {
      const ep = side === 0 ? low : high;
      const delta = sides[side];
      words[ep + EP_RETRANSMITS] = words[ep + EP_RETRANSMITS] + delta.retransmits;
      words[ep + EP_ZERO_WINDOWS] = words[ep + EP_ZERO_WINDOWS] + delta.zeroWindows;
    }
    this.#count(slot, sides, !endpoints.has(low, Ep.didClose) || !endpoints.has(high, Ep.didClose));
  }

  /** UDP, ICMP and the rest; letters are kept of UDP, and payload of what has a header that we know. */
  other(
    slot: number,
    sides: readonly [SideDelta, SideDelta],
    events: readonly ShuntEvent[],
    protocol: number,
  ): void {
    const history = protocol === IpProto.udp;
    const payload = history || protocol === IpProto.icmp || protocol === IpProto.icmpv6;
    if (history) this.#letters(slot, events);
    for (let side = 0; side < 2; side++) {
      const delta = sides[side];
      if (delta.pkts === 0) continue;
      if (payload)
        addPayload(this.#endpoints.doubles, endpointOf(slot, side === 0 ? 0 : 1), delta.payloadBytes);
      if (history)
        this.#histories.once(slot, Seen.data, LETTER.D, this.#tcp.isOrig(slot, side === 0 ? 0 : 1));
    }
    this.#count(slot, sides, true);
  }

  #count(slot: number, sides: readonly [SideDelta, SideDelta], extend: boolean): void {
    const doubles = this.#endpoints.doubles;
    const record = slot * DOUBLES;
    for (let side = 0; side < 2; side++) {
      const delta = sides[side];
      this.#counts.add(slot, side === 0 ? 0 : 1, delta.pkts, delta.ipBytes);
      if (extend && delta.last > doubles[record + F_LAST]) doubles[record + F_LAST] = delta.last;
    }
  }

  #letters(slot: number, events: readonly ShuntEvent[]): void {
    for (const { letter, side } of events) {
      const isOrig = this.#tcp.isOrig(slot, side);
      if (letter === 'D') this.#histories.once(slot, Seen.data, LETTER.D, isOrig);
      else if (letter === 'A') this.#histories.once(slot, Seen.ack, LETTER.A, isOrig);
      else this.#histories.add(slot, LETTER[letter], isOrig);
    }
  }

  #sequence(ep: number, delta: SideDelta): void {
    if (delta.seq < 0) return;
    const words = this.#endpoints.words;
    const seq = delta.seq | 0;
    if (delta.seqWraps > 0) {
      words[ep + EP_LAST_WRAPS] = words[ep + EP_LAST_WRAPS] + delta.seqWraps;
      words[ep + EP_LAST] = seq;
    } else if (distance(seq, words[ep + EP_LAST]) > 0) {
      this.#endpoints.advanceLast(ep, seq);
    } else if (delta.retransmits === 0) {
      // No data: what was missing still is.
      return;
    }
    const missing = delta.edge < 0 ? 0 : Math.max(0, distance(words[ep + EP_LAST], delta.edge | 0));
    this.#gaps.takeAsSeen(ep, this.#endpoints.relativeLast(ep) - missing);
  }

  /** `delta` is of the side that acknowledges what `ep` sent. */
  #acknowledged(slot: number, ep: number, delta: SideDelta): void {
    const endpoints = this.#endpoints;
    if (delta.ack < 0 || endpoints.state(ep) === Tcp.inactive) return;
    const words = endpoints.words;
    const ack = delta.ack | 0;
    // The number nearest to the highest sequence end: an acknowledgement may have gone round more than once.
    const near = endpoints.last(ep) - distance(words[ep + EP_LAST], ack);
    if (near > endpoints.ack(ep)) {
      words[ep + EP_ACK_WRAPS] = Math.floor(near / WRAP);
      words[ep + EP_ACK] = ack;
    } else {
      this.#tcp.takeAck(ep, ack);
    }
    const relative = endpoints.relativeAck(ep);
    this.#gaps.takeAsSeen(ep, relative);
    this.#gaps.acked(slot, ep, relative);
  }
}

/** Adds payload of a protocol that counts it by packets; the first packet makes the side active, an empty one too. */
export function addPayload(doubles: Float64Array, ep: number, bytes: number): void {
  const at = (ep >>> 1) + EP_F_PAYLOAD;
  const before = doubles[at];
  doubles[at] = before < 0 ? bytes : before + bytes;
}
