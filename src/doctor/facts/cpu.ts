import { idleStates, parseCpuList } from '../../kernel/index.ts';
import type { Cpu, CpuFacts } from '../machine.ts';
import type { Files } from './files.ts';

const CPU = '/sys/devices/system/cpu';
const PREFETCHER_MSR = 0x1a4;

function cpuOf(files: Files, id: number, nodes: Map<number, number>): Cpu {
  const dir = `${CPU}/cpu${id}`;
  const governor = files.text(`${dir}/cpufreq/scaling_governor`);
  const minFrequency = files.number(`${dir}/cpufreq/scaling_min_freq`);
  const maxFrequency = files.number(`${dir}/cpufreq/scaling_max_freq`);
  return {
    id,
    node: nodes.get(id) ?? 0,
    package: files.number(`${dir}/topology/physical_package_id`) ?? 0,
    siblings: parseCpuList(files.text(`${dir}/topology/thread_siblings_list`) ?? '') ?? [id],
    ...(governor === undefined ? {} : { governor }),
    ...(minFrequency === undefined ? {} : { minFrequency }),
    ...(maxFrequency === undefined ? {} : { maxFrequency }),
  };
}

function turbo(files: Files): boolean | undefined {
  const none = files.text(`${CPU}/intel_pstate/no_turbo`);
  if (none !== undefined) return none === '0';
  const boost = files.text(`${CPU}/cpufreq/boost`);
  return boost === undefined ? undefined : boost === '1';
}

function prefetchersOff(files: Files, vendor: string): number | undefined {
  if (vendor !== 'GenuineIntel') return undefined;
  const bytes = files.part('/dev/cpu/0/msr', PREFETCHER_MSR, 8);
  return bytes === undefined ? undefined : bytes[0] & 0xf;
}

function latencyRequest(files: Files): number | undefined {
  const bytes = files.part('/dev/cpu_dma_latency', 0, 4);
  return bytes === undefined ? undefined : new DataView(bytes.buffer).getInt32(0, true);
}

/** NUMA node of each CPU. */
export function nodesOfCpus(files: Files): Map<number, number> {
  const out = new Map<number, number>();
  for (const name of files.list('/sys/devices/system/node')) {
    const match = /^node(\d+)$/.exec(name);
    if (match === null) continue;
    for (const cpu of parseCpuList(files.text(`/sys/devices/system/node/${name}/cpulist`) ?? '') ?? [])
      out.set(cpu, Number(match[1]));
  }
  return out;
}

export function cpuFacts(files: Files, sysfs = '/sys'): CpuFacts {
  const info = files.text('/proc/cpuinfo') ?? '';
  const field = (name: string): string => new RegExp(`^${name}\\s*:\\s*(.*)$`, 'm').exec(info)?.[1] ?? '';
  const vendor = field('vendor_id');
  const list = (path: string): number[] => parseCpuList(files.text(path) ?? '') ?? [];
  const online = list(`${CPU}/online`);
  const nodes = nodesOfCpus(files);
  return {
    vendor,
    model: field('model name'),
    list: online.map((id) => cpuOf(files, id, nodes)),
    isolated: list(`${CPU}/isolated`),
    nohzFull: list(`${CPU}/nohz_full`),
    smt: files.text(`${CPU}/smt/control`),
    idle: idleStates(online[0] ?? 0, sysfs),
    latencyRequest: latencyRequest(files),
    frequencyDriver: files.text(`${CPU}/cpu${online[0] ?? 0}/cpufreq/scaling_driver`),
    pstate: files.text(`${CPU}/intel_pstate/status`) ?? files.text(`${CPU}/amd_pstate/status`),
    turbo: turbo(files),
    prefetchersOff: prefetchersOff(files, vendor),
    iommu: files.list('/sys/class/iommu').length > 0,
    aspm: /\[(\w+)\]/.exec(files.text('/sys/module/pcie_aspm/parameters/policy') ?? '')?.[1],
  };
}
