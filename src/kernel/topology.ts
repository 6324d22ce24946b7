import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const MAX_CPU = 8191;

/** CPUs of a list as the kernel writes them: `0-3,8`. Undefined when it is none; an empty text is an empty list. */
export function parseCpuList(text: string): number[] | undefined {
  const cpus = new Set<number>();
  for (const part of text.trim() === '' ? [] : text.trim().split(',')) {
    const match = /^(\d{1,4})(?:-(\d{1,4}))?$/.exec(part.trim());
    if (match === null) return undefined;
    const first = Number(match[1]);
    const last = Number(match[2] ?? first);
    if (last < first || last > MAX_CPU) return undefined;
    for (let cpu = first; cpu <= last; cpu++) cpus.add(cpu);
  }
  return [...cpus];
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8').trim();
  } catch {
    return undefined;
  }
}

/** CPUs that this process may run on: those of its cpuset and affinity. */
export function allowedCpus(status = '/proc/self/status'): number[] {
  const list = /^Cpus_allowed_list:\s*(\S+)/m.exec(read(status) ?? '')?.[1] ?? '';
  return parseCpuList(list) ?? [];
}

/** NUMA node that an interface is attached to; undefined of virtual ones, and where there is one node only. */
export function numaNode(ifname: string, sysfs = '/sys'): number | undefined {
  const text = read(join(sysfs, 'class/net', ifname, 'device/numa_node')) ?? '';
  return /^\d+$/.test(text) ? Number(text) : undefined;
}

/** CPUs of a NUMA node; empty of one that is not there. */
export function nodeCpus(node: number, sysfs = '/sys'): number[] {
  return parseCpuList(read(join(sysfs, `devices/system/node/node${node}/cpulist`)) ?? '') ?? [];
}

/** The same CPUs, ordered so that a core comes a second time only after all of them have come once. */
export function coresFirst(cpus: readonly number[], sysfs = '/sys'): number[] {
  const turn = new Map<string, number>();
  const placed = cpus.map((cpu) => {
    const core =
      read(join(sysfs, `devices/system/cpu/cpu${cpu}/topology/thread_siblings_list`)) ?? String(cpu);
    const nth = turn.get(core) ?? 0;
    turn.set(core, nth + 1);
    return { cpu, nth };
  });
  return placed.toSorted((a, b) => a.nth - b.nth).map(({ cpu }) => cpu);
}
