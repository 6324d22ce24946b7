import { AREAS, type Check, type Finding, LEVELS } from '../finding.ts';
import type { Machine } from '../machine.ts';
import { BPF_CHECKS } from './bpf.ts';
import { CPU_CHECKS } from './cpu.ts';
import { IRQ_CHECKS } from './irq.ts';
import { KERNEL_CHECKS } from './kernel.ts';
import { NIC_CHECKS } from './nic.ts';
import { LOAD_CHECKS } from './nic-load.ts';
import { NUMA_CHECKS } from './numa.ts';
import { OFFLOAD_CHECKS } from './offloads.ts';
import { PCIE_CHECKS } from './pcie.ts';
import { CLOCK_CHECKS, FANOUT_CHECKS, MEMORY_CHECKS } from './rest.ts';
import { RSS_CHECKS } from './rss.ts';

/** All checks, in the order of their areas. */
export const CHECKS: readonly Check[] = [
  ...NIC_CHECKS,
  ...LOAD_CHECKS,
  ...OFFLOAD_CHECKS,
  ...RSS_CHECKS,
  ...PCIE_CHECKS,
  ...IRQ_CHECKS,
  ...NUMA_CHECKS,
  ...CPU_CHECKS,
  ...KERNEL_CHECKS,
  ...BPF_CHECKS,
  ...MEMORY_CHECKS,
  ...CLOCK_CHECKS,
  ...FANOUT_CHECKS,
].toSorted((a, b) => AREAS.indexOf(a.area) - AREAS.indexOf(b.area));

/** What the checks find; of a check that is not for this machine nothing. */
export function examine(machine: Machine, checks: readonly Check[] = CHECKS): Finding[] {
  return checks.flatMap((check) => check.run(machine));
}

export const worst = (findings: readonly Finding[]): Finding['level'] =>
  findings.reduce<Finding['level']>(
    (level, finding) => (LEVELS.indexOf(finding.level) > LEVELS.indexOf(level) ? finding.level : level),
    'ok',
  );
