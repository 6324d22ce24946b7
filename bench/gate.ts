import { bpfObjectPath } from '../src/gate/index.ts';
import {
  type BpfObject,
  type BpfProgram,
  loadObject,
  setThreadAffinity,
  unshareNetns,
  XdpAction,
} from '../src/kernel/index.ts';
import { eth } from '../src/packet/build.ts';
import { aloneCases } from './gate-alone.ts';
import { barsTable } from './gate-bars.ts';
import { A, ack, B, type Case, KEYS, packets, run, TCP_KEY } from './gate-case.ts';
import { filterCases } from './gate-filter.ts';
import { floodTable } from './gate-flood.ts';
import { optionCases } from './gate-options.ts';
import { peerCases } from './gate-peers.ts';
import { steerCases } from './gate-steer.ts';
import { tunnelCases } from './gate-tunnels.ts';
import {
  type BenchIo,
  difference,
  interleaved,
  median,
  paired,
  quantile,
  ratio,
  type Table,
} from './measure.ts';
import { type Endpoint, flowKey, GateTables, manyKeys } from './tables.ts';
import { twoCpus } from './two-cpus.ts';
import { loadXdpFilter } from './xdp-filter.ts';

export interface GateBenchOptions {
  rounds: number;
  /** Packets of each case in each round. */
  repeat: number;
  /** Other entries in the tables. */
  entries: number;
  /** Connections that take turns in the `spread` cases; a power of two, at most 65,536. */
  spread: number;
  /** Another build of gate.bpf.c to measure in the same rounds. */
  against: string | undefined;
  /** The object of xdp-filter; unless told, where Debian's xdp-tools has it. */
  xdpFilter: string | undefined;
}

/** All ports, if so many connections take turns. */
const firstPort = (spread: number): number => (spread > 65_536 - 1024 ? 0 : 1024);
/** Of the sequence number in an untagged IPv4 frame. */
const TCP_SEQ = 38;
const SPREAD: Endpoint = { addr: '10.0.0.77', port: 0 };

/** Of the first of those connections that take turns. */
function spreadPacket(spread: number, port = B.port): Uint8Array {
  return eth()
    .ipv4({ src: SPREAD.addr, dst: B.addr })
    .tcp(ack(firstPort(spread), port))
    .bytes();
}

function gateCases(prefix: string, tables: GateTables, bare: BpfObject, spread: number): Case[] {
  const gate = tables.object.program('sluice_gate');
  const hit = packets(true);
  const miss = packets(false);
  const advance = bare.program('bench_advance');
  const varied = bare.program('bench_spread');
  const ip = { src: SPREAD.addr, dst: B.addr };
  const spreadHit = eth()
    .ipv4(ip)
    .tcp(ack(firstPort(spread), B.port))
    .bytes();
  const spreadMiss = eth()
    .ipv4(ip)
    .tcp(ack(firstPort(spread), 444))
    .bytes();
  const drop = (name: string, data: Uint8Array): Case => ({
    name: `${prefix}hit, ${name}`,
    program: gate,
    data,
    action: XdpAction.drop,
    floor: 'bare drop',
  });
  const pass = (name: string, data: Uint8Array): Case => ({
    name: `${prefix}miss, ${name}`,
    program: gate,
    data,
    action: XdpAction.pass,
    floor: 'bare pass',
  });
  const cases = [
    drop('IPv4 TCP', hit.ack),
    {
      ...drop('IPv4 TCP, data advancing', hit.data),
      program: advance,
      next: gate,
      floor: 'bare drop, data advancing',
      // Each run begins with this packet again; without this it would be a retransmission in all but the first.
      prepare: (data: Uint8Array) => {
        tables.client.read(4, TCP_KEY.bytes, true, tables.entry);
        new DataView(data.buffer, data.byteOffset).setUint32(TCP_SEQ, tables.entry.dirs[0].seq);
      },
    },
    drop('IPv4 TCP, tagged', hit.tagged),
    drop('IPv4 UDP', hit.udp),
    drop('IPv6 TCP', hit.ack6),
    drop('IPv6 TCP, tagged', hit.tagged6),
    pass('IPv4 TCP', miss.ack),
    pass('IPv4 TCP, tagged', miss.tagged),
    pass('IPv4 UDP', miss.udp),
    pass('IPv6 TCP', miss.ack6),
    drop('IPv4 TCP behind an MPLS label', hit.mpls),
    drop('IPv4 TCP in PPPoE', hit.pppoe),
  ];
  if (spread > 0) {
    const among = `IPv4 TCP, ${spread} in turn`;
    const front = { program: varied, next: gate, floor: 'bare drop, in turn' };
    cases.push({ ...drop(among, spreadHit), ...front }, { ...pass(among, spreadMiss), ...front });
  }
  return cases;
}

function bareCases(bare: BpfObject, spread: number): Case[] {
  const hit = packets(true);
  const program = (name: string): BpfProgram => bare.program(`bench_${name}`);
  const next = program('drop');
  const drop = { data: hit.ack, action: XdpAction.drop };
  const cases: Case[] = [
    { ...drop, name: 'bare drop', program: program('drop'), floor: undefined },
    { ...drop, name: 'bare pass', program: program('pass'), action: XdpAction.pass, floor: undefined },
    {
      ...drop,
      name: 'bare drop, data advancing',
      program: program('advance'),
      next,
      data: hit.data,
      floor: 'bare drop',
    },
    { ...drop, name: 'one 16-byte look-up, hit', program: program('lookup'), floor: 'bare drop' },
    {
      ...drop,
      name: 'one 16-byte look-up, miss',
      program: program('lookup'),
      data: packets(false).ack,
      action: XdpAction.pass,
      floor: 'bare pass',
    },
  ];
  if (spread > 0) {
    const inTurn = { ...drop, data: spreadPacket(spread), program: program('spread') };
    cases.push(
      { ...inTurn, name: 'bare drop, in turn', next, floor: 'bare drop' },
      {
        ...inTurn,
        name: 'one 16-byte look-up, in turn',
        next: program('lookup'),
        floor: 'bare drop, in turn',
      },
    );
  }
  return cases;
}

/** What the other program of Debian's xdp-tools does with the same packets; empty when it is not installed. */
function xdpFilterCases(object: BpfObject | undefined): Case[] {
  if (object === undefined) return [];
  const program = [...object.programs.values()][0];
  return [
    {
      name: 'xdp-filter, listed address',
      program,
      data: packets(true).ack,
      action: XdpAction.drop,
      floor: 'bare drop',
    },
    {
      name: 'xdp-filter, other address',
      program,
      data: eth().ipv4({ src: A.addr, dst: '192.168.0.9' }).tcp(ack(1, 2)).bytes(),
      action: XdpAction.pass,
      floor: 'bare pass',
    },
  ];
}

/** Bytes 26 to 41 of the packets, as bench_lookup looks them up, and others. */
function fillLookup(bare: BpfObject, entries: number, spread: number): void {
  const table = bare.map('table');
  const key = new Uint8Array(16);
  const value = new Uint8Array(8);
  for (let i = 0; i < entries; i++) {
    new DataView(key.buffer).setUint32(0, i + 1);
    table.set(key, value);
  }
  table.set(packets(true).ack.slice(26, 42), value);
  const turn = spreadPacket(spread).slice(26, 42);
  for (let i = 0; i < spread; i++) {
    new DataView(turn.buffer).setUint16(8, firstPort(spread) + i);
    table.set(turn, value);
  }
}

function openGate(path: string, entries: number, spread: number): { tables: GateTables; loadMs: number } {
  const begin = performance.now();
  const tables = new GateTables(path, 131_072, 16_384);
  const loadMs = performance.now() - begin;
  tables.shunt(KEYS);
  tables.shunt(manyKeys(entries));
  tables.shunt(
    Array.from({ length: spread }, (_, i) => flowKey(6, { ...SPREAD, port: firstPort(spread) + i }, B)),
  );
  return { tables, loadMs };
}

/** Sizes of the programs, as the kernel tells them. */
function sizes(programs: readonly { name: string; program: BpfProgram; loadMs?: number }[]): Table {
  return {
    title: 'programs',
    columns: [
      { key: 'name', title: 'program' },
      { key: 'instructions', title: 'instructions' },
      { key: 'jitedBytes', title: 'jited bytes' },
      { key: 'verified', title: 'verified instructions' },
      { key: 'loadMs', title: 'object loaded in ms' },
    ],
    rows: programs.map(({ name, program, loadMs }) => {
      const info = program.info();
      return {
        name,
        instructions: info.xlatedBytes / 8,
        jitedBytes: info.jitedBytes,
        verified: info.verifiedInstructions,
        loadMs,
      };
    }),
  };
}

function timings(cases: readonly Case[], values: readonly number[][]): Table {
  return {
    title: 'ns per packet (the same packet again and again, or as told)',
    columns: [
      { key: 'name', title: 'case' },
      { key: 'ns', title: 'ns', digits: 1 },
      { key: 'over', title: 'over floor', digits: 1 },
      { key: 'ratio', title: '× floor', digits: 2 },
      { key: 'least', title: 'least', digits: 1 },
      { key: 'most', title: 'most', digits: 1 },
      { key: 'floor', title: 'floor' },
    ],
    rows: cases.map(({ name, floor }, at) => {
      const mine = values[at] ?? [];
      const under = values[cases.findIndex((each) => each.name === floor)];
      return {
        name,
        ns: median(mine),
        over: under === undefined ? undefined : paired(mine, under, difference),
        ratio: under === undefined ? undefined : paired(mine, under, ratio),
        least: quantile(mine, 0),
        most: quantile(mine, 1),
        floor,
      };
    }),
  };
}

/**
 * Nanoseconds per packet of the gate program by BPF_PROG_TEST_RUN, over programs that do nothing and over Debian's
 * xdp-filter; two CPUs at once; sizes. Attaches nothing. Needs CAP_BPF, CAP_NET_ADMIN, CAP_SYS_ADMIN.
 */
export async function benchGate(
  options: GateBenchOptions,
  io: BenchIo,
): Promise<{ tables: Table[]; notes: string[] }> {
  const { rounds, repeat, entries, spread, against } = options;
  // A test run is made on the loopback device of the thread's namespace.
  unshareNetns();
  setThreadAffinity(0);
  using stack = new DisposableStack();
  const bare = stack.use(
    loadObject(bpfObjectPath('bench_bare'), {
      constants: { cfg_first_port: firstPort(spread), cfg_port_mask: Math.max(0, spread - 1) },
    }),
  );
  fillLookup(bare, entries, spread);
  const filter = loadXdpFilter(options.xdpFilter, B.addr, entries);
  if (filter.object !== undefined) stack.use(filter.object);
  const main = openGate(bpfObjectPath('gate'), entries, spread);
  stack.use(main.tables);
  const gates = [{ name: 'sluice_gate', prefix: '', ...main }];
  if (against !== undefined) {
    const other = openGate(against, entries, spread);
    stack.use(other.tables);
    gates.push({ name: `sluice_gate of ${against}`, prefix: 'other: ', ...other });
  }
  const programs = gates.map(({ name, prefix, tables, loadMs }) => ({
    name,
    prefix,
    loadMs,
    tables,
    program: tables.object.program('sluice_gate'),
  }));
  const cases = [
    ...bareCases(bare, spread),
    ...programs.flatMap(({ prefix, tables }) => gateCases(prefix, tables, bare, spread)),
    ...optionCases(bpfObjectPath('gate'), stack),
    ...tunnelCases(bpfObjectPath('gate_tunnels'), stack),
    ...peerCases(bpfObjectPath('gate_peers'), stack),
    ...steerCases(bpfObjectPath('gate_steer'), stack),
    ...aloneCases(bpfObjectPath('gate_watch'), stack),
    ...filterCases(bare, entries, stack),
    ...xdpFilterCases(filter.object),
  ];
  const values = await interleaved(cases, rounds, io, (one) => run(one, bare, repeat));
  const hit = packets(true);
  const back = eth()
    .ipv4({ src: B.addr, dst: A.addr })
    .tcp({ sport: B.port, dport: A.port, seq: 5000, ack: 1000, flags: 'A', window: 100 })
    .bytes();
  const twice = io.stop.aborted
    ? undefined
    : await twoCpus(main.tables, TCP_KEY, [hit.ack, back], Math.min(rounds, 5), repeat);
  const flood = io.stop.aborted
    ? undefined
    : await floodTable(bpfObjectPath('gate_watch'), bare, rounds, repeat, io);
  return {
    tables: [
      timings(cases, values),
      barsTable(cases, values, twice),
      ...(twice === undefined ? [] : [twice]),
      ...(flood === undefined ? [] : [flood]),
      sizes([
        ...programs,
        { name: 'one 16-byte look-up', program: bare.program('bench_lookup') },
        { name: 'bare drop', program: bare.program('bench_drop') },
        ...[...(filter.object?.programs ?? [])].map(([name, program]) => ({ name, program })),
      ]),
    ],
    notes: filter.note === undefined ? [] : [filter.note],
  };
}
