import type { Cpu, Machine, Nic, NicRates } from './machine.ts';

/** What several checks ask of a machine. */

export const n = (count: number): string => Math.round(count).toLocaleString('en-US');
export const percent = (share: number): string => `${Math.round(share * 100)} %`;

/** `0-3, 8`. */
export function cpuText(cpus: readonly number[]): string {
  const sorted = [...new Set(cpus)].toSorted((a, b) => a - b);
  const parts: string[] = [];
  for (let i = 0; i < sorted.length; ) {
    let end = i;
    while (sorted[end + 1] === sorted[end] + 1) end++;
    parts.push(end > i ? `${sorted[i]}-${sorted[end]}` : `${sorted[i]}`);
    i = end + 1;
  }
  return parts.length === 0 ? 'none' : parts.join(',');
}

/** Receive queues in use. */
export function rxQueueCount({ channels, rx, rxQueuesMax }: Nic): number {
  const told = (channels?.rx ?? 0) + (channels?.combined ?? 0);
  return told > 0 ? told : Math.max(1, rx.length, channels === undefined ? rxQueuesMax : 0);
}

export const nodesOf = (machine: Machine): number[] => [...new Set(machine.cpu.list.map(({ node }) => node))];

export const packagesOf = (machine: Machine): number[] => [
  ...new Set(machine.cpu.list.map((cpu) => cpu.package)),
];

export const cpusOfNode = (machine: Machine, node: number): Cpu[] =>
  machine.cpu.list.filter((cpu) => cpu.node === node);

/** CPUs that a card is near to: those of its node, all where it has none. */
export function nearCpus(machine: Machine, nic: Nic): Cpu[] {
  const near = nic.pci?.node === undefined ? [] : cpusOfNode(machine, nic.pci.node);
  return near.length > 0 ? near : machine.cpu.list;
}

export interface WorkerThread {
  pid: number;
  process: string;
  id: number;
  name: string;
  cpu: number;
}

/** Threads of sensors that are pinned to one CPU each: their workers. */
export function pinnedWorkers(machine: Machine, nic?: Nic): WorkerThread[] {
  return machine.sensors
    .filter(({ interfaces }) => nic === undefined || interfaces.includes(nic.index) || interfaces.includes(0))
    .flatMap(({ pid, name: process, threads }) =>
      threads.flatMap(({ id, name, cpus }) =>
        cpus.length === 1 ? [{ pid, process, id, name, cpu: cpus[0] }] : [],
      ),
    );
}

/** Packets that a card lost. */
export const lostIn = ({ lost }: NicRates): number =>
  Object.values(lost).reduce((sum, packets) => sum + packets, 0);

/** Packets that were lost before the kernel while rates were watched, and whether processors had time left then. */
export function lossOf(machine: Machine, nic: Nic): { lost: number; idle: boolean } | undefined {
  const rates = machine.sample?.nics[nic.name];
  if (rates === undefined) return undefined;
  const near = new Set(nearCpus(machine, nic).map(({ id }) => id));
  const cpus = (machine.sample?.cpus ?? []).filter(({ id }) => near.has(id));
  const idle = cpus.length > 0 && cpus.reduce((sum, cpu) => sum + cpu.idle, 0) / cpus.length > 0.3;
  return { lost: lostIn(rates), idle };
}

const turn = (cpu: Cpu): number => cpu.siblings.indexOf(cpu.id);

/** The same CPUs, each core once before any is used twice. */
export function coresFirst(cpus: readonly Cpu[]): Cpu[] {
  return cpus.toSorted((a, b) => turn(a) - turn(b) || a.id - b.id);
}

/** A CPU for each receive queue: of the card's node, cores first, those of pinned workers last. */
export function plannedCpus(machine: Machine, nic: Nic): number[] {
  const busy = new Set(pinnedWorkers(machine).map(({ cpu }) => cpu));
  const near = coresFirst(nearCpus(machine, nic));
  const free = near.filter(({ id }) => !busy.has(id));
  const from = free.length > 0 ? free : near;
  return nic.queues.map((_, i) => from[i % from.length]?.id ?? 0);
}

/** Value of a word of the kernel's command line; '' of one without, undefined of one that is not there. */
export function bootOption(cmdline: string, name: string): string | undefined {
  for (const word of cmdline.split(/\s+/)) {
    if (word === name) return '';
    if (word.startsWith(`${name}=`)) return word.slice(name.length + 1);
  }
  return undefined;
}
