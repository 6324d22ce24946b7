import { join } from 'node:path';
import { SluiceError } from '../../src/base/errors.ts';
import { Detector, LEASES } from './detectors.ts';
import type { Sent } from './sender-protocol.ts';
import { LONG, type Stand } from './stand.ts';
import { until } from './until.ts';

/** An attack on all gates at once, found by detectors through NATS, of which the one at work is killed in the middle. */
export interface AttackResult {
  readonly kind: string;
  /** Of the attack. */
  readonly seconds: number;
  /** From its first packet to the first one that a rule dropped, at each gate. */
  readonly firstDrop: readonly number[];
  /** Shares of packets that were dropped while it lasted. */
  readonly attackDropped: number;
  readonly usualDropped: number;
  readonly sent: number;
  /** From the death of the detector until another held all of its partitions. */
  readonly takenOver: number;
}

const KIND = 'ntp-amplification';
const LEARN_MS = 12_000;
/** Goals of the fleet: seconds to the first drop, shares of the whole attack and of what is usual. */
const BARS = { firstDrop: 5, dropped: 0.91, usual: 0.001 } as const;
/** Rules of detectors. */
const AUTO = /^auto-/;

const sum = (all: readonly Sent[], what: keyof Sent): number =>
  all.reduce((total, one) => total + one[what], 0);
const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const noAuto = async (stand: Stand): Promise<true | undefined> =>
  (await stand.states()).every(({ inForce }) => [...inForce.keys()].every((id) => !AUTO.test(id))) ||
  undefined;

/** Waits until each of these detectors holds something, and together they hold all. */
const holdAll = (some: readonly Detector[]): Promise<true> =>
  until(
    () => {
      const held = some.map((detector) => detector.held);
      const total = new Set(held.flatMap((names) => [...names]));
      return (held.every(({ size }) => size > 0) && total.size === LEASES) || undefined;
    },
    'the detectors do not hold all partitions',
    LONG,
  );

/** @throws SluiceError LAB when something does not come about that takes no particular time */
export async function attack(stand: Stand, seconds: number): Promise<AttackResult> {
  const url = stand.server.url('127.0.0.1');
  const detectors: Detector[] = [];
  try {
    for (const name of ['detector1', 'detector2']) {
      detectors.push(await Detector.start(join(stand.directory, name), url, stand.author.keyFile));
      await holdAll(detectors);
    }
    await until(
      async () =>
        (await Promise.all(stand.real.map((edge) => edge.samplesSent()))).every((sent) => sent > 100) ||
        undefined,
      'the gates send no samples',
      LONG,
    );
    await wait(LEARN_MS);
    const before = await Promise.all(stand.real.map((edge) => edge.traffic()));
    const begun = performance.now();
    await Promise.all(stand.real.map((edge) => edge.attack(true)));
    const firstDrop = await Promise.all(
      stand.real.map((edge) =>
        until(
          async () => ((await edge.dropped(AUTO)) > 0 ? (performance.now() - begun) / 1000 : undefined),
          'nothing is dropped',
          LONG,
        ),
      ),
    );
    await wait(Math.max(0, (1000 * seconds) / 3 - (performance.now() - begun)));
    // Who holds the partition of the target is at work: it alone has published rules.
    const [victim, other] = detectors.toSorted((a, b) => b.decided - a.decided) as [Detector, Detector];
    const killed = performance.now();
    await victim.kill();
    await holdAll([other]);
    const takenOver = (performance.now() - killed) / 1000;
    await wait(Math.max(0, 1000 * seconds - (performance.now() - begun)));
    const lasted = (performance.now() - begun) / 1000;
    await Promise.all(stand.real.map((edge) => edge.attack(false)));
    const after = await Promise.all(stand.real.map((edge) => edge.traffic()));
    const share = (what: keyof Sent): number => {
      const sent =
        sum(
          after.map((one) => one.sent),
          what,
        ) -
        sum(
          before.map((one) => one.sent),
          what,
        );
      const passed =
        sum(
          after.map((one) => one.passed),
          what,
        ) -
        sum(
          before.map((one) => one.passed),
          what,
        );
      return 1 - passed / sent;
    };
    const result: AttackResult = {
      kind: KIND,
      seconds: lasted,
      firstDrop,
      attackDropped: share('attack'),
      usualDropped: share('usual'),
      sent:
        sum(
          after.map((one) => one.sent),
          'attack',
        ) -
        sum(
          before.map((one) => one.sent),
          'attack',
        ),
      takenOver,
    };
    await until(() => noAuto(stand), 'the rules against the attack stay', LONG);
    return result;
  } finally {
    for (const detector of detectors) await detector.kill();
  }
}

/** @throws SluiceError LAB when it was answered too late, too little of it was dropped, or too much of what is usual */
export function checkGoals(result: AttackResult): void {
  const { firstDrop, attackDropped, usualDropped } = result;
  if (Math.max(...firstDrop) > BARS.firstDrop || attackDropped < BARS.dropped || usualDropped > BARS.usual)
    throw new SluiceError('LAB', `a goal is missed: ${attackText(result)}`);
}

const percent = (share: number): string => `${(100 * share).toFixed(2)} %`;

export function attackText({
  kind,
  seconds,
  firstDrop,
  attackDropped,
  usualDropped,
  sent,
  takenOver,
}: AttackResult): string {
  return `${kind}, ${seconds.toFixed(0)} s, ${sent.toLocaleString('en-US')} packets to ${firstDrop.length} gates: first drop after ${firstDrop.map((value) => value.toFixed(2)).join(', ')} s; ${percent(attackDropped)} of it dropped, ${(100 * usualDropped).toFixed(3)} % of the usual; its detector killed after a third, the other held all ${takenOver.toFixed(1)} s later`;
}
