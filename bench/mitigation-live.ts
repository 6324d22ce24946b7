import { SluiceError } from '../src/base/errors.ts';
import { unshareNetns } from '../src/kernel/index.ts';
import { ATTACK_KINDS, type Attacking } from './attack-traffic.ts';
import { attackLive, type LiveAttackResult, type MitigationLine } from './live-attack.ts';
import { type BenchIo, median, type Table } from './measure.ts';
import { madeAttack, TOOLS } from './tool-attacks.ts';
import { usualTrace } from './usual-trace.ts';
import { SURPRISES, surpriseOf } from './usual-traffic.ts';

/** Packets a second, and seconds in which what is usual is learned. */
const RATES = { usualPps: 2000, attackPps: 20_000, before: 8 } as const;
/** What is shown, and has to be shown (first drop in seconds, the others shares). */
const BARS = { first: 2, after: 0.99, whole: 0.96, usual: 0.001 } as const;
/** The share of a whole attack is that of one this long. */
const WHOLE_SECONDS = 60;

export interface LiveBenchOptions {
  /** Seconds of each attack. */
  readonly duration: number;
  /** Capture file that is played as what is usual. */
  readonly benign: string | undefined;
  /** Which kinds of attacks, tools that attacks are made after, and surprises; all kinds and surprises unless told. */
  readonly only?: readonly string[];
}

interface Case {
  readonly attack: Attacking;
  readonly result: LiveAttackResult;
}

const none = Number.POSITIVE_INFINITY;
const firstOf = ({ result }: Case): number => result.firstDrop ?? none;

/** Of an attack of a minute: as it was measured, or what follows for one that goes on as it ended. */
function wholeOf({ result: { droppedAfter, droppedAll, firstDrop } }: Case, duration: number): number {
  if (duration >= WHOLE_SECONDS || firstDrop === undefined) return droppedAll;
  return droppedAfter * (1 - firstDrop / WHOLE_SECONDS);
}

const lineOf = ({ attack: { kind, target }, result: { log } }: Case): MitigationLine | undefined =>
  log.find(
    (line) => line.event !== 'ended' && line.attack === true && line.kind === kind && line.target === target,
  );

const isRightlyNamed = (one: Case): boolean => lineOf(one) !== undefined;

/** Seconds from the begin of the tick in which it began: until it was known, until the first rule was in force. */
function answerOf(one: Case): { noticed: number; inForce: number } | undefined {
  const began = lineOf(one);
  if (began === undefined) return undefined;
  const live = one.result.log.find(({ event, id }) => event === 'live' && id === began.id);
  const from = Number(began['began']);
  return { noticed: Number(began['noticed']) - from, inForce: live === undefined ? none : live.ts - from };
}

/** Why nothing was done, as far as the log of the gate knows. */
const unanswered = (one: Case): string =>
  `${one.attack.kind} on ${one.attack.target}: nothing was dropped. ${
    one.result.log.map((line) => JSON.stringify(line).slice(0, 1000)).join('\n  ') || 'The log is empty.'
  }`;

const limits = ({ result: { log } }: Case): boolean =>
  log.some(({ rules = [] }) => rules.some(({ action }) => action.startsWith('limit')));

function row(kind: string, cases: readonly Case[], duration: number): Table['rows'][number] {
  const shares = (of: (one: Case) => number): number[] => cases.map((one) => 100 * of(one));
  const firsts = cases.map(firstOf);
  const after = shares(({ result }) => result.droppedAfter);
  const whole = shares((one) => wholeOf(one, duration));
  const usual = shares(({ result }) => result.usualDropped);
  const held = cases.filter(
    (one) =>
      firstOf(one) <= BARS.first &&
      one.result.droppedAfter >= BARS.after &&
      wholeOf(one, duration) >= BARS.whole &&
      one.result.usualDropped <= BARS.usual,
  ).length;
  return {
    kind,
    attacks: cases.length,
    sent: Math.min(...cases.map(({ result }) => result.attackSent)),
    named: cases.filter(isRightlyNamed).length,
    noticed: median(cases.map((one) => answerOf(one)?.noticed ?? none)),
    inForce: median(cases.map((one) => answerOf(one)?.inForce ?? none)),
    first: median(firsts),
    last: Math.max(...firsts),
    after: median(after),
    afterWorst: Math.min(...after),
    whole: median(whole),
    wholeWorst: Math.min(...whole),
    usual: median(usual),
    usualWorst: Math.max(...usual),
    limits: cases.filter(limits).length,
    lost: Math.max(...cases.map(({ result }) => result.lost)),
    held,
  };
}

const COLUMNS: Table['columns'] = [
  { key: 'kind', title: 'attack' },
  { key: 'attacks', title: 'attacks' },
  { key: 'sent', title: 'packets, least' },
  { key: 'named', title: 'named right' },
  { key: 'noticed', title: 'noticed, s', digits: 2 },
  { key: 'inForce', title: 'rule in force, s', digits: 2 },
  { key: 'first', title: 'first drop, s', digits: 2 },
  { key: 'last', title: 'worst', digits: 2 },
  { key: 'after', title: 'dropped after it, %', digits: 2 },
  { key: 'afterWorst', title: 'worst', digits: 2 },
  { key: 'whole', title: 'of 60 s, %', digits: 2 },
  { key: 'wholeWorst', title: 'worst', digits: 2 },
  { key: 'usual', title: 'usual dropped, %', digits: 3 },
  { key: 'usualWorst', title: 'worst', digits: 3 },
  { key: 'limits', title: 'rate-limited' },
  { key: 'lost', title: 'lost, packets' },
  { key: 'held', title: 'within all bars' },
];

/**
 * Attacks and surprises, one after the other, each on a real gate of its own on a virtual cable in a network namespace of this
 * thread's own. Errors: LAB, PRIVILEGE, USAGE.
 */
export async function benchMitigationLive(
  rounds: number,
  io: BenchIo,
  { duration, benign, only }: LiveBenchOptions,
): Promise<{ tables: Table[]; notes: string[] }> {
  const trace = usualTrace(benign, process.env);
  const known = [...ATTACK_KINDS, ...TOOLS, ...SURPRISES];
  const strange = only?.find((kind) => !known.includes(kind));
  if (strange !== undefined)
    throw new SluiceError('USAGE', `there is no kind ${strange}`, { help: `there are: ${known.join(', ')}` });
  const wanted = (kind: string): boolean => only === undefined || only.includes(kind);
  const kinds = [...ATTACK_KINDS.filter(wanted), ...TOOLS.filter((tool) => only?.includes(tool))];
  const seed = Date.now() % 1_000_000;
  unshareNetns();
  const rows: Table['rows'] = [];
  const silent: string[] = [];
  for (const [at, kind] of kinds.entries()) {
    const cases: Case[] = [];
    for (let round = 0; round < rounds && !io.stop.aborted; round++) {
      io.progress(`${kind}: ${round + 1} of ${rounds} (${at + 1} of ${kinds.length} kinds)`);
      const own = seed + 1000 * round + at;
      const usual = trace.of(own);
      const attack = madeAttack(kind, own, usual.servers[own % Math.min(3, usual.servers.length)]);
      const result = await attackLive({
        ...RATES,
        usual: () => usual.packet(0),
        attack: attack.packet,
        during: duration,
        signal: io.stop,
      });
      if (!io.stop.aborted) cases.push({ attack, result });
    }
    if (cases.length > 0) rows.push(row(kind, cases, duration));
    for (const one of cases) if (one.result.firstDrop === undefined) silent.push(unanswered(one));
  }
  const { usualPps, attackPps } = RATES;
  return {
    tables: [
      {
        title: `Live: attacks of ${attackPps} packets/s for ${duration} s beside ${usualPps} usual ones (${trace.name}), a gate each; seed ${seed}`,
        columns: COLUMNS,
        rows,
      },
      await surprises(rounds, io, duration, seed, trace, wanted),
    ],
    notes: [
      `Bars: first drop within ${BARS.first} s, ${100 * BARS.after} % dropped after it, ${100 * BARS.whole} % of a minute, ${100 * BARS.usual} % of the usual at most.`,
      'lost: neither arrived nor dropped by a rule; shares are wrong by no more than that.',
      ...silent,
    ],
  };
}

async function surprises(
  rounds: number,
  io: BenchIo,
  duration: number,
  seed: number,
  trace: ReturnType<typeof usualTrace>,
  wanted: (kind: string) => boolean,
): Promise<Table> {
  const rows: Table['rows'] = [];
  for (const kind of SURPRISES.filter(wanted)) {
    const results: LiveAttackResult[] = [];
    for (let round = 0; round < rounds && !io.stop.aborted; round++) {
      io.progress(`no attack, ${kind}: ${round + 1} of ${rounds}`);
      const own = seed + 1000 * round;
      const usual = trace.of(own);
      const attack = surpriseOf(kind, own, usual.servers[0], 0);
      results.push(
        await attackLive({
          ...RATES,
          usual: () => usual.packet(0),
          attack,
          during: duration,
          signal: io.stop,
        }),
      );
    }
    if (results.length === 0) continue;
    rows.push({
      kind,
      cases: results.length,
      called: [
        ...new Set(
          results.flatMap(({ log }) =>
            log.flatMap((line) => (typeof line['surprise'] === 'string' ? [line['surprise']] : [])),
          ),
        ),
      ].join(', '),
      rules: results.filter(({ log }) => log.some(({ event }) => event === 'live')).length,
      dropped: 100 * Math.max(...results.map(({ droppedAll }) => droppedAll)),
      usual: 100 * Math.max(...results.map(({ usualDropped }) => usualDropped)),
      lost: Math.max(...results.map(({ lost }) => lost)),
    });
  }
  return {
    title: 'Live: what looks like an attack and is none, at the same rates',
    columns: [
      { key: 'kind', title: 'surprise' },
      { key: 'cases', title: 'cases' },
      { key: 'called', title: 'called' },
      { key: 'rules', title: 'with a rule' },
      { key: 'dropped', title: 'dropped, worst, %', digits: 3 },
      { key: 'usual', title: 'usual dropped, worst, %', digits: 3 },
      { key: 'lost', title: 'lost, packets' },
    ],
    rows,
  };
}
