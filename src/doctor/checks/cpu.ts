import { c1Latency } from '../../kernel/index.ts';
import { bad, byHand, type Check, machineCheck, ok } from '../finding.ts';
import { bootOption, cpuText, n, pinnedWorkers } from '../view.ts';

const NO_WISH = 2_000_000_000;
/** States that take longer than this to wake from than C1 does are deep. */
const POLLING = new Set(['POLL']);

const cstates = machineCheck('cpu.cstates', 'cores sleep no deeper than C1', ({ cpu }) => {
  const most = c1Latency(cpu.idle);
  const deep = cpu.idle.filter(({ latency, disabled }) => !disabled && latency > most);
  if (cpu.idle.length === 0) return undefined;
  const held =
    cpu.latencyRequest !== undefined && cpu.latencyRequest < NO_WISH ? cpu.latencyRequest : undefined;
  if (deep.length === 0) return ok(cpu.idle.map(({ name, latency }) => `${name} ${latency} µs`).join(', '));
  if (held !== undefined && deep.every(({ latency }) => latency > held))
    return ok(`deeper states are there, but somebody asks for ${n(held)} µs at most`);
  const index = (name: string): number => cpu.idle.findIndex((state) => state.name === name);
  return bad(
    'warning',
    deep.map(({ name, latency }) => `${name} takes ${latency} µs to wake`).join(', '),
    'a core that sleeps deeply wakes after the ring of the card may be full. Cap it at C1, and never switch sleeping off: a core that polls takes power and heat from those that work, and time from its sibling',
    {
      text: '`sluice run --low-latency` asks for it while it runs; or for all, deeper states off',
      risk: 'host',
      riskText: 'more power and heat',
      changes: cpu.list.flatMap(({ id }) =>
        deep.map(({ name }) => ({
          setting: {
            kind: 'file' as const,
            path: `/sys/devices/system/cpu/cpu${id}/cpuidle/state${index(name)}/disable`,
          },
          value: '1',
        })),
      ),
    },
  );
});

const polling = machineCheck('cpu.polling', 'cores may sleep at all', ({ cpu, kernel }) => {
  const words = [
    bootOption(kernel.cmdline, 'idle') === 'poll' ? 'idle=poll' : '',
    bootOption(kernel.cmdline, 'processor.max_cstate') === '0' ? 'processor.max_cstate=0' : '',
    cpu.latencyRequest === 0 ? 'somebody holds 0 µs in /dev/cpu_dma_latency' : '',
    cpu.idle.length > 1 && cpu.idle.every(({ name, disabled }) => disabled || POLLING.has(name))
      ? 'all states but POLL are off'
      : '',
  ].filter((text) => text !== '');
  if (words.length === 0) return cpu.idle.length === 0 ? undefined : ok('C1 is allowed');
  return bad(
    'warning',
    words.join(', '),
    'cores that poll run hot: those that work get less turbo, and a hardware thread that polls takes half of its core from its sibling. C1 wakes within 2 µs',
    byHand('allow C1: remove that, and use `sluice run --low-latency`', 'reboot', 'none'),
  );
});

const governor = machineCheck('cpu.governor', 'full frequency at once', ({ cpu }) => {
  const known = cpu.list.filter((each) => each.governor !== undefined);
  if (known.length === 0) return undefined;
  const slow = known.filter((each) => each.governor !== 'performance');
  if (slow.length === 0) return ok('performance on all CPUs');
  return bad(
    'warning',
    `${[...new Set(slow.map((each) => each.governor))].join(', ')} on CPU ${cpuText(slow.map(({ id }) => id))}`,
    'the frequency goes up only after a core has been busy for a while: the beginning of each burst meets a slow one',
    {
      text: 'the governor performance',
      risk: 'host',
      riskText: 'more power',
      changes: slow.map(({ id }) => ({
        setting: { kind: 'file', path: `/sys/devices/system/cpu/cpu${id}/cpufreq/scaling_governor` },
        value: 'performance',
      })),
    },
  );
});

const pstate = machineCheck('cpu.pstate', 'the driver of frequencies', ({ cpu }) => {
  if (cpu.frequencyDriver === undefined) return undefined;
  const text = `${cpu.frequencyDriver}${cpu.pstate === undefined ? '' : `, ${cpu.pstate}`}`;
  if (cpu.frequencyDriver !== 'acpi-cpufreq' && cpu.pstate !== 'passive') return ok(text);
  return bad(
    'note',
    text,
    "the processor's own control (intel_pstate, amd_pstate in active mode) reaches turbo sooner, as it does not wait for the kernel's tick",
    byHand('intel_pstate=active or amd_pstate=active on the command line of the kernel', 'reboot', 'none'),
  );
});

const turbo = machineCheck('cpu.turbo', 'turbo is on', ({ cpu }) => {
  if (cpu.turbo === undefined) return undefined;
  if (cpu.turbo) return ok('on');
  const intel = cpu.frequencyDriver === 'intel_pstate' || cpu.pstate !== undefined;
  return bad('note', 'off', 'the busiest worker is what loses packets first: turbo is for it', {
    text: 'on',
    risk: 'host',
    riskText: 'more power, and frequencies that change with the load of other cores',
    changes: [
      intel && cpu.frequencyDriver !== 'amd-pstate'
        ? { setting: { kind: 'file', path: '/sys/devices/system/cpu/intel_pstate/no_turbo' }, value: '0' }
        : { setting: { kind: 'file', path: '/sys/devices/system/cpu/cpufreq/boost' }, value: '1' },
    ],
  });
});

const smt = machineCheck('cpu.smt', 'workers do not share a core', (machine) => {
  const { cpu } = machine;
  if (cpu.smt === undefined) return undefined;
  if (cpu.smt !== 'on') return ok(`SMT: ${cpu.smt}`);
  const cores = new Map<string, number[]>();
  for (const worker of pinnedWorkers(machine)) {
    const core = cpu.list.find(({ id }) => id === worker.cpu)?.siblings.join(',') ?? String(worker.cpu);
    cores.set(core, [...new Set([...(cores.get(core) ?? []), worker.cpu])]);
  }
  const shared = [...cores.values()].filter((cpus) => cpus.length > 1);
  if (shared.length === 0) return ok('SMT is on, and no two pinned workers are on one core');
  return bad(
    'warning',
    `workers on CPU ${shared.map((cpus) => cpuText(cpus)).join(', CPU ')}, which are one core`,
    'two hardware threads share the caches and units of a core: two workers on it get about 60 % of a core each, and evict each other’s flows',
    byHand(
      'pin workers to cores, and leave the siblings to interrupts: `--pin-workers auto` does',
      'host',
      'the sensor is started anew',
    ),
  );
});

const isolated = machineCheck('cpu.isolated', 'nothing else runs where workers are pinned', (machine) => {
  const pinned = [...new Set(pinnedWorkers(machine).map(({ cpu }) => cpu))];
  if (pinned.length === 0) return undefined;
  const { isolated: apart } = machine.cpu;
  const open = pinned.filter((cpu) => !apart.includes(cpu));
  if (open.length === 0) return ok(`CPU ${cpuText(pinned)}, isolated`);
  return bad(
    'note',
    `workers on CPU ${cpuText(pinned)}; isolated: ${cpuText(apart)}`,
    'the scheduler puts other work beside a worker; at rates near the limit each such moment is a full ring',
    byHand(
      `isolcpus=${cpuText(pinned)} on the command line of the kernel, or a cpuset (systemd AllowedCPUs= of the other slices), which needs no reboot`,
      'reboot',
      'these CPUs are lost to everything that is not pinned to them',
    ),
  );
});

const rcu = machineCheck('cpu.rcu-nocbs', 'isolated CPUs have no clean-up work (RCU)', ({ cpu, kernel }) => {
  if (cpu.isolated.length === 0) return undefined;
  const option = bootOption(kernel.cmdline, 'rcu_nocbs');
  const full = bootOption(kernel.cmdline, 'nohz_full');
  if (option !== undefined || full !== undefined)
    return ok(`rcu_nocbs=${option ?? ''}${full === undefined ? '' : `, nohz_full=${full}`}`);
  return bad(
    'note',
    `isolated: ${cpuText(cpu.isolated)}; no rcu_nocbs`,
    'the kernel frees memory on the CPU that let go of it, in bursts, between the packets of a worker',
    byHand(
      `rcu_nocbs=${cpuText(cpu.isolated)} on the command line of the kernel`,
      'reboot',
      'that work goes to other CPUs',
    ),
  );
});

const iommu = machineCheck('cpu.iommu', 'the IOMMU does not translate for the host', ({ cpu, kernel }) => {
  if (kernel.virtual) return undefined;
  const given = bootOption(kernel.cmdline, 'iommu');
  const off = ['intel_iommu', 'amd_iommu'].some((name) => bootOption(kernel.cmdline, name) === 'off');
  if (!cpu.iommu || off) return ok('none is in use');
  if (given === 'pt' || bootOption(kernel.cmdline, 'iommu.passthrough') === '1')
    return ok('passes the host through');
  return bad(
    'warning',
    'in use, without iommu=pt',
    'each buffer that the card writes to is translated: at small packets that is a good part of the budget',
    byHand(
      'iommu=pt on the command line of the kernel',
      'reboot',
      'devices of the host itself are no longer fenced in; those of virtual machines are',
    ),
  );
});

const prefetchers = machineCheck('cpu.prefetchers', 'hardware prefetchers', ({ cpu }) => {
  if (cpu.prefetchersOff === undefined) return undefined;
  if (cpu.prefetchersOff === 0) return ok('all four are on');
  const names = ['L2 streamer', 'L2 adjacent line', 'L1 streamer', 'L1 by instruction'];
  const off = names.filter((_, bit) => (((cpu.prefetchersOff ?? 0) >> bit) & 1) === 1);
  return bad(
    'note',
    `off: ${off.join(', ')}`,
    'reading the ring gains from them; look-ups in large tables do not. Which weighs more differs from processor to processor: measure both (`--budget` shows cache misses for each packet)',
    byHand('in the firmware of the machine, or wrmsr -a 0x1a4 0', 'host', 'all programs are affected'),
  );
});

export const CPU_CHECKS: readonly Check[] = [
  cstates,
  polling,
  governor,
  pstate,
  turbo,
  smt,
  isolated,
  rcu,
  iommu,
  prefetchers,
];
