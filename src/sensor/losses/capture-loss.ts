import { Loss } from '../../flow/index.ts';
import type { CaptureLossRecord } from '../../log/other-logs.ts';
import { Stat } from '../setup.ts';
import type { Station } from '../station.ts';
import { Hysteresis } from './hysteresis.ts';

/** What capture-loss tells to people, in Zeek's kinds. */
export type Tell = (note: string, message: string) => void;

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
  readonly #stations: readonly Station[];
  readonly #interval: number;
  readonly #threshold: number;
  readonly #peers = new Map<Float64Array, Peer>();
  #began: number | undefined;

  /** `interval` in seconds, `threshold` in percent. */
  constructor(stations: readonly Station[], interval: number, threshold: number) {
    this.#stations = stations;
    this.#interval = interval;
    this.#threshold = threshold;
  }

  /** The lines that are due at `now`, seconds since the epoch; with `last`, of the interval that is not over. */
  look(now: number, tell: Tell, last = false): CaptureLossRecord[] {
    this.#began ??= now;
    const seconds = now - this.#began;
    if (seconds <= 0 || (!last && seconds < this.#interval)) return [];
    this.#began = now;
    return this.#stations.flatMap(({ name, stats }) =>
      stats.map((of, number) =>
        this.#measure(
          of,
          stats.length > 1 ? `${name}-${number}` : name,
          now,
          seconds,
          last ? () => {} : tell,
        ),
      ),
    );
  }

  #measure(of: Float64Array, peer: string, ts: number, tsDelta: number, tell: Tell): CaptureLossRecord {
    let known = this.#peers.get(of);
    if (known === undefined) {
      known = { acks: 0, gaps: 0, loss: new Hysteresis(this.#threshold), silent: false };
      this.#peers.set(of, known);
    }
    const acks = of[Stat.losses + Loss.acks] - known.acks;
    const gaps = of[Stat.losses + Loss.gaps] - known.gaps;
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
