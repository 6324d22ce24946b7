import type { Packet } from '../packet/packet.ts';
import { type Endpoints, Ep, PREVIOUS_SHIFT, peerOf, STATE_MASK, Tcp } from './endpoint.ts';
import type { Histories } from './history.ts';
import { CF_ATTEMPT, COLD_DOUBLES, EP_START, EP_STATE, FLAGS, Flag, WORDS } from './layout.ts';
import { type FlowTimeouts, setTimeoutClass, Timeout } from './timeouts.ts';

export const TcpFlag = { fin: 1, syn: 2, rst: 4, psh: 8, ack: 16, urg: 32 } as const;

/** What the engine does for the tracker. */
export interface TcpHost {
  /** The originator and responder of the flow change places (history letter apart). */
  flip(slot: number): void;
  /** The handshake is complete. */
  established(slot: number): void;
  /** A timer of the flow (F_ATTEMPT, F_EXPIRE) was set. */
  timerSet(slot: number): void;
}

/** The states of the endpoints: what a segment that begins, ends or is not expected changes (Zeek's UpdateStateMachine). */
export class TcpStates {
  /** The last transition was a FIN or RST that closes its sender, when nothing is outstanding. */
  closes = false;

  readonly #words: Int32Array;
  readonly #cold: Float64Array;
  readonly #endpoints: Endpoints;
  readonly #histories: Histories;
  readonly #timeouts: FlowTimeouts;
  readonly #host: TcpHost;

  constructor(endpoints: Endpoints, histories: Histories, timeouts: FlowTimeouts, host: TcpHost) {
    this.#words = endpoints.words;
    this.#cold = endpoints.coldDoubles;
    this.#endpoints = endpoints;
    this.#histories = histories;
    this.#timeouts = timeouts;
    this.#host = host;
  }

  transition(
    slot: number,
    ep: number,
    isOrig: boolean,
    flags: number,
    bytes: number,
    seq: number,
    packet: Packet,
  ): void {
    this.closes = false;
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
          if (!this.#endpoints.has(ep, Ep.didClose)) this.closes = true;
        }
        break;
      default:
        break;
    }
  }

  notePartial(slot: number, isOrig: boolean, flags: number): void {
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

  noteHeard(slot: number, isOrig: boolean): void {
    const at = slot * WORDS + FLAGS;
    this.#words[at] = this.#words[at] | (isOrig ? Flag.heardOrig : Flag.heardResp);
  }

  flip(slot: number): void {
    const at = slot * WORDS + FLAGS;
    const word = this.#words[at];
    const heard =
      ((word & Flag.heardOrig) !== 0 ? Flag.heardResp : 0) |
      ((word & Flag.heardResp) !== 0 ? Flag.heardOrig : 0);
    this.#words[at] = (word & ~(Flag.heardOrig | Flag.heardResp | Flag.partial)) | heard;
    this.#host.flip(slot);
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
        this.#cold[slot * COLD_DOUBLES + CF_ATTEMPT] = packet.ts + this.#timeouts.attempt;
        this.#host.timerSet(slot);
      } else {
        if (!hasAck && endpoints.state(peer) === Tcp.synAckSent && seq === this.#words[ep + EP_START]) {
          // SYN and SYN-ACK in the wrong order.
          this.flip(slot);
          this.#histories.flipped(slot);
          this.#setState(slot, peer, Tcp.established);
          this.noteHeard(slot, true);
        }
        if (endpoints.state(peer) === Tcp.synSent) this.#setState(slot, peer, Tcp.established);
        this.#setState(slot, ep, Tcp.established);
        if (endpoints.state(peer) !== Tcp.partial) this.#host.established(slot);
      }
    }
    if ((flags & TcpFlag.fin) !== 0) {
      this.#setState(slot, ep, Tcp.closed);
      this.closes = true;
    }
    if ((flags & TcpFlag.rst) !== 0) {
      this.#setState(slot, ep, Tcp.reset);
      this.closes = true;
    }
    if (endpoints.state(ep) !== Tcp.inactive) return;
    // Some answer a SYN with an ACK before their SYN-ACK.
    if (!isOrig && bytes === 0 && endpoints.state(peer) === Tcp.synSent) return;
    if (hasAck && endpoints.state(peer) === Tcp.established) {
      this.#setState(slot, ep, Tcp.established);
      const at = slot * WORDS + FLAGS;
      this.#words[at] = this.#words[at] & ~Flag.partial;
      this.noteHeard(slot, isOrig);
    } else {
      this.#setState(slot, ep, Tcp.partial);
    }
  }

  #fromSynSent(slot: number, ep: number, flags: number): void {
    if ((flags & TcpFlag.fin) !== 0) {
      this.#setState(slot, ep, Tcp.closed);
      this.closes = true;
    }
    if ((flags & TcpFlag.rst) !== 0) {
      this.#setState(slot, ep, Tcp.reset);
      this.#quiet(slot);
      this.closes = true;
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
      this.closes = true;
    }
    if ((flags & TcpFlag.rst) !== 0) {
      this.#setState(slot, ep, Tcp.reset);
      this.closes = true;
      if (endpoints.state(peer) !== Tcp.reset || endpoints.previous(peer) !== Tcp.established)
        this.#quiet(slot);
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

  #quiet(slot: number): void {
    const at = slot * WORDS + FLAGS;
    this.#words[at] = this.#words[at] | Flag.quiet;
  }
}

function isHandshake(state: number): boolean {
  return state === Tcp.inactive || state === Tcp.synSent || state === Tcp.synAckSent;
}
