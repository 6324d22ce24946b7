import { createFlowEngine } from '../src/flow/index.ts';
import { conversation } from '../src/packet/conversation.ts';
import { Packet } from '../src/packet/packet.ts';
import { domainTable } from '../src/policy/domain-set.ts';
import {
  type FlowFacts,
  type PolicyEvents,
  type PolicyPlan,
  PolicySet,
  type PolicySpec,
  parsePolicies,
  planOf,
  readSignatures,
  setsOf,
} from '../src/policy/index.ts';
import { Decider } from '../src/sensor/decider.ts';
import { type BenchIo, cpuSeconds, interleaved, median, quantile, type Table } from './measure.ts';
import {
  connection,
  domains,
  Maker,
  type Networks,
  networks,
  prefixesOf,
  signatures,
} from './policy-tables.ts';

export interface PolicySizes {
  prefixes: number;
  domains: number;
  signatures: readonly number[];
  /** Decisions of each case and round with cold caches; with warm ones `WARM` times as many. */
  decisions: number;
  /** Bytes that are walked over before each cold decision: more than the caches hold. */
  caches: number;
  /** Calls for one measurement of what a packet costs. */
  packets: number;
}

const SIZES: PolicySizes = {
  prefixes: 1_000_000,
  domains: 100_000,
  signatures: [10, 1000, 40_000],
  decisions: 200,
  caches: 48 << 20,
  packets: 2_000_000,
};
const WARM = 500;
const LINE = 64;
/** Connections that a case asks about, half of which its set knows. */
const ASKED = 4096;
/** Entries of the sets that each case is also measured with: what is more is what size costs. */
const FEW = 10;
/** One of each kind lies among this many that follow each other: known or not, IPv4 or IPv6. */
const KINDS = 4;
/** Signatures that are asked about in all files alike. */
const SAME = 10;
const BAR_NS = 1000;
const BAR_SECONDS = 5;

interface Case {
  name: string;
  policies: PolicySet | undefined;
  asked: readonly FlowFacts[];
}

function factsSum(facts: FlowFacts): number {
  const { serverName, services, resp, orig } = facts;
  let sum = resp.u8[resp.at] + orig.u8[orig.at] + services.length + facts.respPort + facts.respBytes;
  if (serverName !== undefined) for (let i = 0; i < serverName.length; i++) sum += serverName.charCodeAt(i);
  return sum + (facts.tlsEstablished ? 1 : 0) + facts.duration;
}

const SILENT: PolicyEvents = { noted: () => {}, spared: () => {} };
const TOLD = new Set<number>();

const spec = (name: string, when: string, action: PolicySpec['action'] = 'shunt'): PolicySpec => ({
  name,
  when,
  action,
  priority: 0,
  share: 1,
  dryRun: false,
  note: '',
});

/** An address in the network or, every second time, anywhere. */
function addressIn({ bytes, bits }: Networks, maker: Maker): Uint8Array {
  return Uint8Array.from(bytes, (byte, i) => {
    const free = Math.min(8, Math.max(0, (i + 1) * 8 - bits));
    return (byte & (0xff << free)) | maker.below(1 << free);
  });
}

/** Those without sets: the clock, and what a decision takes at least. */
function bareCases(): Case[] {
  const maker = new Maker(5);
  const asked = Array.from({ length: ASKED }, () => connection(maker.address4(), undefined));
  const sets = setsOf(planOf([]));
  return [
    { name: 'the clock alone', policies: undefined, asked: asked.slice(0, 1) },
    {
      name: 'the floor: a policy that asks for a flag',
      policies: new PolicySet([spec('flag', 'tls.resumed')], sets),
      asked,
    },
    { name: 'no set: TLS established', policies: new PolicySet(parsePolicies(['tls']), sets), asked },
  ];
}

function setCases(prefixes: number, suffixes: number): Case[] {
  const maker = new Maker(7);
  const nets = networks(prefixes, maker);
  const names = domains(suffixes, maker);
  const plan: PolicyPlan = {
    ...planOf([]),
    prefixes: [['nets', prefixesOf(nets)]],
    domains: [['names', domainTable(names)]],
  };
  const sets = setsOf(plan);
  const byAddress = spec('nets', 'tls.established and resp.addr in @nets');
  const byName = spec('names', 'tls.established and tls.sni in @names');
  const of = (bytes: 4 | 16) => nets.filter((net) => net.bytes.length === bytes);
  const to = (known: readonly Networks[]) =>
    Array.from({ length: ASKED }, (_, i) => {
      const net = known[maker.below(known.length)];
      if (i % 2 === 0) return addressIn(net, maker);
      return net.bytes.length === 4 ? maker.address4() : maker.address6();
    });
  const [any4, any6] = [to(of(4)), to(of(16))];
  const sni = Array.from({ length: ASKED }, (_, i) =>
    i % 2 === 0 ? `www.${names[maker.below(names.length)]}` : `cdn.${maker.domain()}`,
  );
  return [
    {
      name: 'prefixes, an IPv4 address',
      policies: new PolicySet([byAddress], sets),
      asked: any4.map((address) => connection(address, undefined)),
    },
    {
      name: 'prefixes, an IPv6 address',
      policies: new PolicySet([byAddress], sets),
      asked: any6.map((address) => connection(address, undefined)),
    },
    {
      name: 'suffixes, a server name',
      policies: new PolicySet([byName], sets),
      asked: sni.map((name, i) => connection(any4[i], name)),
    },
    {
      name: 'suffixes, and prefixes as a veto',
      policies: new PolicySet([byName, spec('keep', 'resp.addr in @nets', 'never')], sets),
      asked: sni.map((name, i) => connection((i % 4 < 2 ? any4 : any6)[i], name)),
    },
  ];
}

interface SignatureCase extends Case {
  count: number;
  /** Names of the first ten signatures, which are the same in each file. */
  same: readonly FlowFacts[];
  readSeconds: number;
  tableSeconds: number;
}

async function signatureCase(count: number): Promise<SignatureCase> {
  // Of the same seed: a longer file begins with the shorter one.
  const maker = new Maker(11);
  const { text, names } = signatures(count, maker);
  const begin = cpuSeconds();
  const read = await readSignatures(text);
  const middle = cpuSeconds();
  if (read.signatures.length !== count)
    throw new Error(`${read.signatures.length} of ${count} signatures were read: ${read.refused[0]?.reason}`);
  const sets = setsOf({ ...planOf([]), signatures: [['rules', read.signatures]] });
  const tableSeconds = cpuSeconds() - middle;
  return {
    name: `${count.toLocaleString('en-US')} signatures`,
    count,
    readSeconds: middle - begin,
    tableSeconds,
    policies: new PolicySet([spec('rules', 'signature in @rules')], sets),
    same: Array.from({ length: ASKED }, (_, i) =>
      connection(
        maker.address4(),
        i % 2 === 0 ? `www.${names[i % Math.min(SAME, count)]}` : `cdn.${names[i % Math.min(SAME, count)]}`,
      ),
    ),
    asked: Array.from({ length: ASKED }, (_, i) =>
      connection(
        maker.address4(),
        i % 2 === 0 ? `www.${names[maker.below(names.length)]}` : `cdn.${maker.domain()}`,
      ),
    ),
  };
}

/** Nanoseconds of single decisions, in the order in which they were taken. */
class Clock {
  readonly #walked: Uint8Array;
  /** Of all answers, so that none is left out. */
  sum = 0;
  #at = 0;

  constructor(caches: number) {
    this.#walked = new Uint8Array(caches).fill(1);
  }

  /** With everything cold; or, with `sets`, all but the sets: four other connections were decided on just before. */
  cold({ policies, asked }: Case, decisions: number, sets: boolean): number[] {
    const taken: number[] = [];
    for (let i = 0; i < decisions; i++) {
      const facts = asked[this.#at++ % asked.length];
      for (let line = 0; line < this.#walked.length; line += LINE) this.sum += this.#walked[line];
      if (sets) {
        // Of all kinds that are asked about: the ways of all through the code are warm.
        for (let other = 0; other < KINDS; other++)
          this.sum += policies?.decide(asked[this.#at++ % asked.length], 0, 0, TOLD, SILENT) ?? 0;
        // A sensor has just looked at a packet of the connection.
        this.sum += factsSum(facts);
        for (let look = 0; look < 3; look++) this.sum += performance.now() & 1;
      }
      const begin = performance.now();
      if (policies !== undefined) this.sum += policies.decide(facts, 0, 0, TOLD, SILENT);
      taken.push((performance.now() - begin) * 1e6);
    }
    return taken;
  }

  /** One number: the mean, caches as the decisions themselves leave them. */
  warm({ policies, asked }: Case, decisions: number): number {
    const begin = cpuSeconds();
    for (let i = 0; i < decisions; i++)
      if (policies !== undefined) this.sum += policies.decide(asked[i % asked.length], 0, 0, TOLD, SILENT);
    return ((cpuSeconds() - begin) * 1e9) / decisions;
  }
}

interface Taken {
  sets: number[];
  all: number[];
  warm: number[];
}

async function measured(
  cases: readonly Case[],
  rounds: number,
  sizes: PolicySizes,
  io: BenchIo,
): Promise<Taken[]> {
  const clock = new Clock(sizes.caches);
  const all = cases.map((): Taken => ({ sets: [], all: [], warm: [] }));
  let warmed = 0;
  await interleaved([...cases.keys()], rounds, io, (at) => {
    const warm = clock.warm(cases[at], sizes.decisions * WARM);
    const sets = clock.cold(cases[at], sizes.decisions, true);
    const cold = clock.cold(cases[at], Math.ceil(sizes.decisions / 10), false);
    if (warmed++ >= cases.length) {
      all[at].warm.push(warm);
      all[at].sets.push(...sets);
      all[at].all.push(...cold);
    }
    return 0;
  });
  return all;
}

const verdict = (kept: boolean): string => (kept ? 'kept' : 'NOT kept');
const count = (n: number): string => n.toLocaleString('en-US');

const COLUMNS = [
  { key: 'name', title: 'decision by' },
  { key: 'warm', title: 'warm ns' },
  { key: 'median', title: 'sets cold, median ns' },
  { key: 'p99', title: 'p99 ns' },
  { key: 'all', title: 'all cold, median ns' },
];

const rowOf = ({ name }: Case, { sets, all, warm }: Taken, clock: Taken) => ({
  name,
  warm: median(warm),
  median: median(sets) - median(clock.sets),
  p99: quantile(sets, 0.99) - median(clock.sets),
  all: median(all) - median(clock.all),
});

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
  const all = await measured(groups.flat(), rounds, sizes, io);
  const [ofBare, ofFull, ofFew, ofSigned, ofSame] = groups.map((_, i) => {
    const from = groups.slice(0, i).flat().length;
    return all.slice(from, from + groups[i].length);
  });
  const [clock, floor] = ofBare;
  const sets = [
    ...bare.slice(1).map((each, i) => rowOf(each, ofBare[i + 1], clock)),
    ...full.map((each, i) => {
      const { warm, median: middle, p99 } = rowOf(few[i], ofFew[i], clock);
      return { ...rowOf(each, ofFull[i], clock), fewWarm: warm, fewMedian: middle, fewP99: p99 };
    }),
  ];
  const many = signed.map((each, i) => ({
    ...rowOf(each, ofSigned[i], clock),
    same: median(ofSame[i].warm),
    read: each.readSeconds,
    table: each.tableSeconds,
  }));
  const least = rowOf(bare[1], floor, clock);
  const worst = Math.max(...sets.map(({ p99 }) => p99));
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
        rows: sets,
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
    ],
    notes: [
      `Cold: ${sizes.caches >> 20} MiB are walked over before each decision. Sets cold: then four other connections are decided on, known to the set and not, IPv4 and IPv6, the own one is looked at, as in a sensor, where code and connection are warm, and the clock is read. The clock’s own ${median(clock.sets).toFixed(0)} ns are taken off. Half of what is asked is in the sets.`,
      `The floor is what cold code of others, the machine’s interruptions and the clock come to; what a decision over sets of ${FEW} takes less is what size costs. The same ten names: of the first ten signatures, which each of the files begins with.`,
      `${count(BAR_NS)} ns at p99 over prefixes and suffixes: ${verdict(worst <= BAR_NS)} (${worst.toFixed(0)}; ${(worst - least.p99).toFixed(0)} over the floor); signatures read in ${BAR_SECONDS} s: ${verdict(slowest <= BAR_SECONDS)} (${slowest.toFixed(2)})`,
    ],
  };
}
