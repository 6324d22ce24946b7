import { type Endpoints, Ep, endpointOf, peerOf, Tcp } from './endpoint.ts';
import type { GapTracker } from './gaps.ts';
import {
  CF_ATTEMPT,
  CF_EXPIRE,
  CF_START,
  COLD_DOUBLES,
  DOUBLES,
  F_LAST,
  FLAGS,
  Flag,
  WORDS,
} from './layout.ts';
import type { TcpHost } from './tcp-states.ts';
import type { FlowTimeouts } from './timeouts.ts';

/** When the sides of a connection have closed, and when the connection ends by that (Zeek's ConnectionClosed and timers). */
export class TcpCloser {
  readonly #words: Int32Array;
  readonly #doubles: Float64Array;
  readonly #cold: Float64Array;
  readonly #endpoints: Endpoints;
  readonly #gaps: GapTracker;
  readonly #timeouts: FlowTimeouts;
  readonly #host: TcpHost;

  constructor(endpoints: Endpoints, gaps: GapTracker, timeouts: FlowTimeouts, host: TcpHost) {
    this.#words = endpoints.words;
    this.#doubles = endpoints.doubles;
    this.#cold = endpoints.coldDoubles;
    this.#endpoints = endpoints;
    this.#gaps = gaps;
    this.#timeouts = timeouts;
    this.#host = host;
  }

  checkEof(slot: number, ep: number): void {
    const endpoints = this.#endpoints;
    if (endpoints.has(ep, Ep.didEof)) return;
    const state = endpoints.state(ep);
    if (!endpoints.has(ep, Ep.finSeen) && state !== Tcp.closed && state !== Tcp.reset) return;
    if (this.#gaps.pending(ep)) return;
    endpoints.mark(ep, Ep.didEof);
    const at = slot * WORDS + FLAGS;
    if ((this.#words[at] & Flag.closeDeferred) !== 0) {
      this.close(slot, ep);
      this.#words[at] = this.#words[at] & ~Flag.closeDeferred;
    }
  }

  /** The endpoint has sent its FIN or RST: closed, unless something is outstanding. */
  close(slot: number, ep: number): void {
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
      const record = slot * COLD_DOUBLES;
      this.#cold[record + CF_ATTEMPT] = Number.POSITIVE_INFINITY;
      this.#cold[record + CF_EXPIRE] = this.#doubles[slot * DOUBLES + F_LAST] + this.#timeouts.close;
      this.#host.timerSet(slot);
    } else if (endpoints.previous(ep) !== Tcp.inactive) {
      this.#words[at] |= Flag.halfClosed;
      this.#cold[slot * COLD_DOUBLES + CF_ATTEMPT] =
        this.#doubles[slot * DOUBLES + F_LAST] + this.#timeouts.halfClosedCheck;
      this.#host.timerSet(slot);
    }
  }

  /** Sets F_EXPIRE to the next of the regular looks (5 s after the start, every 6 s from there) if one can matter. */
  checkExpiry(slot: number): void {
    if (!this.#mayExpire(slot)) return;
    const record = slot * COLD_DOUBLES;
    const last = this.#doubles[slot * DOUBLES + F_LAST];
    const first = this.#cold[record + CF_START] + this.#timeouts.attempt;
    const period = this.#timeouts.halfClosedCheck;
    const look = last < first ? first : first + period * (Math.floor((last - first) / period) + 1);
    if (look < this.#cold[record + CF_EXPIRE]) {
      this.#cold[record + CF_EXPIRE] = look;
      this.#host.timerSet(slot);
    }
  }

  /** Runs the timers that are due at `now`; true when they end the flow. Inactivity is the engine's. */
  expired(slot: number, now: number): boolean {
    const record = slot * COLD_DOUBLES;
    const cold = this.#cold;
    const flags = this.#words[slot * WORDS + FLAGS];
    const expire = cold[record + CF_EXPIRE];
    if ((flags & Flag.closing) !== 0) return expire <= now;
    if (cold[record + CF_ATTEMPT] <= now) {
      cold[record + CF_ATTEMPT] = Number.POSITIVE_INFINITY;
      if ((flags & Flag.quiet) === 0) {
        if ((flags & Flag.halfClosed) !== 0) {
          if (this.#mayExpire(slot) && this.#isSilent(slot, now)) return true;
          cold[record + CF_ATTEMPT] = now + this.#timeouts.halfClosedCheck;
        } else if (this.#isUnanswered(slot)) {
          return true;
        }
      }
    }
    if (expire <= now) {
      cold[record + CF_EXPIRE] = Number.POSITIVE_INFINITY;
      if (this.#mayExpire(slot)) {
        if (this.#isSilent(slot, now)) return true;
        cold[record + CF_EXPIRE] = now + this.#timeouts.halfClosedCheck;
      }
    }
    return false;
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

  #isUnanswered(slot: number): boolean {
    const orig = endpointOf(slot, (this.#words[slot * WORDS + FLAGS] & Flag.origHigh) !== 0 ? 1 : 0);
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
