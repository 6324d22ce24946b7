import { capabilities, clockSynchronized, probeAll } from '../../kernel/index.ts';
import type { BpfFacts, ClockFacts, KernelFacts, MemoryFacts } from '../machine.ts';
import type { Files } from './files.ts';
import { memoryModules } from './smbios.ts';

/** Those that checks look at. */
export const SYSCTLS = [
  'net.core.rmem_max',
  'net.core.netdev_max_backlog',
  'net.core.netdev_budget',
  'net.core.netdev_budget_usecs',
  'net.core.rps_sock_flow_entries',
  'net.core.bpf_jit_enable',
  'net.core.bpf_jit_harden',
  'kernel.bpf_stats_enabled',
  'kernel.numa_balancing',
  'kernel.nmi_watchdog',
  'vm.swappiness',
] as const;

export const sysctlPath = (name: string): string => `/proc/sys/${name.replaceAll('.', '/')}`;

export function sysctls(files: Files): Record<string, string> {
  return Object.fromEntries(
    SYSCTLS.flatMap((name) => {
      const value = files.text(sysctlPath(name));
      return value === undefined ? [] : [[name, value]];
    }),
  );
}

/** @param probe ask for each feature, which takes a moment */
export function kernelFacts(files: Files, probe: boolean): KernelFacts {
  return {
    release: files.text('/proc/sys/kernel/osrelease') ?? '',
    cmdline: files.text('/proc/cmdline') ?? '',
    virtual: /^flags\s*:.*\bhypervisor\b/m.test(files.text('/proc/cpuinfo') ?? ''),
    features: probe
      ? Object.fromEntries(Object.entries(probeAll()).map(([name, { state }]) => [name, state]))
      : {},
  };
}

export function bpfFacts(files: Files): BpfFacts {
  const { bpf, netAdmin, netRaw, perfmon } = capabilities();
  return {
    capabilities: { bpf, netAdmin, netRaw, perfmon },
    mounted: /^\S+ \/sys\/fs\/bpf bpf /m.test(files.text('/proc/mounts') ?? ''),
  };
}

const kb = (text: string, name: string): number =>
  Number(new RegExp(`${name}:\\s*(\\d+) kB`).exec(text)?.[1] ?? 0);

export function memoryFacts(files: Files): MemoryFacts {
  const info = files.text('/proc/meminfo') ?? '';
  const table = files.bytes('/sys/firmware/dmi/tables/DMI');
  return {
    totalKb: kb(info, 'MemTotal'),
    availableKb: kb(info, 'MemAvailable'),
    modules: table === undefined ? undefined : memoryModules(table),
    nodes: files.list('/sys/devices/system/node').flatMap((name) => {
      const match = /^node(\d+)$/.exec(name);
      if (match === null) return [];
      const text = files.text(`/sys/devices/system/node/${name}/meminfo`) ?? '';
      return [{ node: Number(match[1]), totalKb: kb(text, 'MemTotal') }];
    }),
  };
}

const CLOCK = '/sys/devices/system/clocksource/clocksource0';

export function clockFacts(files: Files): ClockFacts {
  return {
    source: files.text(`${CLOCK}/current_clocksource`),
    available: (files.text(`${CLOCK}/available_clocksource`) ?? '')
      .split(/\s+/)
      .filter((name) => name !== ''),
    synchronized: clockSynchronized(),
  };
}
