import { parseCpuList } from '../../kernel/index.ts';
import type { NicQueue } from '../machine.ts';
import type { Files } from './files.ts';

/** Where drivers put the number of a receive queue into the name of its interrupt. */
const QUEUE_NAMES = [
  /TxRx-(\d+)$/i, // ixgbe, i40e, ice, igb, bnxt_en
  /Tx-Rx-(\d+)$/i, // ena
  /-rx-(\d+)$/i,
  /input\.(\d+)$/, // virtio_net
  /comp(\d+)@/, // mlx5_core
  /^mlx4-(\d+)@/,
] as const;

/** Names of the interrupts by number, from /proc/interrupts. */
export function interruptNames(text: string): Map<number, string> {
  const out = new Map<number, string>();
  for (const line of text.split('\n')) {
    const match = /^\s*(\d+):.*\s(\S+)$/.exec(line);
    if (match !== null) out.set(Number(match[1]), match[2]);
  }
  return out;
}

export function queueOfName(name: string): number | undefined {
  for (const pattern of QUEUE_NAMES) {
    const match = pattern.exec(name);
    if (match !== null) return Number(match[1]);
  }
  return undefined;
}

/** Receive interrupts of a card, by queue. `device`: of virtio, the name of its device on that bus. */
export function nicQueues(files: Files, pci: string, device: string | undefined): NicQueue[] {
  const names = interruptNames(files.text('/proc/interrupts') ?? '');
  const own = files.list(`/sys/bus/pci/devices/${pci}/msi_irqs`).map(Number);
  const cpus = (path: string): number[] => parseCpuList(files.text(path) ?? '') ?? [];
  return own
    .flatMap((irq) => {
      const name = names.get(irq);
      const queue = name === undefined ? undefined : queueOfName(name);
      if (name === undefined || queue === undefined) return [];
      if (device !== undefined && !name.startsWith(`${device}-`)) return [];
      return [
        {
          queue,
          irq,
          irqName: name,
          affinity: cpus(`/proc/irq/${irq}/smp_affinity_list`),
          effective: cpus(`/proc/irq/${irq}/effective_affinity_list`),
        },
      ];
    })
    .toSorted((a, b) => a.queue - b.queue);
}
