import { bad, byHand, type Change, type Check, type Fix, nicCheck, ok } from '../finding.ts';
import type { Machine, Nic } from '../machine.ts';
import { cpuText, nearCpus, nodesOf, percent, pinnedWorkers, plannedCpus, rxQueueCount } from '../view.ts';

function affinityFix(machine: Machine, nic: Nic): Fix {
  const cpus = plannedCpus(machine, nic);
  const changes: Change[] = nic.queues.flatMap(({ irq }, i) =>
    irq === undefined
      ? []
      : [
          {
            setting: { kind: 'file', path: `/proc/irq/${irq}/smp_affinity_list` } as const,
            value: String(cpus[i]),
          },
        ],
  );
  return {
    text: `queue ${nic.queues.map(({ queue }, i) => `${queue} → CPU ${cpus[i]}`).join(', ')}`,
    risk: 'none',
    riskText: 'a driver that manages its interrupts itself refuses; irqbalance moves them again',
    changes,
  };
}

const affinity = nicCheck('irq.affinity', 'each queue has a CPU of its own', (nic, machine) => {
  if (nic.queues.length === 0) return undefined;
  const where = nic.queues.map(({ affinity: asked, effective }) =>
    effective.length > 0 ? effective : asked,
  );
  const text = nic.queues.map(({ queue }, i) => `${queue} → ${cpuText(where[i])}`).join(', ');
  const wide = nic.queues.filter((each) => each.affinity.length > 1);
  const used = new Set(where.flat());
  const room = Math.min(nic.queues.length, nearCpus(machine, nic).length);
  if (wide.length === 0 && used.size >= room) return ok(text);
  return bad(
    'warning',
    `${text}${wide.length > 0 ? `; ${wide.length} may go to several CPUs` : ''}`,
    used.size < room
      ? 'several queues are handled by one CPU, while others have none'
      : 'an interrupt that moves takes its packets from one cache to another, and flows overtake themselves',
    affinityFix(machine, nic),
  );
});

const node = nicCheck('irq.node', 'interrupts stay at the node of the card', (nic, machine) => {
  if (nic.queues.length === 0 || nic.pci?.node === undefined || nodesOf(machine).length < 2) return undefined;
  const near = new Set(nearCpus(machine, nic).map(({ id }) => id));
  const far = nic.queues.filter(({ effective }) => effective.some((cpu) => !near.has(cpu)));
  if (far.length === 0) return ok(`all ${nic.queues.length} on node ${nic.pci.node}`);
  return bad(
    'warning',
    `${far.map(({ queue, effective }) => `queue ${queue} on CPU ${cpuText(effective)}`).join(', ')}; the card is at node ${nic.pci.node}`,
    'each packet crosses from one processor to the other before it is looked at',
    affinityFix(machine, nic),
  );
});

const balance = nicCheck('irq.balance', 'nothing moves the interrupts', (nic, machine) => {
  if (nic.queues.length < 2) return undefined;
  if (!machine.irqbalance) return ok('irqbalance does not run');
  return bad(
    'warning',
    'irqbalance runs',
    'it spreads interrupts by load, across nodes, and undoes what is set by hand',
    byHand(
      'systemctl disable --now irqbalance, or IRQBALANCE_BANNED_CPULIST and --banirq for the queues of the tap',
      'host',
      'interrupts of other devices stay where they are',
    ),
  );
});

/** A CPU that has no more time than this left does two things at once. */
const FULL = 0.85;

const workers = nicCheck(
  'irq.workers',
  'workers and interrupts do not take each other the time',
  (nic, machine) => {
    const pinned = pinnedWorkers(machine, nic);
    if (pinned.length === 0 || nic.queues.length === 0) return undefined;
    const irqs = new Set(nic.queues.flatMap(({ effective }) => effective));
    const shared = pinned.filter(({ cpu }) => irqs.has(cpu));
    if (shared.length === 0)
      return ok(`interrupts on ${cpuText([...irqs])}, workers on ${cpuText(pinned.map(({ cpu }) => cpu))}`);
    const full = shared.filter(
      ({ cpu }) => (machine.sample?.cpus.find(({ id }) => id === cpu)?.busy ?? 0) >= FULL,
    );
    const text = `CPU ${cpuText(shared.map(({ cpu }) => cpu))} has both`;
    return bad(
      full.length > 0 ? 'warning' : 'note',
      full.length > 0
        ? `${text}, and CPU ${cpuText(full.map(({ cpu }) => cpu))} is more than ${percent(FULL)} busy`
        : text,
      'an interrupt goes before the worker: at high rates the worker gets no time, its ring fills, and packets are lost there. Sharing is right only while both fit into one core (one cache for both)',
      affinityFix(machine, nic),
    );
  },
);

const rps = nicCheck('irq.rps', 'packets are not handed on in software (RPS)', (nic) => {
  if (nic.rx.length === 0) return undefined;
  const on = nic.rx.filter((queue) => queue.rps.length > 0);
  if (on.length === 0) return ok('off');
  if (rxQueueCount(nic) < 2)
    return ok(`on, to CPU ${cpuText(on.flatMap((queue) => queue.rps))}: the card has one queue alone`);
  return bad(
    'warning',
    `on for ${on.length} queues`,
    'the card has queues of its own: handing packets on to another CPU once more costs an interrupt between them, and the queue in between (netdev_max_backlog) loses packets without a counter of the card',
    {
      text: 'off',
      risk: 'none',
      riskText: 'packets are handled where they come in',
      changes: on.map(({ queue }) => ({
        setting: { kind: 'file', path: `/sys/class/net/${nic.name}/queues/rx-${queue}/rps_cpus` },
        value: '0',
      })),
    },
  );
});

const rfs = nicCheck('irq.rfs', 'packets do not follow applications (RFS)', (nic, machine) => {
  if (nic.rx.length === 0) return undefined;
  const entries = Number(machine.sysctls['net.core.rps_sock_flow_entries'] ?? 0);
  const on = nic.rx.filter((queue) => queue.rfs > 0);
  if (entries === 0 || on.length === 0) return ok('off');
  return bad(
    'warning',
    `on for ${on.length} queues`,
    'a sensor has no connections of its own that packets could follow: they only move',
    {
      text: 'off for the tap',
      risk: 'none',
      riskText: 'none for a tap',
      changes: on.map(({ queue }) => ({
        setting: { kind: 'file', path: `/sys/class/net/${nic.name}/queues/rx-${queue}/rps_flow_cnt` },
        value: '0',
      })),
    },
  );
});

const xps = nicCheck('irq.xps', 'queues to send by are near (XPS)', (nic, machine) => {
  if (nic.tx.length === 0 || nic.pci?.node === undefined || nodesOf(machine).length < 2) return undefined;
  const near = new Set(nearCpus(machine, nic).map(({ id }) => id));
  const shared = nic.tx.filter(
    ({ xps: cpus }) => cpus.some((cpu) => near.has(cpu)) && cpus.some((cpu) => !near.has(cpu)),
  );
  if (shared.length === 0) return ok('no queue is shared across nodes');
  return bad(
    'note',
    `${shared.length} queues to send by are shared across nodes`,
    'it matters where packets are sent: XDP_TX, redirects, inline sensors. A tap alone sends nothing',
    {
      text: 'near CPUs alone',
      risk: 'none',
      riskText: 'what other CPUs send shares the remaining queues',
      changes: shared.map(({ queue, xps: cpus }) => ({
        setting: { kind: 'file', path: `/sys/class/net/${nic.name}/queues/tx-${queue}/xps_cpus` },
        value: maskText(cpus.filter((cpu) => near.has(cpu))),
      })),
    },
  );
});

/** Words of 32 bits in hexadecimal, the highest first. */
export function maskText(cpus: readonly number[]): string {
  const words = Array.from({ length: Math.floor(Math.max(0, ...cpus) / 32) + 1 }, () => 0);
  for (const cpu of cpus) words[cpu >> 5] = (words[cpu >> 5] | (1 << (cpu & 31))) >>> 0;
  return words
    .toReversed()
    .map((word) => word.toString(16).padStart(8, '0'))
    .join(',');
}

export const IRQ_CHECKS: readonly Check[] = [affinity, node, balance, workers, rps, rfs, xps];
