import { writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { type BpfLink, setThreadAffinity, unshareNetns } from '../src/kernel/index.ts';
import { type BenchIo, median, type Table } from './measure.ts';
import { highestRate } from './rate-search.ts';
import { Stand } from './shunt-stand.ts';
import { type Sample, shuntEvents, type Timeline, timelineOf, timelinePage } from './shunt-timeline.ts';
import {
  BUFFER_MIB,
  cpuOf,
  installed,
  type Listener,
  PEERS,
  type Peer,
  PeerListener,
  Sluice,
} from './shunt-tools.ts';
import { type Mix, tlsMix } from './tls-mix.ts';

const SENDER_CPU = 0;
const SENSOR_CPU = 1;
const BOTH = 'tls,quic,bulk=512kB';
const FLAGS = ['--ring-bytes', `${BUFFER_MIB}MiB`];

export interface ShuntSizes {
  /** Packets a second at which CPU time is compared. */
  rate: number;
  /** Seconds: of a measurement of CPU time, of what runs before it, of one trial of a rate, of the picture. */
  seconds: number;
  warm: number;
  trial: number;
  picture: number;
  /** Halvings in the search for the highest rate. */
  steps: number;
}

const SIZES: ShuntSizes = { rate: 100_000, seconds: 6, warm: 30, trial: 0.7, picture: 6, steps: 5 };

/** Short connections. */
const BEGINS = {
  tls: [
    [150, 6_000],
    [50, 60_000],
  ],
  http: [[150, 3_000]],
  dns: 400,
} as const;

interface Case {
  name: string;
  policy: string;
  /** The case without shunting that it is held against; undefined: it is one. */
  base: string | undefined;
  /** Of our sensor; undefined: it does not run. */
  flags: readonly string[] | undefined;
  peer: Peer | undefined;
}

interface Trial {
  /** Nanoseconds of CPU for each packet that was offered: of the listener, of the kernel's receiving thread with the gate. */
  own: number;
  kernel: number;
  /** Packets per second without loss; undefined where the tool does not say. */
  highest: number | undefined;
  /** Nothing was lost however fast packets were sent. */
  most: boolean;
}

const key = ({ name, policy }: Case): string => `${name}, ${policy}`;

/** Our sensor with each of these policies. */
function ours(name: string, more: readonly string[], policies: readonly string[]): Case[] {
  return policies.map((policy) => ({
    name,
    policy,
    base: policy === 'none' ? undefined : `${name}, none`,
    flags: ['--policy', policy, ...FLAGS, ...more],
    peer: undefined,
  }));
}

function casesOf(): Case[] {
  const theirs = PEERS.filter(({ program }) => installed(program)).flatMap((peer): Case[] => [
    { name: peer.name, policy: 'none', base: undefined, flags: undefined, peer },
    {
      name: peer.name,
      policy: BOTH,
      base: `${peer.name}, none`,
      flags: ['--policy', BOTH, ...FLAGS],
      peer,
    },
  ]);
  return [
    ...ours('sluice run', [], ['none', 'bulk=4MB', 'bulk=1MB', 'bulk=512kB', 'tls', BOTH]),
    ...ours('sluice run --workers 2', ['--workers', '2'], ['none', BOTH]),
    ...ours('sluice run --snaplen auto', ['--snaplen', 'auto'], ['none', BOTH]),
    ...theirs,
  ];
}

class Bench {
  readonly #stand: Stand;
  readonly #mix: Mix;
  readonly #begins: Mix;
  readonly #sizes: ShuntSizes;

  /** `begins`: of short connections, for what has to run often before it is compiled. */
  constructor(stand: Stand, mix: Mix, begins: Mix, sizes: ShuntSizes) {
    this.#stand = stand;
    this.#mix = mix;
    this.#begins = begins;
    this.#sizes = sizes;
  }

  async #listening<T>(
    one: Case,
    work: (own: Listener, receiver: number | undefined) => Promise<T>,
  ): Promise<T> {
    const all: Listener[] = [];
    let link: BpfLink | undefined;
    try {
      if (one.flags === undefined) link = this.#stand.passAll();
      else all.push(await Sluice.start(this.#stand.tap, SENSOR_CPU, one.flags));
      if (one.peer !== undefined) all.push(await PeerListener.start(one.peer, this.#stand.tap, SENSOR_CPU));
      return await work(all[all.length - 1], this.#stand.receiver(SENSOR_CPU));
    } finally {
      link?.close();
      for (const each of all.toReversed()) await each.stop();
    }
  }

  async trial(one: Case): Promise<Trial> {
    const { rate, seconds } = this.#sizes;
    return await this.#listening(one, async (own, receiver) => {
      // Code that has just begun to run is not compiled yet, and what runs once for a connection has not run often after a minute
      // of few: connections begin twelve times as fast for a while.
      if (one.flags !== undefined) {
        this.#stand.change(this.#begins);
        this.#stand.send(rate, this.#sizes.warm);
        this.#stand.change(this.#mix);
      }
      this.#stand.send(rate, seconds / 2);
      await pause(300);
      const cpu = () => [own.pid, receiver].map((pid) => (pid === undefined ? 0 : cpuOf(pid)));
      const before = cpu();
      const { packets } = this.#stand.send(rate, seconds);
      await pause(150);
      const [mine, kernel] = cpu().map((now, i) => ((now - before[i]) * 1e9) / packets);
      return { own: mine, kernel, ...(await this.#highest(own)) };
    });
  }

  /** Nanoseconds of the kernel's thread for each packet that a bare program drops: the cable alone. */
  async cable(): Promise<number> {
    const link = this.#stand.dropAll();
    try {
      const receiver = this.#stand.receiver(SENSOR_CPU);
      if (receiver === undefined) return 0;
      this.#stand.send(this.#sizes.rate, this.#sizes.seconds / 4);
      const before = cpuOf(receiver);
      const { packets } = this.#stand.send(this.#sizes.rate, this.#sizes.seconds);
      await pause(50);
      return ((cpuOf(receiver) - before) * 1e9) / packets;
    } finally {
      link.close();
    }
  }

  async #highest(own: Listener): Promise<Pick<Trial, 'highest' | 'most'>> {
    const lost = async () => {
      const its = await own.lost();
      return its === undefined ? undefined : its + this.#stand.dropped;
    };
    let before = await lost();
    if (before === undefined) return { highest: undefined, most: false };
    return await highestRate(async (rate) => {
      const { packets, seconds } = this.#stand.send(rate, this.#sizes.trial);
      const now = (await lost()) ?? 0;
      const more = now - (before ?? 0);
      before = now;
      return { rate: packets / seconds, lost: more };
    }, this.#sizes.steps);
  }

  /** What goes on over time, from the start of the sensor on. */
  async timeline(one: Case): Promise<Timeline> {
    const samples: Sample[] = [];
    const step = 0.2;
    return await this.#listening(one, async (own) => {
      let cpu = cpuOf(own.pid);
      this.#stand.send(this.#sizes.rate, this.#sizes.picture, step, (packets) => {
        const now = cpuOf(own.pid);
        samples.push({ ts: Date.now() / 1000, seconds: step, packets, cpu: now - cpu });
        cpu = now;
      });
      // The log is written behind.
      await pause(1500);
      return timelineOf(samples, shuntEvents((own as Sluice).logs));
    });
  }
}

/** How much more traffic the same CPU time, or the same ring, takes; percent. */
export function gain(now: number | undefined, base: number | undefined): number | undefined {
  return now === undefined || base === undefined ? undefined : (now / base - 1) * 100;
}

const percent = (share: number): string => `${(share * 100).toFixed(1)} %`;

const total = (t: Trial): number => t.own + t.kernel;

const middle = (trials: readonly Trial[], of: (t: Trial) => number | undefined): number | undefined => {
  const values = trials.map(of).filter((value) => value !== undefined);
  return values.length === 0 ? undefined : median(values);
};

/**
 * What shunting saves: a mix of TLS and others over a virtual cable in a network namespace of this thread's own, sender and
 * listeners on a CPU each. CPU time for each offered packet and the highest rate at which nothing is lost, with and without.
 * `report`: where the page goes that shows it over time.
 */
export async function benchShunt(
  rounds: number,
  io: BenchIo,
  report?: string,
  sizes: ShuntSizes = SIZES,
): Promise<{ tables: Table[]; notes: string[] }> {
  io.progress('making traffic');
  const mix = await tlsMix();
  const two = cpus().length > 1;
  if (two) setThreadAffinity(SENDER_CPU);
  unshareNetns();
  const cases = casesOf();
  const trials = new Map(cases.map((one) => [key(one), [] as Trial[]]));
  const cables: number[] = [];
  const lines: Record<string, Timeline> = {};
  const stand = new Stand(mix);
  try {
    const bench = new Bench(stand, mix, await tlsMix(BEGINS), sizes);
    for (let round = 0; round < rounds && !io.stop.aborted; round++) {
      cables.push(await bench.cable());
      for (let i = 0; i < cases.length && !io.stop.aborted; i++) {
        const one = cases[(i + round) % cases.length];
        io.progress(`round ${round + 1} of ${rounds}: ${key(one)}`);
        trials.get(key(one))?.push(await bench.trial(one));
      }
    }
    if (report !== undefined && !io.stop.aborted)
      for (const one of cases.filter(
        ({ name, policy }) => name === 'sluice run' && /^none$|,/.test(policy),
      )) {
        io.progress(`over time: ${key(one)}`);
        lines[key(one)] = await bench.timeline(one);
      }
  } finally {
    stand.close();
  }
  const cable = cables.length === 0 ? 0 : median(cables);
  // What a listener and its gate do; the cable's own work stays the same whatever is dropped.
  const work = (t: Trial): number => Math.max(0, total(t) - cable);
  const rows = cases.map((one) => {
    const mine = trials.get(key(one)) ?? [];
    const base = one.base === undefined ? undefined : trials.get(one.base);
    const [own, highest] = [middle(mine, (t) => t.own), middle(mine, (t) => t.highest)];
    return {
      name: one.name,
      policy:
        one.peer !== undefined && one.flags !== undefined ? `behind sluice run, ${one.policy}` : one.policy,
      own,
      ownGain:
        base &&
        gain(
          middle(base, (t) => t.own),
          own,
        ),
      kernel: middle(mine, (t) => t.kernel),
      // The other way round: less time for each is more of them.
      both: middle(mine, work),
      bothGain: base && gain(middle(base, work), middle(mine, work)),
      highest,
      most: mine.some(({ most }) => most) ? 'as fast as sent' : '',
      highestGain:
        base &&
        gain(
          highest,
          middle(base, (t) => t.highest),
        ),
    };
  });
  const table: Table = {
    title: `CPU time for each offered packet at ${sizes.rate.toLocaleString('en-US')}/s; highest rate without loss, buffers of ${BUFFER_MIB} MiB`,
    columns: [
      { key: 'name', title: 'listener' },
      { key: 'policy', title: 'shunted' },
      { key: 'own', title: 'CPU ns' },
      { key: 'ownGain', title: 'gain %' },
      { key: 'kernel', title: 'kernel, gate ns' },
      { key: 'both', title: 'both without the cable ns' },
      { key: 'bothGain', title: 'gain %' },
      { key: 'highest', title: 'most/s without loss' },
      { key: 'highestGain', title: 'gain %' },
      { key: 'most', title: '' },
    ],
    rows,
  };
  const notes = [
    `The mix: ${mix.packets.toLocaleString('en-US')} packets of ${mix.connections} connections, over and over as new ones; TLS is ${percent(mix.tlsBytes)} of the bytes, ${percent(mix.tlsPackets)} of the packets. ${(mix.frames.length / mix.packets).toFixed(0)} bytes a packet.`,
    two
      ? 'Two CPUs: the sender on one; on the other all that receives: the kernel’s receiving thread with the gate (real-time, as interrupts go first) and the listeners with all their threads.'
      : 'One CPU for all.',
    `The cable: ${cable.toFixed(0)} ns of the kernel’s thread for each packet that a program of two instructions drops, which is what a veth costs; a driver’s own queue takes 30 to 80 ns in its place. It is in the kernel’s column, and taken off where both are added.`,
    'Gain: how much more traffic the same CPU time, or the same buffer, takes than without shunting. Behind sluice run: both listen on the same interface and CPU, the tool gets what XDP passes. argus and nfpcapd do not say what they lose while they run.',
    'The highest rate: by halving in ratios, to 14 %; a rate is kept if nothing is lost in two trials before something is in three, as a machine loses some packets by itself now and then.',
  ];
  if (report !== undefined) {
    const text = rows.map(
      ({ name, policy, own, highest }) =>
        `${name}, ${policy}: ${own?.toFixed(0)} ns, ${highest?.toFixed(0) ?? '–'}/s`,
    );
    writeFileSync(report, timelinePage('sluice bench shunt', [...text, '', ...notes].join('\n'), lines));
    notes.push(`Over time: ${report}`);
  } else notes.push('--report FILE makes a page with packets, shunts and CPU over time.');
  return { tables: [table], notes };
}
