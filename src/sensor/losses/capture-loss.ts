import type { CaptureLossRecord } from '../../log/other-logs.ts';
import { Hysteresis } from './hysteresis.ts';

/** What capture-loss tells to people, in Zeek's kinds. */
export type Tell = (note: string, message: string) => void;

/** What a worker has counted since the start. */
export interface AckCounts {
  peer: string;
  /** TCP acknowledgements, and those of what was not seen. */
  acks: number;
  gaps: number;
}

interface Peer {
  acks: number;
  gaps: number;
  readonly loss: Hysteresis;
  silent: boolean;
}

const percentOf = (part: number, whole: number): number => (whole > 0 ? (100 * part) / whole : 0);

/**
 * capture_loss.log, as Zeek's policy/misc/capture-loss: of the TCP acknowledgements of an interval, how many acknowledge
 * what was not seen. Connections that are shunted do not count.
 */
export class CaptureLossWatch {
  readonly #counts: () => readonly AckCounts[];
  readonly #interval: number;
  readonly #threshold: number;
  readonly #peers = new Map<string, Peer>();
  #began: number | undefined;

  /** `interval` in seconds, `threshold` in percent. */
  constructor(counts: () => readonly AckCounts[], interval: number, threshold: number) {
    this.#counts = counts;
    this.#interval = interval;
    this.#threshold = threshold;
  }

  /** The lines that are due at `now`, seconds since the epoch; with `last`, of the interval that is not over. */
  look(now: number, tell: Tell, last = false): CaptureLossRecord[] {
    this.#began ??= now;
    const seconds = now - this.#began;
    if (seconds <= 0 || (!last && seconds < this.#interval)) return [];
    this.#began = now;
    return this.#counts().map((counts) => this.#measure(counts, now, seconds, last ? () => {} : tell));
  }

  #measure(counts: AckCounts, ts: number, tsDelta: number, tell: Tell): CaptureLossRecord {
    const { peer } = counts;
    let known = this.#peers.get(peer);
    if (known === undefined) {
      known = { acks: 0, gaps: 0, loss: new Hysteresis(this.#threshold), silent: false };
      this.#peers.set(peer, known);
    }
    const acks = counts.acks - known.acks;
    const gaps = counts.gaps - known.gaps;
    known.acks += acks;
    known.gaps += gaps;
    const percentLost = percentOf(gaps, acks);
    // As with Zeek: without acknowledgements nothing can be said, which is worth saying.
    if ((acks === 0) !== known.silent) {
      known.silent = acks === 0;
      if (known.silent)
        tell('CaptureLoss::Too_Little_Traffic', `${peer}: no TCP acknowledgement in ${tsDelta.toFixed(0)} s`);
    }
    const turn = acks === 0 ? undefined : known.loss.look(percentLost);
    const share = `${percentLost.toFixed(3)} % of ${acks} TCP acknowledgements`;
    if (turn === 'raised')
      tell(
        'CaptureLoss::Too_Much_Loss',
        `${peer}: ${share} are of data that was not seen: the capture, or the tap before it, loses packets`,
      );
    else if (turn === 'cleared')
      tell('CaptureLoss::Loss_Over', `${peer}: only ${share} are of data that was not seen`);
    return { ts, tsDelta, peer, gaps, acks, percentLost };
  }
}
