import type { Machine, Nic } from './machine.ts';
import { rxQueueCount } from './view.ts';

/** Preamble, start and gap between frames, and the checksum, which no counter of bytes has. */
const WIRE_OVERHEAD = 20;
const CHECKSUM = 4;
const SIZES = [64, 256, 512, 1024, 1518] as const;
/** Fewer packets than this while it was watched tell nothing. */
const ENOUGH = 1000;

export interface BudgetRow {
  /** Bytes of a frame with its checksum; `average`: as the traffic is now. */
  size: number | 'average';
  /** Packets a second at the rate of the link. */
  packets: number;
  /** ns for a packet on the whole link, and for each queue. */
  ns: number;
  nsEachQueue: number;
}

export interface Budget {
  interface: string;
  mbps: number;
  /** The rate of the link is not known, and this one was taken. */
  assumed: boolean;
  queues: number;
  rows: BudgetRow[];
  measured: {
    /** ns for a packet; text: why it is not known. */
    gate: number | string;
    softirq: number | string;
    worker: number | string;
    instructionsPerCycle: number | string;
    cacheMissesPerPacket: number | string;
  };
}

function rowOf(size: BudgetRow['size'], bytes: number, mbps: number, queues: number): BudgetRow {
  const packets = (mbps * 1e6) / ((bytes + WIRE_OVERHEAD) * 8);
  return { size, packets, ns: 1e9 / packets, nsEachQueue: (1e9 / packets) * queues };
}

const NO_TRAFFIC = 'too few packets while it was watched';

function measured(machine: Machine, nic: Nic): Budget['measured'] {
  const gate = typeof machine.cost.gate === 'string' ? machine.cost.gate : machine.cost.gate.pass;
  const { sample } = machine;
  const none = sample === undefined ? 'nothing was watched (--sample 0)' : NO_TRAFFIC;
  const packets = sample?.nics[nic.name]?.packets ?? 0;
  const pmu = sample?.pmu;
  const counter = (value: number | undefined): number | string =>
    pmu !== undefined && 'none' in pmu ? pmu.none : (value ?? none);
  const told = pmu === undefined || 'none' in pmu ? undefined : pmu;
  const common = {
    gate,
    instructionsPerCycle: counter(told?.instructionsPerCycle),
    cacheMissesPerPacket: counter(told?.cacheMissesPerPacket),
  };
  if (sample === undefined || packets < ENOUGH) return { ...common, softirq: none, worker: none };
  // All softirq time is put down to what was received, of all interfaces: an upper bound.
  const all = Object.values(sample.nics).reduce((sum, each) => sum + each.packets, 0);
  const softirq = sample.cpus.reduce((sum, cpu) => sum + cpu.softirq, 0) * sample.seconds;
  const own = machine.sensors.filter(
    ({ interfaces }) => interfaces.includes(nic.index) || interfaces.includes(0),
  );
  const seconds = own.reduce((sum, { pid }) => sum + (sample.sensors[pid] ?? 0), 0);
  return {
    ...common,
    softirq: (softirq * 1e9) / all,
    worker: own.length === 0 ? 'no sensor listens there' : (seconds * 1e9) / packets,
  };
}

/** Of links that do not tell theirs, as those of virtual machines. */
const USUAL_MBPS = 10_000;

/** What there is time for at the rate of a link, and what was measured. */
export function budgetOf(machine: Machine, nic: Nic): Budget {
  const mbps = nic.mbps ?? USUAL_MBPS;
  const queues = rxQueueCount(nic);
  const rates = machine.sample?.nics[nic.name];
  const rows = SIZES.map((size) => rowOf(size, size, mbps, queues));
  if (rates !== undefined && rates.packets >= ENOUGH)
    rows.push(rowOf('average', rates.bytes / rates.packets + CHECKSUM, mbps, queues));
  return {
    interface: nic.name,
    mbps,
    assumed: nic.mbps === undefined,
    queues,
    rows,
    measured: measured(machine, nic),
  };
}
