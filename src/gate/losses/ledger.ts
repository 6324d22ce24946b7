/**
 * The ledger of losses: what became of packets on their way from the wire into the logs, as one table. Pure: whoever reads the
 * counters (path.ts, src/sensor/losses) hands readings in, and gets totals since the start and rates of the last interval.
 */

/** In the order of the way. */
export const STAGES = ['nic', 'softnet', 'udp', 'gate', 'capture', 'worker', 'log'] as const;
export type Stage = (typeof STAGES)[number];

/**
 * loss: nobody wanted it, enters the sum of losses; wanted: shunts, rules, limits, enters the sum of what was dropped on purpose;
 * warning: tells of trouble, enters no sum; count: what else there is to know.
 */
export const LOSS_KINDS = ['loss', 'wanted', 'warning', 'count'] as const;
export type LossKind = (typeof LOSS_KINDS)[number];

/** What is counted: packets (datagrams among them), lines of logs, or how often something happened. */
export type LossUnit = 'packets' | 'lines' | 'events' | 'entries';

/** One counter at one time. */
export interface CounterReading {
  stage: Stage;
  /** The source, its worker or the log; empty: the whole machine. */
  where: string;
  counter: string;
  kind: LossKind;
  unit: LossUnit;
  value: number;
  /** It began at 0 with the run; of others what was there before is not ours. */
  ours?: boolean;
  /** A value that goes up and down. */
  gauge?: boolean;
  /** Bits of the counter, for those that wrap. */
  bits?: 32;
}

/** Of a counter that began at 0 with us; of a value that goes up and down. */
export const OURS = { ours: true } as const;
export const GAUGE = { gauge: true } as const;

/** Puts counters of one place into a reading. */
export const adder =
  (to: CounterReading[], stage: Stage, where: string) =>
  (
    counter: string,
    kind: LossKind,
    unit: LossUnit,
    value: number,
    of: Partial<CounterReading> = {},
  ): void => {
    to.push({ stage, where, counter, kind, unit, value, ...of });
  };

export interface LossRow {
  stage: Stage;
  where: string;
  counter: string;
  kind: LossKind;
  unit: LossUnit;
  /** Since the start; of entries: now. */
  total: number;
  /** Per second over the last interval. */
  rate: number;
}

/** Sums over rows in packets of one kind. */
export interface LossSum {
  packets: number;
  rate: number;
}

/** The table at one time. */
export interface LossTable {
  /** Seconds since the epoch of the last reading. */
  at: number;
  /** Since the start. */
  seconds: number;
  /** What rates are over. */
  interval: number;
  lost: LossSum;
  wanted: LossSum;
  rows: LossRow[];
}

interface Account {
  row: LossRow;
  last: number;
}

/** Adds readings up. */
export class LossLedger {
  readonly #accounts = new Map<string, Account>();
  #begun: number | undefined;
  #at = 0;
  #interval = 0;

  /** Takes a reading of all counters at `at`, seconds. One that is not in it keeps its total, with a rate of 0. */
  take(at: number, readings: readonly CounterReading[]): void {
    const interval = this.#begun === undefined ? 0 : at - this.#at;
    this.#begun ??= at;
    this.#at = at;
    this.#interval = interval;
    for (const { row } of this.#accounts.values()) row.rate = 0;
    for (const reading of readings) this.#add(reading, interval);
  }

  #add(
    { stage, where, counter, kind, unit, value, ours, gauge, bits }: CounterReading,
    interval: number,
  ): void {
    const id = `${stage} ${where} ${counter}`;
    let account = this.#accounts.get(id);
    if (account === undefined) {
      account = {
        row: { stage, where, counter, kind, unit, total: 0, rate: 0 },
        last: ours === true ? 0 : value,
      };
      this.#accounts.set(id, account);
    }
    const { row } = account;
    row.kind = kind;
    if (gauge === true) {
      row.total = value;
      return;
    }
    const grown = growth(account.last, value, bits);
    account.last = value;
    row.total += grown;
    row.rate = interval > 0 ? grown / interval : 0;
  }

  table(): LossTable {
    const rows = [...this.#accounts.values()]
      .map(({ row }) => ({ ...row }))
      .toSorted((a, b) => STAGES.indexOf(a.stage) - STAGES.indexOf(b.stage));
    const sum = (kind: LossKind): LossSum => {
      const all = rows.filter((row) => row.kind === kind && row.unit === 'packets');
      return {
        packets: all.reduce((total, row) => total + row.total, 0),
        rate: all.reduce((total, row) => total + row.rate, 0),
      };
    };
    return {
      at: this.#at,
      seconds: this.#at - (this.#begun ?? this.#at),
      interval: this.#interval,
      lost: sum('loss'),
      wanted: sum('wanted'),
      rows,
    };
  }
}

/** What a counter has grown by: one that is smaller than before has wrapped, or began anew. */
export function growth(before: number, now: number, bits?: 32): number {
  if (now >= before) return now - before;
  const wrapped = now - before + 2 ** 32;
  return bits === 32 && wrapped < 2 ** 31 ? wrapped : now;
}
