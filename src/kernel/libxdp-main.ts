/** What libxdp.ts has libxdp do, in a process of its own: an order as the argument, JSON; what became of it on the standard output. */
import { addon } from './addon.ts';
import { BpfMap } from './map.ts';

export type LibxdpOrder =
  | { readonly op: 'attach'; path: string; entry: number; priority: number; ifindex: number; mode: number }
  | { readonly op: 'detach'; programId: number; ifindex: number };

export type LibxdpAnswer = { readonly programId: number } | { readonly errno: number; readonly said: string };

function perform(order: LibxdpOrder): LibxdpAnswer {
  try {
    if (order.op === 'detach') {
      addon().libxdpDetach(order.programId, order.ifindex);
      return { programId: order.programId };
    }
    using entry = BpfMap.fromId(order.entry);
    const { path, priority, ifindex, mode } = order;
    return { programId: addon().libxdpAttach(path, entry.fd, priority, ifindex, mode) };
  } catch (error) {
    if (!(error instanceof Error) || !('errno' in error) || typeof error.errno !== 'number') throw error;
    return { errno: error.errno, said: error.message };
  }
}

process.stdout.write(JSON.stringify(perform(JSON.parse(process.argv[2] ?? '') as LibxdpOrder)));
