import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { SluiceError } from '../src/base/errors.ts';
import { setThreadAffinity, unshareNetns } from '../src/kernel/index.ts';
import { LiveSender } from './live-sender.ts';
import { type BenchIo, median, quantile, type Table } from './measure.ts';
import { type Highest, STALLS } from './rate-search.ts';
import { bulkOf, CABLE, type Case, type Cost, Side } from './shunt-side.ts';
import { Stand } from './shunt-stand.ts';
import { type Sample, shuntEvents, type Timeline, timelineOf, timelinePage } from './shunt-timeline.ts';
import { BUFFER_MIB, cpuOf, installed, PEERS, type Sluice } from './shunt-tools.ts';
import { type Mix, tlsMix, warmMix } from './tls-mix.ts';

const SENDER_CPU = 0;
const BOTH = 'tls,quic,bulk=512kB';
const WARM_BULK = 512_000;
const FLAGS = ['--ring-bytes', `${BUFFER_MIB}MiB`];
/** Packets a second with which the search for the cable's own highest rate begins. */
const FASTEST = 2_000_000;

export interface ShuntSizes {
  /** Packets a second at which CPU time is compared. */
  rate: number;
  /** Seconds: of one measurement of CPU time, of what runs before the first, of one trial of a rate, of the picture. */
  seconds: number;
  warm: number;
  trial: number;
  picture: number;
  /** Shunts of each kind that have to have begun before the first measurement. */
  shunts: number;
  /** Pairs of measurements in a round. */
  pairs: number;
  /** Halvings in the search for the highest rate. */
  steps: number;
}

const SIZES: ShuntSizes = {
  rate: 100_000,
  seconds: 2,
  warm: 30,
  trial: 0.7,
  picture: 6,
  shunts: 3000,
  pairs: 5,
  steps: 6,
};

/** A case without shunting, and those that are held against it. */
interface Group {
  base: Case;
  others: readonly Case[];
}

interface Measured {
  one: Case;
  /** Nothing for a case without shunting: its costs are those of all pairs. */
  pairs: Pair[] | undefined;
  costs: Cost[];
  /** What the cable cost in the time of each of them. */
  cables: number[];
  highest: Highest | undefined;
  base: Measured | undefined;
  shunts: string;
}

/** Costs of two measurements, one right after the other, and of the cable in between. */
export interface Pair {
  base: Cost;
  other: Cost;
  cable: number;
}

const key = ({ name, policy }: Case): string => `${name}, ${policy}`;

/** Our sensor with each of these policies. */
function ours(name: string, more: readonly string[], policies: readonly string[]): Group {
  const one = (policy: string): Case => ({ name, policy, flags: ['--policy', policy, ...FLAGS, ...more] });
  return { base: one('none'), others: policies.map(one) };
}

function groups(): Group[] {
  const theirs = PEERS.filter(({ program }) => installed(program)).map(
    (peer): Group => ({
      base: { name: peer.name, policy: 'none', peer },
      others: [{ name: peer.name, policy: BOTH, flags: ['--policy', BOTH, ...FLAGS], peer }],
    }),
  );
  return [
    ours('sluice run', [], ['bulk=4MB', 'bulk=1MB', 'bulk=512kB', 'tls', BOTH]),
    ours('sluice run --workers 2', ['--workers', '2'], [BOTH]),
    ours('sluice run --snaplen auto', ['--snaplen', 'auto'], [BOTH]),
    ...theirs,
  ];
}

class Bench {
  readonly measured: Measured[] = [];
  /** What the cable takes without a loss, with nobody at its end. */
  cable: Highest = { highest: 0, limit: undefined };
  readonly #sizes: ShuntSizes;
  readonly #io: BenchIo;
  readonly #main: LiveSender;
  /** For the warm-up, by the size of bulky connections. */
  readonly #busy = new Map<number, LiveSender>();
  /** The last one has nobody at its end. */
  readonly #stands: readonly [Stand, Stand, Stand];

  constructor(mix: Mix, sizes: ShuntSizes, io: BenchIo) {
    this.#sizes = sizes;
    this.#io = io;
    this.#main = new LiveSender(mix);
    const stand = (name: string) => new Stand(name, this.#main, sizes.rate);
    this.#stands = [stand('bsta'), stand('bstb'), stand('bstc')];
  }

  get #stopped(): boolean {
    return this.#io.stop.aborted;
  }

  async #start(one: Case, stand: Stand): Promise<Side> {
    this.#io.progress(`${key(one)}: starting and warming`);
    const side = await Side.start(one, stand);
    const bulk = bulkOf(one.policy) ?? WARM_BULK;
    const busy = this.#busy.get(bulk) ?? new LiveSender(await warmMix(bulk));
    this.#busy.set(bulk, busy);
    await side.warm(busy, this.#main, this.#sizes, this.#io.stop);
    await side.cost(this.#sizes.rate, this.#sizes.seconds / 2);
    return side;
  }

  async #highest(one: Case, side: Side): Promise<Highest | undefined> {
    if (this.#stopped) return undefined;
    this.#io.progress(`${key(one)}: highest rate`);
    const { steps, trial } = this.#sizes;
    return await side.highest(this.cable.highest || FASTEST, steps, trial);
  }

  /** All groups, beside a cable with nobody at its end. */
  async run(all: readonly Group[], rounds: number): Promise<void> {
    const cable = await Side.start(CABLE, this.#stands[2]);
    try {
      this.cable = (await this.#highest(CABLE, cable)) ?? this.cable;
      for (const group of all) if (!this.#stopped) await this.#group(group, cable, rounds);
    } finally {
      await cable.stop();
    }
  }

  /** One case without shunting stays alive while each of the others has its turn beside it. */
  async #group({ base, others }: Group, cable: Side, rounds: number): Promise<void> {
    const side = await this.#start(base, this.#stands[0]);
    try {
      const ours: Measured = {
        one: base,
        pairs: undefined,
        costs: [],
        cables: [],
        highest: await this.#highest(base, side),
        base: undefined,
        shunts: '',
      };
      this.measured.push(ours);
      for (const one of others) if (!this.#stopped) await this.#other(one, { side, ours, cable }, rounds);
    } finally {
      await side.stop();
    }
  }

  async #other(one: Case, base: { side: Side; ours: Measured; cable: Side }, rounds: number): Promise<void> {
    const side = await this.#start(one, this.#stands[1]);
    try {
      const { shunts } = side;
      const { rate, seconds } = this.#sizes;
      const pairs: Pair[] = [];
      await base.side.cost(rate, seconds / 2);
      for (let n = 0; n < this.#sizes.pairs * rounds && !this.#stopped; n++) {
        this.#io.progress(`${key(one)}: pair ${n + 1} of ${this.#sizes.pairs * rounds}`);
        // A B, B A: who comes first is not always the same.
        const first = await (n % 2 === 0 ? base.side : side).cost(rate, seconds);
        const { kernel: cable } = await base.cable.cost(rate, seconds / 2);
        const second = await (n % 2 === 0 ? side : base.side).cost(rate, seconds);
        pairs.push(
          n % 2 === 0 ? { base: first, other: second, cable } : { base: second, other: first, cable },
        );
      }
      const cables = pairs.map(({ cable }) => cable);
      base.ours.costs.push(...pairs.map((pair) => pair.base));
      base.ours.cables.push(...cables);
      this.measured.push({
        one,
        pairs,
        costs: pairs.map((pair) => pair.other),
        cables,
        highest: await this.#highest(one, side),
        base: base.ours,
        shunts,
      });
    } finally {
      await side.stop();
    }
  }

  /** What goes on over time, from the start of the sensor on. */
  async timeline(one: Case): Promise<Timeline> {
    this.#io.progress(`over time: ${key(one)}`);
    const samples: Sample[] = [];
    const step = 0.2;
    const [stand] = this.#stands;
    const side = await Side.start(one, stand);
    try {
      const own = side.listener as Sluice;
      let cpu = cpuOf(own.pid);
      stand.send(this.#sizes.rate, this.#sizes.picture, step, (packets) => {
        const now = cpuOf(own.pid);
        samples.push({ ts: Date.now() / 1000, seconds: step, packets, cpu: now - cpu });
        cpu = now;
      });
      // The log is written behind.
      await pause(1500);
      return timelineOf(samples, shuntEvents(own.logs));
    } finally {
      await side.stop();
    }
  }

  close(): void {
    for (const stand of this.#stands) stand.close();
    for (const sender of [this.#main, ...this.#busy.values()]) sender.close();
  }
}

/** How much more traffic the same CPU time, or the same ring, takes; percent. */
export function gain(now: number | undefined, base: number | undefined): number | undefined {
  return now === undefined || base === undefined ? undefined : (now / base - 1) * 100;
}

/** The gain in the middle of all pairs, and its quartiles: each pair is of the same seconds, however fast memory is in them. */
export function gainOfPairs(
  pairs: readonly Pair[],
  of: (cost: Cost, cable: number) => number,
): { middle: number; quartiles: string } | undefined {
  if (pairs.length === 0) return undefined;
  // The other way round: less time for each is more of them.
  const gains = pairs.map(({ base, other, cable }) => (of(base, cable) / of(other, cable) - 1) * 100);
  const [low, middle, high] = [0.25, 0.5, 0.75].map((share) => quantile(gains, share));
  return { middle, quartiles: `${low.toFixed(0)} to ${high.toFixed(0)}` };
}

const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;

const LIMITS = { cable: 'the cable', listener: 'its buffer', both: 'both' } as const;

/** What a listener and its gate do; the cable's own work stays the same whatever is dropped. */
const work = ({ own, kernel }: Cost, cable: number): number => Math.max(1, own + kernel - cable);

function rowOf({ one, pairs, costs, cables, highest, base, shunts }: Measured): Table['rows'][number] {
  const middle = (of: (cost: Cost, cable: number) => number) =>
    costs.length === 0 ? undefined : median(costs.map((cost, i) => of(cost, cables[i])));
  const [own, both] = [gainOfPairs(pairs ?? [], (cost) => cost.own), gainOfPairs(pairs ?? [], work)];
  return {
    name: one.name,
    policy:
      one.peer !== undefined && one.flags !== undefined ? `behind sluice run, ${one.policy}` : one.policy,
    own: middle((cost) => cost.own),
    ownGain: own?.middle,
    ownQuartiles: own?.quartiles,
    kernel: middle((cost) => cost.kernel),
    both: middle(work),
    bothGain: both?.middle,
    bothQuartiles: both?.quartiles,
    highest: highest?.highest,
    limit: highest && (highest.limit === undefined ? 'as fast as sent' : LIMITS[highest.limit]),
    highestGain: gain(highest?.highest, base?.highest?.highest),
    shunts,
  };
}

function writeReport(path: string, page: string): void {
  try {
    writeFileSync(path, page);
  } catch (cause) {
    throw new SluiceError('FILE', `cannot write ${path}`, { cause, help: 'check its directory' });
  }
}

/**
 * What shunting saves: a mix of TLS and others over virtual cables in a network namespace of this thread's own, sender and
 * listeners on a CPU each. CPU time for each offered packet and the highest rate at which nothing is lost, with and without, in
 * turn. `report`: where the page goes that shows it over time.
 */
export async function benchShunt(
  rounds: number,
  io: BenchIo,
  report?: string,
  sizes: ShuntSizes = SIZES,
): Promise<{ tables: Table[]; notes: string[] }> {
  if (cpus().length < 2)
    throw new SluiceError('LAB', 'sluice bench shunt needs two CPUs: the sender takes one as a whole');
  // Not found out after half an hour.
  if (report !== undefined) writeReport(report, '');
  io.progress('making traffic');
  const mix = await tlsMix();
  setThreadAffinity(SENDER_CPU);
  unshareNetns();
  const all = groups();
  const lines: Record<string, Timeline> = {};
  const bench = new Bench(mix, sizes, io);
  try {
    await bench.run(all, rounds);
    if (report !== undefined)
      for (const one of [all[0].base, all[0].others[all[0].others.length - 1]])
        if (!io.stop.aborted) lines[key(one)] = await bench.timeline(one);
  } finally {
    bench.close();
  }
  const cables = bench.measured.flatMap((each) => each.cables);
  const cable = cables.length === 0 ? 0 : median(cables);
  const rows = bench.measured.map(rowOf);
  const table: Table = {
    title: `CPU time for each offered packet at ${sizes.rate.toLocaleString('en-US')}/s; highest rate without loss, buffers of ${BUFFER_MIB} MiB`,
    columns: [
      { key: 'name', title: 'listener' },
      { key: 'policy', title: 'shunted' },
      { key: 'own', title: 'CPU ns' },
      { key: 'ownGain', title: 'gain %' },
      { key: 'ownQuartiles', title: 'quartiles' },
      { key: 'kernel', title: 'kernel, gate ns' },
      { key: 'both', title: 'both without the cable ns' },
      { key: 'bothGain', title: 'gain %' },
      { key: 'bothQuartiles', title: 'quartiles' },
      { key: 'highest', title: 'most/s without loss' },
      { key: 'limit', title: 'limit' },
      { key: 'highestGain', title: 'gain %' },
      { key: 'shunts', title: 'shunts before' },
    ],
    rows,
  };
  const notes = [
    `The mix: ${mix.packets.toLocaleString('en-US')} packets of ${mix.connections} connections, over and over as new ones; TLS is ${percent(mix.tlsBytes)} of the bytes, ${percent(mix.tlsPackets)} of the packets. ${(mix.frames.length / mix.packets).toFixed(0)} bytes a packet.`,
    'Two CPUs: the sender on one; on the other all that receives: the kernel’s receiving thread with the gate (real-time, as interrupts go first) and the listeners with all their threads.',
    `The cable: ${cable.toFixed(0)} ns of the kernel’s thread for each packet that a program of two instructions drops. Frames come in as from a driver, redirected into a veth by a program that is run over live frames: nobody copies them. It is in the kernel’s column, and taken off where both are added, by what it was between the two of each pair.`,
    `Gain: how much more traffic the same CPU time, or the same buffer, takes than without shunting. What is compared lives at the same time on cables of their own and gets traffic in turn, ${sizes.seconds} s each, ${sizes.pairs * rounds} pairs: the middle of the pairs, and their quartiles. Shunts before: those that had begun before the first pair, so that their code was compiled.`,
    'Behind sluice run: both listen on the same interface and CPU, the tool gets what XDP passes. argus and nfpcapd do not say what they lose while they run.',
    `The highest rate: by halving in ratios, to 6 %, from what the cable takes with nobody at its end (${Math.round(bench.cable.highest).toLocaleString('en-US')}/s${bench.cable.limit === undefined ? ', as fast as sent' : ''}); beyond ${sizes.rate.toLocaleString('en-US')}/s with more connections at a time, not faster ones; a rate is kept if in two trials before three fail the listener loses nothing and the cable, a ring of 256 that a stall of the machine overruns, no more than ${STALLS * 100} %. Limit: where packets were lost at the next higher rate, in the cable (the kernel’s thread with the gate is late) or in the listener’s buffer; where it is the cable, the listener may take more.`,
  ];
  if (report !== undefined) {
    const text = rows.map(({ name, policy, own, highest }) =>
      [
        `${name}, ${policy}:`,
        Number(own).toFixed(0),
        'ns,',
        highest && `${Number(highest).toFixed(0)}/s`,
      ].join(' '),
    );
    writeReport(report, timelinePage('sluice bench shunt', [...text, '', ...notes].join('\n'), lines));
    notes.push(`Over time: ${report}`);
  } else notes.push('--report FILE makes a page with packets, shunts and CPU over time.');
  return { tables: [table], notes };
}
