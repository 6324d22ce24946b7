import { spawnSync } from 'node:child_process';
import { cpus } from 'node:os';
import { SluiceError } from '../src/base/errors.ts';
import { type FanoutKey, type FanoutMode, loadFanout } from '../src/capture/fanout.ts';
import { SnapFilter } from '../src/capture/snap.ts';
import {
  type BpfProgram,
  errnoName,
  loadInstructions,
  ProgramType,
  setThreadAffinity,
  unshareNetns,
} from '../src/kernel/index.ts';
import { eth } from '../src/packet/build.ts';
import {
  back,
  type Ends,
  fragmentsOf,
  numbered,
  numberOf,
  packetOf,
  randomEnds,
  randomOf,
  TUNNELS,
} from './fanout-frames.ts';
import { FLOWS_WHOLE, Rings, sendAll } from './fanout-rings.ts';
import { type BenchIo, cpuSeconds, difference, interleaved, median, paired, type Table } from './measure.ts';

/** Frames of each direction of a flow. */
const TURNS = 6;
/** A ring that takes all flows alone is full before it is emptied; half of them fit. */
const ROUND = 2400;
const RING = { blocks: 6, retireMs: 40 };
const SETTLES = 200;

interface ProgramCase {
  name: string;
  data: Uint8Array;
  /** Of the load-balancing program; 'snap': the filter of `--snaplen auto`. */
  key: FanoutKey | 'snap' | undefined;
}

const flow: FanoutKey = { key: 'flow', inner: false, vlanKey: false };

function programCases(): ProgramCase[] {
  const ends4: Ends = { family: 4, protocol: 'udp', client: ['10.0.0.1', 50_000], server: ['10.0.0.2', 443] };
  const ends6: Ends = { ...ends4, family: 6, client: ['2001:db8::1', 50_000], server: ['2001:db8::2', 443] };
  const [first, later] = fragmentsOf(eth(), ends4, 7, 1300);
  const [vxlan] = TUNNELS;
  const tunnelled = packetOf(vxlan.enter(eth(), true), ends4).bytes();
  const four = packetOf(eth(), ends4).bytes();
  return [
    { name: 'a program that answers 0', data: four, key: undefined },
    { name: 'IPv4', data: four, key: flow },
    { name: 'IPv4, pair', data: four, key: { ...flow, key: 'pair' } },
    { name: 'IPv4, looking for tunnels', data: four, key: { ...flow, inner: true } },
    { name: 'IPv4 behind a second tag', data: packetOf(eth().vlan(7), ends4).bytes(), key: flow },
    { name: 'IPv6', data: packetOf(eth(), ends6).bytes(), key: flow },
    { name: 'first fragment', data: first, key: flow },
    { name: 'later fragment', data: later, key: flow },
    { name: 'VXLAN, outer flow', data: tunnelled, key: flow },
    { name: 'VXLAN, inner flow', data: tunnelled, key: { ...flow, inner: true } },
    {
      name: '--snaplen auto: no payload',
      data: packetOf(eth(), { ...ends4, protocol: 'tcp' }, 0).bytes(),
      key: 'snap',
    },
    { name: '--snaplen auto: 1,400 bytes', data: packetOf(eth(), ends4, 1400).bytes(), key: 'snap' },
  ];
}

/** `mov r0, 0` and `exit`. */
function bare(): BpfProgram {
  const code = new Uint8Array(16);
  code[0] = 0xb7;
  code[8] = 0x95;
  return loadInstructions(code, { type: ProgramType.socketFilter, name: 'bare' });
}

async function costs(rounds: number, repeat: number, io: BenchIo): Promise<Table> {
  const cases = programCases().map((one) => {
    if (one.key === undefined) return { ...one, object: undefined, program: bare() };
    if (one.key !== 'snap') {
      const object = loadFanout(one.key, 1);
      return { ...one, object, program: object.program('sluice_fanout') };
    }
    const { object } = new SnapFilter(false);
    return { ...one, object, program: object.program('sluice_snap') };
  });
  try {
    const ns = await interleaved(cases, rounds, io, ({ program, data }) => {
      const begin = cpuSeconds();
      program.testRun({ data, repeat });
      return ((cpuSeconds() - begin) * 1e9) / repeat;
    });
    return {
      title: 'the program for one packet, by test run: nanoseconds',
      columns: [
        { key: 'name', title: 'packet' },
        { key: 'ns', title: 'ns', digits: 1 },
        { key: 'more', title: 'more than nothing', digits: 1 },
      ],
      rows: cases.map(({ name }, at) => ({
        name,
        ns: median(ns[at] ?? []),
        more: at === 0 ? undefined : paired(ns[at] ?? [], ns[0] ?? [], difference),
      })),
    };
  } finally {
    for (const { object, program } of cases) {
      program.close();
      object?.close();
    }
  }
}

interface Traffic {
  /** One direction of each flow. */
  there: Uint8Array[];
  here: Uint8Array[];
}

/** The first frame of each flow, then the second one of each. */
const byTurns = (frames: readonly Uint8Array[]): Uint8Array[] =>
  frames
    .map((frame, i) => ({ frame, turn: i % TURNS }))
    .toSorted((a, b) => a.turn - b.turn)
    .map(({ frame }) => frame);

function traffic(flows: number, fragments: boolean): Traffic {
  const random = randomOf(6);
  const there: Uint8Array[] = [];
  const here: Uint8Array[] = [];
  for (let i = 0; i < flows; i++) {
    const ends = { ...randomEnds(random), protocol: 'udp' as const };
    for (const [way, out] of [
      [ends, there],
      [back(ends), here],
    ] as const) {
      if (fragments) out.push(...fragmentsOf(numbered(i), way, i, 1100));
      while (out.length < (i + 1) * TURNS) out.push(packetOf(numbered(i), way, 60).bytes());
    }
  }
  return { there: byTurns(there), here: byTurns(here) };
}

interface Shared {
  split: number;
  /** What the ring with most packets has, as a multiple of its part. */
  largest: number;
  dropped: number;
  freezes: number;
}

/**
 * The two directions come in on two CPUs, as from a card whose hash is not symmetric. Rings are emptied only now and then:
 * one that gets everything is full.
 */
function share(rings: number, mode: FanoutMode, rollover: boolean, { there, here }: Traffic): Shared {
  using group = new Rings('fob', rings, { ...FLOWS_WHOLE, mode, rollover }, RING);
  const flows = there.length / TURNS;
  const seen = Array.from({ length: flows }, () => 0);
  const shares = Array.from({ length: rings }, () => 0);
  const drain = (): void =>
    group.drain(({ u8, offset }, ring) => {
      seen[numberOf(u8, offset)] |= 1 << ring;
      shares[ring]++;
    });
  const wait = new Int32Array(new SharedArrayBuffer(4));
  let sent = 0;
  const settle = (): void => {
    for (let i = 0; i < SETTLES && group.counts().packets < sent; i++) Atomics.wait(wait, 0, 0, 1);
    for (let i = 0; i < SETTLES; i++) {
      drain();
      const { packets, drops } = group.counts();
      if (group.received >= packets - drops) return;
      Atomics.wait(wait, 0, 0, 1);
    }
  };
  const last = cpus().length - 1;
  for (let at = 0; at < there.length; at += ROUND / 2) {
    for (const [cpu, frames] of [
      [0, there],
      [last, here],
    ] as const) {
      setThreadAffinity(cpu);
      const part = frames.slice(at, at + ROUND / 2);
      sendAll('foa', part, { byCpu: true });
      sent += part.length;
    }
    settle();
  }
  const { drops, freezes } = group.counts();
  const split = seen.filter((bits) => (bits & (bits - 1)) !== 0).length;
  const received = shares.reduce((sum, each) => sum + each, 0);
  return {
    split: (100 * split) / flows,
    largest: (Math.max(...shares) * rings) / received,
    dropped: (100 * drops) / sent,
    freezes,
  };
}

const MODES: readonly [FanoutMode, boolean][] = [
  ['ebpf', false],
  ['hash', false],
  ['cpu', false],
  ['queue', false],
  ['rollover', false],
  ['ebpf', true],
  ['hash', true],
];

function splits(rings: number, flows: number, io: BenchIo): Table {
  const whole = traffic(flows, false);
  const pieces = traffic(flows, true);
  const rows: Table['rows'] = [];
  for (const [mode, rollover] of MODES) {
    if (io.stop.aborted) break;
    io.progress(`${rings} rings, ${mode}`);
    const a = share(rings, mode, rollover, whole);
    const b = share(rings, mode, rollover, pieces);
    rows.push({
      mode: rollover ? `${mode}, with rollover` : mode,
      split: a.split,
      pieces: b.split,
      largest: a.largest,
      dropped: a.dropped,
      freezes: a.freezes,
    });
  }
  return {
    title: `${rings} rings: ${flows} flows, whose directions come in on two CPUs and two queues, ${ROUND} packets between two looks into the rings`,
    columns: [
      { key: 'mode', title: 'mode' },
      { key: 'split', title: '% of flows split', digits: 1 },
      { key: 'pieces', title: '% with fragments', digits: 1 },
      { key: 'largest', title: 'largest share, × its part', digits: 2 },
      { key: 'dropped', title: '% dropped', digits: 1 },
      { key: 'freezes', title: 'times full' },
    ],
    rows,
  };
}

function ip(...args: string[]): void {
  const { status, stderr, error } = spawnSync('ip', args, { encoding: 'utf8' });
  if (error !== undefined) throw new SluiceError('LAB', `ip: ${errnoName(2)}`, { cause: error });
  if (status !== 0) throw new SluiceError('LAB', `ip ${args.join(' ')}: ${stderr}`);
}

/** What sharing packets out costs, and which modes keep flows whole. Needs the capabilities of `sluice run`. */
export async function benchFanout(
  rounds: number,
  io: BenchIo,
  { flows = 400, repeat = 200_000, rings = [2, 4] } = {},
): Promise<{ tables: Table[]; notes: string[] }> {
  const cost = await costs(rounds, repeat, io);
  unshareNetns();
  const queues = ['numtxqueues', '4', 'numrxqueues', '4'];
  ip('link', 'add', 'foa', ...queues, 'type', 'veth', 'peer', 'name', 'fob', ...queues);
  for (const name of ['foa', 'fob']) {
    ip('link', 'set', name, 'addrgenmode', 'none');
    ip('link', 'set', name, 'up');
  }
  try {
    return {
      tables: [cost, ...rings.map((each) => splits(each, flows, io))],
      notes: [
        'Rings and sender are of one thread; splits of a mode without rollover do not depend on the load.',
        'A flow is split when two rings have packets of it; in fragments: two of its datagrams, the rest is whole.',
      ],
    };
  } finally {
    ip('link', 'del', 'foa');
  }
}
