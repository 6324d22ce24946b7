import { randomInt } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { SluiceError } from '../base/errors.ts';
import {
  type BpfMap,
  type BpfObject,
  coresFirst,
  errnoName,
  nodeCpus,
  numaNode,
  type ObjectOptions,
  parseCpuList,
  possibleCpus,
  probe,
} from '../kernel/index.ts';
import { SlCount, SlSteering } from './layout.gen.ts';
import { type Count, counter } from './ledger.ts';

/** What passes is shared out to CPUs by its flow (bpf/steer.h, docs/adr/0037-steering.md). */
export interface GateSteering {
  /** Numbers, in the order in which flows are shared out. */
  readonly cpus: readonly number[];
  /** Packets that may wait at each of them. */
  readonly queue: number;
  /** Frames with VLAN tags too: in generic mode the kernel spoils them. Set by the gate when it is attached. */
  readonly tagged: boolean;
}

/** What `gate status` tells of steering, since the gate was loaded. */
export interface SteeringReport {
  /** Room for waiting packets at each CPU. */
  queue: number;
  /** `sent`: to its queue. `online` false: its queue goes on at other CPUs. */
  cpus: { cpu: number; online: boolean; sent: Count }[];
  arrived: Count;
  /** Packets that found their queue full; those on their way at this moment may be among them. */
  lost: number;
  /** First ones, later ones whose first one was known, and others, which go by their addresses alone. */
  fragments: { first: number; followed: number; unknown: number };
}

/** Maps that belong to the programs of one gate: never those of an earlier one, and none where a filter on sockets is the gate. */
export const STEER_MAPS: ReadonlySet<string> = new Set(['steer', 'steered', 'steering', 'steer_fragments']);

/** SL_STEER_CPUS of bpf/gate.h. */
const MAX_CPUS = 256;
/** Datagrams in fragments that are known at a time. */
const MAX_FRAGMENTS = 16_384;
/** BPF_XDP_CPUMAP */
const CPUMAP_PROGRAM = 35;
/** Readings of the counters, of which the one with the fewest packets on their way counts. */
const READINGS = 64;
const ENODEV = 19;

/** Of this process: nobody is to know which flows meet on one CPU. */
const SEED = randomInt(2 ** 32);

/** CPUs that are up. */
export function onlineCpus(sysfs = '/sys'): number[] {
  try {
    return parseCpuList(readFileSync(`${sysfs}/devices/system/cpu/online`, 'utf8')) ?? [];
  } catch {
    return [];
  }
}

/**
 * From the options `steer` and `steerQueue`; undefined for `off`. `auto`: the CPUs of the interface's NUMA node, all where it has none.
 * @throws SluiceError USAGE for CPUs that are not up, KERNEL_FEATURE
 */
export function gateSteering(
  config: { steer: string; steerQueue: number },
  ifname: string,
  sysfs = '/sys',
): GateSteering | undefined {
  if (config.steer === 'off') return undefined;
  const cpumap = probe('cpumap');
  if (cpumap.state === 'unsupported')
    throw new SluiceError('KERNEL_FEATURE', 'the running kernel cannot hand packets to CPUs in XDP', {
      help: `Linux ${cpumap.since} has it; leave out --steer`,
    });
  const online = onlineCpus(sysfs);
  const cpus = config.steer === 'auto' ? nearCpus(ifname, online, sysfs) : (parseCpuList(config.steer) ?? []);
  const off = cpus.filter((cpu) => !online.includes(cpu));
  if (cpus.length === 0 || off.length > 0)
    throw new SluiceError('USAGE', `packets cannot be steered to CPU ${off.join(', ') || config.steer}`, {
      help: `CPUs that are up: ${online.join(', ')}`,
    });
  if (cpus.length > MAX_CPUS)
    throw new SluiceError('USAGE', `packets are steered to ${MAX_CPUS} CPUs at most, not ${cpus.length}`);
  return { cpus, queue: config.steerQueue, tagged: false };
}

function nearCpus(ifname: string, online: readonly number[], sysfs: string): number[] {
  const node = numaNode(ifname, sysfs);
  const near = node === undefined ? [] : nodeCpus(node, sysfs).filter((cpu) => online.includes(cpu));
  return coresFirst(near.length > 0 ? near : online, sysfs).slice(0, MAX_CPUS);
}

/** Constants of bpf/steer.h. */
export function steerConstants(steering: GateSteering | undefined): Record<string, number | Uint8Array> {
  if (steering === undefined) return {};
  const cpus = new Uint32Array(MAX_CPUS);
  cpus.set(steering.cpus);
  return {
    cfg_steer: steering.cpus.length,
    cfg_steer_tagged: steering.tagged ? 1 : 0,
    cfg_steer_seed: SEED,
    cfg_steer_cpu: new Uint8Array(cpus.buffer),
  };
}

/** SL_STEER_STRIDE of bpf/gate.h. */
const stride = (cpus: number): number => (cpus + 3) & ~3;

/** What loading an object takes for steering; nothing without. `tunnels`: whether the gate looks into any. */
export function steerOptions(
  steering: GateSteering | undefined,
  tunnels: boolean,
): Required<Pick<ObjectOptions, 'mapSizes' | 'programs'>> {
  if (steering === undefined) return { mapSizes: {}, programs: {} };
  return {
    mapSizes: {
      steer: Math.max(...steering.cpus) + 1,
      steered: possibleCpus() * stride(steering.cpus.length),
      steering: possibleCpus(),
      steer_fragments: MAX_FRAGMENTS,
    },
    programs: {
      sluice_arrived: { expectedAttachType: CPUMAP_PROGRAM },
      ...(tunnels ? {} : { sluice_inner: { autoload: false } }),
    },
  };
}

/**
 * Makes the queues.
 * @throws SluiceError KERNEL_CALL
 */
export function makeQueues(object: BpfObject, { cpus, queue }: GateSteering): void {
  const map = object.map('steer');
  const { fd } = object.program('sluice_arrived');
  for (const cpu of cpus) {
    // struct bpf_cpumap_val
    const result = map.trySet(bytes(cpu), bytes(queue, fd));
    if (result === 0) continue;
    throw new SluiceError('KERNEL_CALL', `make a queue of ${queue} packets for CPU ${cpu}`, {
      cause: errnoName(-result),
      help:
        result === -ENODEV
          ? 'there is no such CPU (any more): name others with --steer'
          : 'a smaller --steer-queue takes less memory',
    });
  }
}

const bytes = (...words: number[]): Uint8Array => new Uint8Array(Uint32Array.from(words).buffer);

function mapped(map: BpfMap): Uint32Array {
  return new Uint32Array(map.mmap(false), 0, (map.mappedStride / 4) * map.maxEntries);
}

/** Reads the counters of a gate that steers. */
export class SteerBooks {
  readonly #steering: GateSteering;
  readonly #steered: Uint32Array;
  readonly #rows: Uint32Array;

  constructor(object: BpfObject, steering: GateSteering) {
    this.#steering = steering;
    this.#steered = mapped(object.map('steered'));
    this.#rows = mapped(object.map('steering'));
  }

  #sent(index: number): Count {
    const row = (stride(this.#steering.cpus.length) * SlCount.size) / 4;
    return sum(this.#steered, row, (index * SlCount.size) / 4);
  }

  #column(member: keyof typeof SlSteering.members): Count {
    return sum(this.#rows, SlSteering.size / 4, SlSteering.members[member] / 4);
  }

  report(): SteeringReport {
    const { cpus, queue } = this.#steering;
    const online = onlineCpus();
    let lost = Number.POSITIVE_INFINITY;
    for (let i = 0; i < READINGS && lost > 0; i++) {
      // In this order: what is on its way may be counted too many, and is least of all in a moment when the queues are empty.
      const arrived = this.#column('arrived').pkts;
      const sent = cpus.reduce((all, _, index) => all + this.#sent(index).pkts, 0);
      lost = Math.min(lost, sent - arrived);
    }
    return {
      queue,
      cpus: cpus.map((cpu, index) => ({ cpu, online: online.includes(cpu), sent: this.#sent(index) })),
      arrived: this.#column('arrived'),
      lost,
      fragments: {
        first: this.#column('first').pkts,
        followed: this.#column('followed').pkts,
        unknown: this.#column('unknown').pkts,
      },
    };
  }
}

/** Of a column in rows of so many words: the counter there, and the one behind it. */
function sum(words: Uint32Array, row: number, at: number): Count {
  const total: Count = { pkts: 0, bytes: 0 };
  for (let from = at; from + 4 <= words.length; from += row) {
    total.pkts += counter(words, from);
    total.bytes += counter(words, from + 2);
  }
  return total;
}
