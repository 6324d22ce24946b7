import type { RunConfig } from '../../base/config.ts';
import { Loss } from '../../flow/index.ts';
import {
  type CounterReading,
  gateReadings,
  LossLedger,
  type LossPoint,
  type LossTable,
  PathReader,
} from '../../gate/losses/index.ts';
import type { CaptureLossRecord } from '../../log/other-logs.ts';
import type { LogTotals } from '../../log/target.ts';
import { Stat } from '../setup.ts';
import type { Station } from '../station.ts';
import { LossAlarms } from './alarms.ts';
import { type AckCounts, CaptureLossWatch, type Tell } from './capture-loss.ts';
import { logReadings } from './engine-readings.ts';
import { type OrderReport, orderOf } from './order.ts';
import { queueReadings, stationReadings } from './own-counters.ts';

const INTERVAL_SECONDS = 1;

/** The ledger of losses of a run, with the order that packets came in: `/v1/losses`, and `losses` of `sluice run --json`. */
export interface LossReport extends LossTable {
  order: OrderReport[];
}

/** What a keeper works for. */
export interface LossHost {
  readonly config: Pick<RunConfig, 'captureLossInterval' | 'captureLossAlarm' | 'lossAlarm'>;
  /** Asks the log thread what became of the lines. */
  logTotals(): Promise<LogTotals>;
  /** A line of capture_loss.log. */
  log(record: CaptureLossRecord): void;
  /** Something for notice.log. */
  readonly tell: Tell;
}

/** Keeps the ledger of losses of a run: reads the counters once a second, and once more at the end. */
export class LossKeeper {
  readonly #stations: readonly Station[];
  readonly #path = new PathReader();
  readonly #ledger = new LossLedger();
  readonly #host: LossHost;
  readonly #captureLoss: CaptureLossWatch;
  readonly #alarms: LossAlarms;
  #logs: LogTotals | undefined;
  #asking: Promise<void> | undefined;
  /** Of the end: stations that are closed have no workers any more. */
  #order: OrderReport[] | undefined;
  #next = 0;

  constructor(stations: readonly Station[], host: LossHost) {
    this.#stations = stations;
    this.#host = host;
    const { captureLossInterval, captureLossAlarm, lossAlarm } = host.config;
    this.#captureLoss = new CaptureLossWatch(() => peersOf(stations), captureLossInterval, captureLossAlarm);
    this.#alarms = new LossAlarms(lossAlarm);
  }

  /** To be called often. */
  look(now = performance.now() / 1000): void {
    if (now < this.#next) return;
    this.#next = now + INTERVAL_SECONDS;
    void this.#askLogs();
    this.#read();
    this.#alarms.look(this.#ledger.table(), this.#host.tell);
    for (const line of this.#captureLoss.look(Date.now() / 1000, this.#host.tell)) this.#host.log(line);
  }

  /** The last reading, after everything was written that is to be written. */
  async finish(): Promise<void> {
    await this.#asking;
    for (const line of this.#captureLoss.look(Date.now() / 1000, this.#host.tell, true)) this.#host.log(line);
    await this.#askLogs();
    this.#read();
    this.#order = orderOf(this.#stations);
  }

  /** What became of the lines that still waited when the logs were closed. */
  closed(totals: LogTotals): void {
    const out: CounterReading[] = [];
    logReadings(totals, out);
    this.#ledger.take(Date.now() / 1000, out);
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
    queueReadings(stations, out);
    if (this.#logs !== undefined) logReadings(this.#logs, out);
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
      this.#logs = await this.#host.logTotals();
    } catch {
      // A log thread that has failed says so itself.
    }
  }

  report(): LossReport {
    return { ...this.#ledger.table(), order: this.#order ?? orderOf(this.#stations) };
  }
}

/** What each worker counts of acknowledgements. */
function peersOf(stations: readonly Station[]): AckCounts[] {
  return stations.flatMap(({ name, stats }) =>
    stats.map((of, number) => ({
      peer: stats.length > 1 ? `${name}-${number}` : name,
      acks: of[Stat.losses + Loss.acks],
      gaps: of[Stat.losses + Loss.gaps],
    })),
  );
}

/** The cards that packets are captured from, or that have a gate. */
function pointsOf(stations: readonly Station[]): LossPoint[] {
  return stations.flatMap(({ kind, name, gate, mode, capture }) => {
    const sockets = capture.startsWith('afxdp');
    if (kind === 'interface') return [{ ifname: name, mode, sockets }];
    return gate === undefined ? [] : [{ ifname: gate.ifname, mode, sockets }];
  });
}
