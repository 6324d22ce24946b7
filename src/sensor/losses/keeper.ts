import {
  type CounterReading,
  gateReadings,
  LossLedger,
  type LossPoint,
  type LossTable,
  PathReader,
} from '../../gate/losses/index.ts';
import type { LogTotals } from '../../log/target.ts';
import type { Station } from '../station.ts';
import { type OrderReport, orderOf } from './order.ts';
import { logReadings, stationReadings } from './own-counters.ts';

const INTERVAL_SECONDS = 1;

/** The ledger of losses of a run, with the order that packets came in: `/v1/losses`, and `losses` of `sluice run --json`. */
export interface LossReport extends LossTable {
  order: OrderReport[];
}

/** Keeps the ledger of losses of a run: reads the counters once a second, and once more at the end. */
export class LossKeeper {
  readonly #stations: readonly Station[];
  readonly #path = new PathReader();
  readonly #ledger = new LossLedger();
  readonly #logTotals: () => Promise<LogTotals>;
  #logs: LogTotals | undefined;
  #asking: Promise<void> | undefined;
  #next = 0;

  /** `logTotals` asks the log thread what became of the lines. */
  constructor(stations: readonly Station[], logTotals: () => Promise<LogTotals>) {
    this.#stations = stations;
    this.#logTotals = logTotals;
  }

  /** To be called often. True when the counters were read. */
  look(now = performance.now() / 1000): boolean {
    if (now < this.#next) return false;
    this.#next = now + INTERVAL_SECONDS;
    void this.#askLogs();
    this.#read();
    return true;
  }

  /** The last reading, after everything was written that is to be written. */
  async finish(): Promise<void> {
    await this.#asking;
    await this.#askLogs();
    this.#read();
  }

  #read(): void {
    const out: CounterReading[] = [];
    const stations = this.#stations;
    const udp = stations.some(({ kind }) => kind === 'udp');
    this.#path.read(pointsOf(stations), udp, out);
    // Several mirrors have one gate before them.
    for (const gate of new Set(stations.map((station) => station.gate)))
      if (gate !== undefined) gateReadings(gate, out);
    for (const station of stations) stationReadings(station, out);
    logReadings(stations, this.#logs, out);
    this.#ledger.take(Date.now() / 1000, out);
  }

  /** It answers when it has time: a slow disk is waited for by nobody. */
  #askLogs(): Promise<void> {
    this.#asking ??= this.#ask().finally(() => {
      this.#asking = undefined;
    });
    return this.#asking;
  }

  async #ask(): Promise<void> {
    try {
      this.#logs = await this.#logTotals();
    } catch {
      // A log thread that has failed says so itself.
    }
  }

  report(): LossReport {
    return { ...this.#ledger.table(), order: orderOf(this.#stations) };
  }
}

/** The cards that packets are captured from, or that have a gate. */
function pointsOf(stations: readonly Station[]): LossPoint[] {
  return stations.flatMap(({ kind, name, gate, mode }) => {
    if (kind === 'interface') return [{ ifname: name, mode }];
    return gate === undefined ? [] : [{ ifname: gate.ifname, mode }];
  });
}
