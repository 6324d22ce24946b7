import { SluiceError } from '../base/errors.ts';
import { allowedCpus, coresFirst, nodeCpus, numaNode, parseCpuList } from '../kernel/index.ts';

/** What is known of the machine. */
export interface Machine {
  /** CPUs that this process may run on. */
  allowed: readonly number[];
  sysfs: string;
}

const thisMachine = (): Machine => ({ allowed: allowedCpus(), sysfs: '/sys' });

/**
 * The CPUs that workers of an interface run on, one after the other and then from the beginning. `auto`: those of the NUMA
 * node that the interface is attached to, each core once before any is used twice; all of them where it has no node. Undefined: off.
 * @throws SluiceError USAGE when a CPU is named that this process may not run on
 */
export function workerCpus(
  wish: string,
  ifname: string,
  machine: Machine = thisMachine(),
): readonly number[] | undefined {
  if (wish === 'off') return undefined;
  const { allowed, sysfs } = machine;
  if (wish === 'auto') {
    const node = numaNode(ifname, sysfs);
    const near = node === undefined ? [] : nodeCpus(node, sysfs).filter((cpu) => allowed.includes(cpu));
    return coresFirst(near.length > 0 ? near : allowed, sysfs);
  }
  const named = parseCpuList(wish) ?? [];
  const foreign = named.filter((cpu) => !allowed.includes(cpu));
  if (named.length === 0 || foreign.length > 0)
    throw new SluiceError('USAGE', `workers cannot run on CPU ${foreign.join(', ') || wish}`, {
      help: `this process may run on ${allowed.join(', ')}`,
    });
  return named;
}
