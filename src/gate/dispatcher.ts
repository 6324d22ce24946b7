import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { BpfProgram, ensureBpffs } from '../kernel/index.ts';

/** What libxdp calls the program that runs others in turn (lib/libxdp/protocol.org of xdp-tools). */
export const DISPATCHER = 'xdp_dispatcher';

/** The programs that a dispatcher of libxdp runs on an interface, in turn; none where its pins cannot be read. */
export function dispatched(
  ifindex: number,
  programId: number,
  bpffs = ensureBpffs(),
): { id: number; name: string }[] {
  const directory = join(bpffs, 'xdp', `dispatch-${ifindex}-${programId}`);
  try {
    return readdirSync(directory)
      .flatMap((pin) => /^prog(\d)-prog$/.exec(pin)?.[1] ?? [])
      .toSorted()
      .map((slot) => {
        using program = BpfProgram.openPinned(join(directory, `prog${slot}-prog`));
        return { id: program.id, name: program.name };
      });
  } catch {
    return [];
  }
}
