import type { LossTable, Stage } from '../../gate/losses/index.ts';
import type { Tell } from './capture-loss.ts';
import { Hysteresis } from './hysteresis.ts';

/** Seconds that an alarm looks back over: a burst of a second is seen, and told once. */
const WINDOW_SECONDS = 10;

interface Alarm {
  note: string;
  stages: readonly Stage[];
  what: string;
  after: string;
}

/** What is told of packets that are lost on their way; the share is of those that came to the captures, and these. */
const ALARMS: readonly Alarm[] = [
  { note: 'NIC_Loss', stages: ['nic'], what: 'lost in the card', after: '`sluice doctor` says what helps' },
  {
    note: 'Kernel_Loss',
    stages: ['softnet', 'gate'],
    what: 'lost between the card and the captures',
    after: 'docs/losses.md says what helps',
  },
  {
    note: 'Capture_Loss',
    stages: ['capture'],
    what: 'lost as rings or sockets were full',
    after: 'more workers, a larger --ring-bytes, or policies that shunt more help',
  },
];

interface Mark {
  at: number;
  lost: Map<string, number>;
  received: number;
  lines: number;
  lapsed: number;
}

/** Looks at the ledger of losses, and tells when too much is lost, and when that is over. */
export class LossAlarms {
  readonly #shares = ALARMS.map((alarm) => ({ alarm, state: new Hysteresis(1) }));
  readonly #lines = new Hysteresis(1);
  readonly #leases = new Hysteresis(1);
  readonly #threshold: number;
  #mark: Mark | undefined;

  /** `threshold`: percent of packets. */
  constructor(threshold: number) {
    this.#threshold = threshold;
  }

  /** To be called with every new table. */
  look(table: LossTable, tell: Tell): void {
    const now = markOf(table);
    const before = this.#mark;
    if (before === undefined) {
      this.#mark = now;
      return;
    }
    const seconds = now.at - before.at;
    if (seconds < WINDOW_SECONDS) return;
    this.#mark = now;
    const received = now.received - before.received;
    for (const { alarm, state } of this.#shares) {
      const lost = (now.lost.get(alarm.note) ?? 0) - (before.lost.get(alarm.note) ?? 0);
      const percent = lost > 0 ? (100 * lost) / (lost + received) : 0;
      const turn = state.look(percent / this.#threshold);
      const what = `${percent.toFixed(2)} % of the packets of ${seconds.toFixed(0)} s (${lost}) were ${alarm.what}`;
      if (turn === 'raised') tell(`Sluice::${alarm.note}`, `${what}: ${alarm.after}`);
      else if (turn === 'cleared') tell(`Sluice::${alarm.note}_Over`, what);
    }
    const lines = now.lines - before.lines;
    const log = this.#lines.look(lines);
    if (log === 'raised')
      tell(
        'Sluice::Log_Loss',
        `${lines} lines of logs were lost in ${seconds.toFixed(0)} s: disk or sinks are too slow`,
      );
    else if (log === 'cleared') tell('Sluice::Log_Loss_Over', 'no line of the logs is lost any more');
    const lapsed = now.lapsed - before.lapsed;
    const lease = this.#leases.look(lapsed);
    if (lease === 'raised')
      tell(
        'Sluice::Lease_Lapsed',
        `${lapsed} packets of shunted connections passed, as the lease of their worker was over: it did not make progress`,
      );
    else if (lease === 'cleared') tell('Sluice::Lease_Held', 'the leases of all workers are held again');
  }
}

function markOf({ at, rows }: LossTable): Mark {
  const sum = (test: (row: LossTable['rows'][number]) => boolean): number =>
    rows.reduce((total, row) => (test(row) ? total + row.total : total), 0);
  return {
    at,
    lost: new Map(
      ALARMS.map(({ note, stages }) => [
        note,
        sum(({ kind, unit, stage }) => kind === 'loss' && unit === 'packets' && stages.includes(stage)),
      ]),
    ),
    received: sum(({ stage, counter }) => stage === 'capture' && counter === 'received'),
    lines: sum(({ kind, unit }) => kind === 'loss' && unit === 'lines'),
    lapsed: sum(({ stage, counter }) => stage === 'gate' && counter === 'reason.passLease'),
  };
}
