/** The measurements of `sluice bench`. Each is bounded in time, makes its own traffic, and compares within one run. */
import { benchCap } from './cap.ts';
import { benchCapture } from './capture.ts';
import { benchChanges } from './changes.ts';
import { benchDaemon } from './daemon.ts';
import { benchEntries } from './entries.ts';
import { benchFanout } from './fanout.ts';
import { benchFilter } from './filter.ts';
import { benchFleet } from './fleet.ts';
import { benchGate } from './gate.ts';
import { benchLimits } from './limits.ts';
import type { BenchIo, Table } from './measure.ts';
import { ATTACK_SECONDS, benchMitigation } from './mitigation.ts';
import { benchPolicies } from './policies.ts';
import { benchPresets } from './presets.ts';
import { readTables } from './read-table.ts';
import { benchRules } from './rules.ts';
import { benchShunt } from './shunt.ts';
import { benchSinks } from './sinks.ts';
import { benchSweep } from './sweep.ts';
import { benchUdp } from './udp.ts';

export { type BenchIo, type BenchReport, machine, reportText, untilStopped } from './measure.ts';

/** Only `gate` looks at the first two (GateBenchOptions), only `shunt` at the third, only `mitigation` at the rest. */
export interface BenchFiles {
  against: string | undefined;
  xdpFilter: string | undefined;
  report: string | undefined;
  live?: boolean | undefined;
  cost?: boolean | undefined;
  /** Seconds. */
  duration?: number | undefined;
  benign?: string | undefined;
  /** Kinds of attacks and surprises. */
  only?: readonly string[] | undefined;
}

export interface Bench {
  readonly name: string;
  readonly about: string;
  readonly rounds: number;
  run(rounds: number, io: BenchIo, files: BenchFiles): Promise<{ tables: Table[]; notes: string[] }>;
}

export const BENCHES: readonly Bench[] = [
  {
    name: 'gate',
    about: 'nanoseconds per packet of the gate, over a bare drop and Debian’s xdp-filter; two CPUs; sizes',
    rounds: 7,
    run: (rounds, io, files) =>
      benchGate({ rounds, repeat: 300_000, entries: 1000, spread: 65_536, ...files }, io),
  },
  {
    name: 'sweep',
    about: 'one batched read of the shunt tables: cost per 100,000 live shunts, delay of the event loop',
    rounds: 9,
    run: (rounds, io) => benchSweep(rounds, io),
  },
  {
    name: 'entries',
    about: 'a million entries of each family: memory, how fast they are made, one read of all',
    rounds: 3,
    run: (rounds, io) => benchEntries(rounds, io),
  },
  {
    name: 'daemon',
    about: 'a million entries in the table of a gate’s daemon: memory, delay of its event loop',
    rounds: 1,
    run: (rounds, io) => benchDaemon(rounds, io),
  },
  {
    name: 'changes',
    about: 'entries armed, synchronized, flipped, ended, read and deleted per second',
    rounds: 7,
    run: benchChanges,
  },
  {
    name: 'shunt',
    about:
      'what shunting saves in a mix of TLS: CPU per packet, highest rate without loss; our sensor and other tools',
    rounds: 1,
    run: (rounds, io, { report }) => benchShunt(rounds, io, report),
  },
  {
    name: 'presets',
    about:
      'each preset and each carrier of TLS on its kind of traffic, shunted and kept: share, time to the first drop',
    rounds: 1,
    run: (rounds, io) => benchPresets(rounds, io),
  },
  {
    name: 'mitigation',
    about:
      'attacks of random parameters by kind: time to the first drop, shares dropped; what is no attack; detector cost',
    rounds: 5,
    run: (rounds, io, { live = false, cost = false, duration = ATTACK_SECONDS, benign, only }) =>
      benchMitigation(rounds, io, {
        cost,
        ...(live ? { live: { duration, benign, ...(only === undefined ? {} : { only }) } } : {}),
      }),
  },
  {
    name: 'policies',
    about: 'a decision over a million prefixes, 100,000 suffixes, 40,000 signatures; each further packet',
    rounds: 5,
    run: (rounds, io) => benchPolicies(rounds, io),
  },
  {
    name: 'read',
    about:
      'packets per second from a capture file of 2,000,000 packets and 100,000 connections, beside other flow tools',
    rounds: 3,
    run: (rounds, io) => readTables(rounds, io),
  },
  {
    name: 'fleet',
    about:
      'signed rules: signatures/s, what nats-server needs for each edge and rule, what a program compiled elsewhere would save',
    rounds: 5,
    run: (rounds, io) => benchFleet(rounds, io),
  },
  {
    name: 'sinks',
    about: 'log records to sinks beside the files: 10,000 a second, and the most that each kind takes',
    rounds: 3,
    run: benchSinks,
  },
  {
    name: 'rules',
    about: 'rule sets of 1 to 10,000 rules: time to load, size, nanoseconds per packet that matches none',
    rounds: 5,
    run: (rounds, io) => benchRules(rounds, io),
  },
  {
    name: 'limits',
    about:
      'nanoseconds per packet of a rate limit: for the rule, for one source, for many, for more than its table holds',
    rounds: 9,
    run: (rounds, io) => benchLimits(rounds, io),
  },
  {
    name: 'filter',
    about:
      'fifteen filters as XDP programs: instructions, machine code, ns, beside cbpfc, clang and the kernel',
    rounds: 7,
    run: (rounds, io) => benchFilter(rounds, io),
  },
  {
    name: 'cap',
    about:
      'nanoseconds per packet that a capture at the exit hook costs: off, matching nothing, capturing, full',
    rounds: 9,
    run: (rounds, io) => benchCap(rounds, io),
  },
  {
    name: 'fanout',
    about: 'AF_PACKET fanout: nanoseconds per packet of our program; which modes split flows',
    rounds: 7,
    run: (rounds, io) => benchFanout(rounds, io),
  },
  {
    name: 'capture',
    about:
      'capture behind the gate, AF_PACKET ring and AF_XDP: CPU time per frame, highest rate without loss',
    rounds: 4,
    run: (rounds, io) => benchCapture(rounds, io),
  },
  {
    name: 'udp',
    about:
      'CPU per datagram of a mirror at a fixed rate: recvmmsg, io_uring, Node’s own sockets, a receiver in C',
    rounds: 7,
    run: (rounds, io) => benchUdp({ rounds, rate: 200_000, seconds: 1 }, io),
  },
];
