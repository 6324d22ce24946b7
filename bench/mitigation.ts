import { DETECTOR_DEFAULTS, Responder, SampleColumns, SpaceSaving } from '../src/mitigation/index.ts';
import { ATTACK_KINDS, Random } from './attack-traffic.ts';
import { type BenchIo, cpuSeconds, median, type Table } from './measure.ts';
import { benchMitigationLive, type LiveBenchOptions } from './mitigation-live.ts';
import { simulate } from './mitigation-run.ts';
import { madeAttack, TOOLS } from './tool-attacks.ts';
import { SURPRISES, surpriseOf, usualTraffic } from './usual-traffic.ts';

const COMMON = { usualPps: 4000, attackPps: 20_000, every: 20, before: 12, during: 10 } as const;
const NET = '198.51.100';
const TARGETS = [10, 1000, 100_000];
const COST_SAMPLES = 400_000;
/** What whole attacks are scaled to, and how long live ones last unless told. */
export const ATTACK_SECONDS = 60;

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
const worst = (values: readonly number[]): number => Math.max(...values);
const least = (values: readonly number[]): number => Math.min(...values);

/** Attacks with parameters of fresh seeds, by kind or tool. */
async function attacks(
  title: string,
  kinds: readonly string[],
  rounds: number,
  seed: number,
  io: BenchIo,
): Promise<Table> {
  const rows: Table['rows'] = [];
  for (const kind of kinds) {
    io.progress(`attacks: ${kind}`);
    const results = [];
    let named = 0;
    let limits = 0;
    for (let round = 0; round < rounds && !io.stop.aborted; round++) {
      const own = seed + 1000 * round + kinds.indexOf(kind);
      const usual = usualTraffic(own, NET);
      const attack = madeAttack(kind, own, usual.servers[0]);
      const result = simulate({ ...COMMON, usual: usual.packet, attack: attack.packet, seed: own });
      const found = result.records.filter(({ judgement }) => judgement.attack);
      if (found.some((record) => record.kind === attack.kind && record.target === attack.target)) named++;
      if (found.some(({ rules }) => rules.some(({ action }) => action.kind === 'limit'))) limits++;
      results.push(result);
      await turn();
    }
    if (results.length === 0) break;
    const firsts = results.map(({ firstDrop }) => firstDrop ?? Number.POSITIVE_INFINITY);
    rows.push({
      kind,
      attacks: results.length,
      named,
      noticed: median(results.map(({ noticed }) => noticed ?? Number.POSITIVE_INFINITY)),
      first: median(firsts),
      last: worst(firsts),
      after: 100 * median(results.map(({ droppedAfter }) => droppedAfter)),
      worst: 100 * least(results.map(({ droppedAfter }) => droppedAfter)),
      whole:
        100 *
        median(
          results.map(
            ({ droppedAfter, firstDrop = ATTACK_SECONDS }) => droppedAfter * (1 - firstDrop / ATTACK_SECONDS),
          ),
        ),
      usual: 100 * median(results.map(({ usualDropped }) => usualDropped)),
      usualWorst: 100 * worst(results.map(({ usualDropped }) => usualDropped)),
      limits,
    });
  }
  return {
    title: `${title}: ${COMMON.attackPps} packets/s beside ${COMMON.usualPps} usual ones, 1 in ${COMMON.every} sampled; seed ${seed}; simulated time, 0.1 s from decision to rule`,
    columns: [
      { key: 'kind', title: 'attack' },
      { key: 'attacks', title: 'attacks' },
      { key: 'named', title: 'kind and target right' },
      { key: 'noticed', title: 'noticed, s', digits: 2 },
      { key: 'first', title: 'first drop, s', digits: 2 },
      { key: 'last', title: 'worst', digits: 2 },
      { key: 'after', title: 'dropped after it, %', digits: 2 },
      { key: 'worst', title: 'worst', digits: 2 },
      { key: 'whole', title: 'of 60 s, %', digits: 2 },
      { key: 'usual', title: 'usual dropped, %', digits: 3 },
      { key: 'usualWorst', title: 'worst', digits: 3 },
      { key: 'limits', title: 'rate-limited' },
    ],
    rows,
  };
}

async function surprises(rounds: number, seed: number, io: BenchIo): Promise<Table> {
  const rows: Table['rows'] = [];
  for (const kind of SURPRISES) {
    io.progress(`no attacks: ${kind}`);
    let rules = 0;
    let dropped = 0;
    let cases = 0;
    for (let round = 0; round < rounds && !io.stop.aborted; round++) {
      const own = seed + 1000 * round;
      const usual = usualTraffic(own, NET);
      const attack = surpriseOf(kind, own, usual.servers[0]);
      const result = simulate({ ...COMMON, usual: usual.packet, attack, seed: own });
      rules += result.records.reduce((sum, record) => sum + record.rules.length, 0);
      dropped = Math.max(dropped, result.droppedAll);
      cases++;
      await turn();
    }
    rows.push({ kind, cases, rules, dropped: 100 * dropped });
  }
  return {
    title: 'What looks like an attack and is none, at the same rates',
    columns: [
      { key: 'kind', title: 'surprise' },
      { key: 'cases', title: 'cases' },
      { key: 'rules', title: 'rules at the end' },
      { key: 'dropped', title: 'dropped, worst, %', digits: 3 },
    ],
    rows,
  };
}

/** Samples of so many targets, through the detector. */
async function costs(rounds: number, seed: number, io: BenchIo): Promise<Table> {
  const rows: Table['rows'] = [];
  const usual = usualTraffic(seed, NET);
  const { SampleReader } = await import('../src/mitigation/index.ts');
  const { Packet } = await import('../src/packet/packet.ts');
  const reader = new SampleReader();
  const packet = new Packet();
  const frames = Array.from({ length: 1024 }, () => usual.packet(1));
  for (const targets of TARGETS) {
    io.progress(`detector: ${targets} targets`);
    const rates: number[] = [];
    let memory = 0;
    let off = 0;
    for (let round = -1; round < rounds && !io.stop.aborted; round++) {
      const responder = new Responder(() => {});
      const columns = new SampleColumns(1024);
      const random = new Random(seed + round);
      const exact = new Map<number, number>();
      const sketch = new SpaceSaving(DETECTOR_DEFAULTS.targets, seed);
      memory = responder.detector.memory;
      const began = cpuSeconds();
      let apart = 0;
      for (let i = 0; i < COST_SAMPLES; i++) {
        const frame = frames[i & 1023];
        packet.u8 = frame;
        packet.caplen = frame.length;
        packet.wirelen = frame.length;
        packet.ts = 1e9 + i / 20_000;
        if (!reader.read(packet, 20, columns, columns.count)) continue;
        // Some have far more than others.
        const target = Math.floor(targets * random.next() ** 3);
        columns.target[4 * columns.count + 3] = 0x0a000000 + target;
        columns.count++;
        if (columns.count < 1024) continue;
        responder.add(columns);
        columns.count = 0;
        const from = cpuSeconds();
        for (let row = 0; row < 1024; row++) {
          const key = columns.target[4 * row + 3];
          sketch.add(0, 0, 0, key, 0, 1, 0);
          exact.set(key, (exact.get(key) ?? 0) + 1);
        }
        apart += cpuSeconds() - from;
      }
      if (round >= 0) rates.push(COST_SAMPLES / (cpuSeconds() - began - apart));
      off = 0;
      for (let slot = 0; slot < sketch.used; slot++)
        off = Math.max(
          off,
          (sketch.count[slot] - (exact.get(sketch.keys[5 * slot + 3]) ?? 0)) / sketch.total,
        );
      await turn();
    }
    rows.push({
      targets,
      rate: median(rates),
      memory: memory / 2 ** 20,
      error: 1e6 * off,
      stated: 1e6 / DETECTOR_DEFAULTS.targets,
    });
  }
  return {
    title: `The detector on one CPU; its sketch of ${DETECTOR_DEFAULTS.targets} counters against exact counts`,
    columns: [
      { key: 'targets', title: 'targets' },
      { key: 'rate', title: 'samples/s' },
      { key: 'memory', title: 'MiB', digits: 1 },
      { key: 'error', title: 'greatest error, millionths of all', digits: 2 },
      { key: 'stated', title: 'stated', digits: 2 },
    ],
    rows,
  };
}

export interface MitigationBenchOptions {
  /** The detector's cost and accuracy alone. */
  readonly cost?: boolean;
  /** Real gates and traffic in a network namespace, in place of simulated time. */
  readonly live?: LiveBenchOptions;
}

export async function benchMitigation(
  rounds: number,
  io: BenchIo,
  { cost = false, live }: MitigationBenchOptions = {},
): Promise<{ tables: Table[]; notes: string[] }> {
  if (live !== undefined) return await benchMitigationLive(rounds, io, live);
  const seed = Date.now() % 1_000_000;
  if (cost) return { tables: [await costs(rounds, seed, io)], notes: [] };
  const tables = [
    await attacks('Attacks with parameters by chance', ATTACK_KINDS, rounds, seed, io),
    await attacks('Attacks as known tools make them', TOOLS, rounds, seed, io),
    await surprises(rounds, seed, io),
    await costs(3, seed, io),
  ];
  return {
    tables,
    notes: [
      'Attacks have parameters of a seed that is new each time; nothing is tuned to any of them.',
      'What cannot be told from the usual is rate-limited: some of the attack passes, and some of the usual is dropped.',
    ],
  };
}
