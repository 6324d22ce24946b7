import { createFlowEngine } from '../src/flow/index.ts';
import { sharedWords } from '../src/kernel/shared-words.ts';
import { conversation } from '../src/packet/conversation.ts';
import { Packet } from '../src/packet/packet.ts';
import { parsePolicies, planOf } from '../src/policy/index.ts';
import { Decider } from '../src/sensor/decider.ts';
import { ColdClock, type Reads } from './cold-clock.ts';
import { type BenchIo, cpuSeconds, interleaved, median, quantile, type Table } from './measure.ts';
import { bareCases, type Case, type SignatureCase, setCases, signatureCase } from './policy-cases.ts';

export interface PolicySizes {
  prefixes: number;
  domains: number;
  signatures: readonly number[];
  /** Decisions of each case and round with cold caches, the same ones each round; with warm ones `WARM` times as many. */
  decisions: number;
  /** Bytes that are walked over before each cold decision: more than the caches hold. */
  caches: number;
  /** Decisions of each case before anything is measured. */
  compiled: number;
  /** Calls for one measurement of what a packet costs. */
  packets: number;
}

const SIZES: PolicySizes = {
  prefixes: 1_000_000,
  domains: 100_000,
  signatures: [10, 1000, 40_000],
  decisions: 200,
  caches: 48 << 20,
  compiled: 20_000,
  packets: 2_000_000,
};
const WARM = 500;
/** Entries of the sets that each case is also measured with: what is more is what size costs. */
const FEW = 10;
const BAR_NS = 1000;
const BAR_SECONDS = 5;
/** Words of the table over which reads alone are measured, about that of 40,000 signatures; and of their filters. */
const TABLE_WORDS = 2 << 20;
const FILTER_WORDS = 32_768;

/** By round, nanoseconds of decisions, and of one by the mean. */
interface Taken {
  sets: number[][];
  all: number[][];
  warm: number[];
}

async function measured(
  cases: readonly Case[],
  rounds: number,
  sizes: PolicySizes,
  clock: ColdClock,
  io: BenchIo,
): Promise<Taken[]> {
  const taken = cases.map((): Taken => ({ sets: [], all: [], warm: [] }));
  let warmed = 0;
  await interleaved([...cases.keys()], rounds, io, (at) => {
    const warm = clock.warm(cases[at], sizes.decisions * WARM);
    const sets = clock.cold(cases[at], sizes.decisions, true);
    const all = clock.cold(cases[at], Math.ceil(sizes.decisions / 10), false);
    if (warmed++ >= cases.length) {
      taken[at].warm.push(warm);
      taken[at].sets.push(sets);
      taken[at].all.push(all);
    }
    return 0;
  });
  return taken;
}

const verdict = (kept: boolean): string => (kept ? 'kept' : 'NOT kept');
const count = (n: number): string => n.toLocaleString('en-US');

const COLUMNS = [
  { key: 'name', title: 'decision by' },
  { key: 'warm', title: 'warm ns' },
  { key: 'median', title: 'sets cold, median ns' },
  { key: 'p99', title: 'p99 ns' },
  { key: 'steady', title: 'p99 of middles ns' },
  { key: 'all', title: 'all cold, median ns' },
];

/** Of each decision the middle of what it took in all rounds: what interrupted one of them falls away. */
function middles(rounds: readonly (readonly number[])[]): number[] {
  return (rounds[0] ?? []).map((_, i) => median(rounds.map((round) => round[i] ?? Number.NaN)));
}

const rowOf = ({ name }: Case, { sets, all, warm }: Taken, clock: Taken) => {
  const bare = median(clock.sets.flat());
  return {
    name,
    warm: median(warm),
    median: median(sets.flat()) - bare,
    p99: quantile(sets.flat(), 0.99) - bare,
    steady: quantile(middles(sets), 0.99) - bare,
    all: median(all.flat()) - median(clock.all.flat()),
  };
};

/** What memory alone takes of a decision: reads that have to wait for each other, and some that need not. */
const READS: readonly { name: string; steps: readonly Reads[] }[] = [
  { name: 'no read: the clock', steps: [] },
  { name: 'one read', steps: [{ side: 1, words: TABLE_WORDS }] },
  {
    name: 'two, one after the other',
    steps: [
      { side: 1, words: TABLE_WORDS },
      { side: 1, words: TABLE_WORDS },
    ],
  },
  {
    name: `24 side by side in ${(FILTER_WORDS * 4) / 1024} KiB, as in filters`,
    steps: [{ side: 24, words: FILTER_WORDS }],
  },
  {
    name: '24 side by side, then one',
    steps: [
      { side: 24, words: FILTER_WORDS },
      { side: 1, words: TABLE_WORDS },
    ],
  },
];

/** Of READS without the clock, that of filters. */
const FILTERS = 2;

async function ofMemory(
  rounds: number,
  { decisions }: PolicySizes,
  clock: ColdClock,
  io: BenchIo,
): Promise<Table> {
  const table = sharedWords(TABLE_WORDS).fill(1);
  const taken = READS.map((): number[] => []);
  let warmed = 0;
  await interleaved([...READS.keys()], rounds, io, (at) => {
    const found = clock.reads(table, READS[at].steps, decisions);
    if (warmed++ >= READS.length) taken[at].push(...found);
    return 0;
  });
  const bare = median(taken[0]);
  return {
    title: `memory alone: reads of a table of ${(TABLE_WORDS * 4) >> 20} MiB, cold`,
    columns: [
      { key: 'name', title: 'reads' },
      { key: 'median', title: 'median ns' },
      { key: 'p99', title: 'p99 ns' },
    ],
    rows: READS.slice(1).map(({ name }, i) => ({
      name,
      median: median(taken[i + 1]) - bare,
      p99: quantile(taken[i + 1], 0.99) - bare,
    })),
  };
}

/** What `Decider.look` costs for each packet of a flow, by what is known of it. */
async function perPacket(rounds: number, calls: number, io: BenchIo): Promise<Table> {
  const packet = new Packet();
  const frames = conversation({ turns: [{ from: 'client', data: 400 }], close: 'none' });
  const flow = (policies: readonly string[]) => {
    const engine = createFlowEngine(
      { maxFlows: 1024, checksums: false },
      { beforePacket: () => {}, mayExpire: () => true, closed: () => {} },
    );
    const events = { noted: () => {}, spared: () => {} };
    const decider = new Decider(engine, 1024, planOf(parsePolicies(policies)), events);
    let slot = -1;
    for (const { bytes, ts } of frames) {
      packet.u8 = bytes;
      packet.caplen = bytes.length;
      packet.wirelen = bytes.length;
      packet.ts = ts;
      slot = engine.process(packet);
      decider.look(slot, ts);
    }
    return { decider, slot };
  };
  const now = frames[frames.length - 1].ts;
  const cases = [
    { name: 'settled: no policy can take it any more', ...flow(['vpn']) },
    { name: 'waits for bytes: bulk=1MB', ...flow(['bulk=1MB']) },
    { name: 'waits for content and bytes: tls, quic, bulk=1MB', ...flow(['tls', 'quic', 'bulk=1MB']) },
  ];
  let sum = 0;
  const ns = await interleaved(cases, rounds, io, ({ decider, slot }) => {
    const begin = cpuSeconds();
    for (let i = 0; i < calls; i++) sum += decider.look(slot, now);
    return ((cpuSeconds() - begin) * 1e9) / calls;
  });
  if (sum >= 0) throw new Error('a policy took a flow that it has no reason to');
  return {
    title: 'for each further packet of a flow: nanoseconds',
    columns: [
      { key: 'name', title: 'the flow' },
      { key: 'ns', title: 'ns', digits: 1 },
    ],
    rows: cases.map(({ name }, at) => ({ name, ns: median(ns[at]) })),
  };
}

/**
 * What policies cost: a decision over large sets with cold and warm caches, each further packet, and a decision
 * against how many signatures there are. Pure: needs no privileges.
 */
export async function benchPolicies(
  rounds: number,
  io: BenchIo,
  sizes: PolicySizes = SIZES,
): Promise<{ tables: Table[]; notes: string[] }> {
  io.progress('making sets');
  const bare = bareCases();
  const full = setCases(sizes.prefixes, sizes.domains);
  const few = setCases(FEW, FEW);
  const signed: SignatureCase[] = [];
  for (const count of sizes.signatures) signed.push(await signatureCase(count));
  const groups = [bare, full, few, signed, signed.map((each) => ({ ...each, asked: each.same }))];
  const clock = new ColdClock(sizes.caches, sizes.compiled);
  clock.warmUp(groups.flat());
  const all = await measured(groups.flat(), rounds, sizes, clock, io);
  const [ofBare, ofFull, ofFew, ofSigned, ofSame] = groups.map((_, i) => {
    const from = groups.slice(0, i).flat().length;
    return all.slice(from, from + groups[i].length);
  });
  const [empty, floor] = ofBare;
  const sets = full.map((each, i) => {
    const { warm, median: middle, p99 } = rowOf(few[i], ofFew[i], empty);
    return { ...rowOf(each, ofFull[i], empty), fewWarm: warm, fewMedian: middle, fewP99: p99 };
  });
  const many = signed.map((each, i) => ({
    ...rowOf(each, ofSigned[i], empty),
    same: median(ofSame[i].warm),
    read: each.readSeconds,
    table: each.tableSeconds,
  }));
  const memory = await ofMemory(rounds, sizes, clock, io);
  const least = rowOf(bare[1], floor, empty);
  const slowest = Math.max(...many.map(({ read, table }) => read + table));
  return {
    tables: [
      {
        title: `one decision, ${count(sizes.prefixes)} prefixes and ${count(sizes.domains)} suffixes`,
        columns: [
          ...COLUMNS,
          { key: 'fewWarm', title: `sets of ${FEW}: warm ns` },
          { key: 'fewMedian', title: 'median ns' },
          { key: 'fewP99', title: 'p99 ns' },
        ],
        rows: [...bare.slice(1).map((each, i) => rowOf(each, ofBare[i + 1], empty)), ...sets],
      },
      {
        title: 'one decision, by signatures with bypass and tls.sni; CPU seconds of reading them',
        columns: [
          ...COLUMNS,
          { key: 'same', title: 'the same ten names, warm ns' },
          { key: 'read', title: 'read s', digits: 2 },
          { key: 'table', title: 'table s', digits: 2 },
        ],
        rows: many,
      },
      await perPacket(rounds, sizes.packets, io),
      memory,
    ],
    notes: [
      `Cold: ${sizes.caches >> 20} MiB are walked over before each decision. Sets cold: then four other connections are decided on, known to the set and not, IPv4 and IPv6, the own one is looked at, as in a sensor, where code and connection are warm, and the clock is read. The clock’s own ${median(empty.sets.flat()).toFixed(0)} ns are taken off. Half of what is asked is in the sets.`,
      'p99 of middles: each decision is taken once in each round, and has the middle of those times, so that what came in between once (an interruption, another process) is not its own.',
      `The floor is what cold code of others, the machine’s interruptions and the clock come to; what a decision over sets of ${FEW} takes less is what size costs. The same ten names: of the first ten signatures, which each of the files begins with.`,
      'A name with prefixes as a veto: the three looks at a connection of TLS, as the sensor decides on it, of which each waits for one set at most; then all at once, as after a reload.',
      `${many[many.length - 1].name} against ${many[0].name}, cold, in the middle: ${(many[many.length - 1].median - many[0].median).toFixed(0)} ns more; reading filters of that size alone, lines side by side: ${Number(memory.rows[FILTERS].median).toFixed(0)}. Filters of ten signatures are two lines, which the four decisions before have fetched.`,
      `${count(BAR_NS)} ns at p99 over prefixes and suffixes: ${bar(sets, least.p99, 'p99')}; of middles: ${bar(sets, least.steady, 'steady')}; signatures read in ${BAR_SECONDS} s: ${verdict(slowest <= BAR_SECONDS)} (${slowest.toFixed(2)})`,
    ],
  };
}

function bar<K extends string>(
  rows: readonly ({ name: string } & Record<K, number>)[],
  least: number,
  of: K,
): string {
  const worst = rows.reduce((most, row) => (row[of] > most[of] ? row : most));
  const over = rows.filter((row) => row[of] > BAR_NS).length;
  return `kept by ${rows.length - over} of ${rows.length} (the slowest, ${worst.name}: ${worst[of].toFixed(0)}, ${(worst[of] - least).toFixed(0)} over the floor)`;
}
