import { SluiceError } from '../base/errors.ts';
import {
  attachXdp,
  type BpfLink,
  type BpfProgram,
  programInfo,
  type XdpAttachment,
} from '../kernel/index.ts';

export type AttachMode = 'native' | 'generic' | 'offload';

const GENERIC =
  'generic mode runs after the kernel has built its packet, so it saves the sensor but not the kernel';
const NEXT_BEST = { offload: 'native', native: 'generic', generic: undefined } as const;

/** A mode that the interface cannot do, named, with the one to try instead. */
function withNextBest(error: unknown, ifname: string, mode: AttachMode): unknown {
  const next = NEXT_BEST[mode];
  if (!(error instanceof SluiceError) || error.code !== 'KERNEL_FEATURE' || next === undefined) return error;
  return new SluiceError('KERNEL_FEATURE', `${ifname} cannot run the gate in ${mode} mode`, {
    cause: error,
    help: `the next best is --mode ${next}; --mode auto takes the best that works`,
  });
}

/** `warning`: why it is not the best mode. @throws SluiceError INTERFACE_BUSY, KERNEL_FEATURE with the next best mode */
export function attachNew(
  program: BpfProgram,
  ifindex: number,
  ifname: string,
  mode: AttachMode | 'auto',
): { link: BpfLink; mode: AttachMode; warning?: string } {
  if (mode !== 'auto') {
    try {
      const link = attachXdp({ program, ifindex, mode });
      return mode === 'generic' ? { link, mode, warning: GENERIC } : { link, mode };
    } catch (error) {
      throw withNextBest(error, ifname, mode);
    }
  }
  try {
    return { link: attachXdp({ program, ifindex, mode: 'native' }), mode: 'native' };
  } catch (error) {
    if (error instanceof SluiceError && error.code === 'INTERFACE_BUSY') throw error;
    const link = attachXdp({ program, ifindex, mode: 'generic' });
    const why = error instanceof Error ? error.message : String(error);
    return { link, mode: 'generic', warning: `${ifname}: no native XDP (${why}); ${GENERIC}` };
  }
}

/** Somebody else's program is in the way, and who it is. */
export function foreignProgram(ifname: string, there: XdpAttachment): SluiceError {
  return new SluiceError(
    'INTERFACE_BUSY',
    `${ifname} already has an XDP program: ${describe(there.programId)}, ${there.mode} mode`,
    {
      help: 'detach it with the tool that attached it; Sluice does not replace what is not its own. One that is to run behind the gate goes into its next slot (`sluice gate up --next PIN`)',
    },
  );
}

function describe(programId: number): string {
  try {
    return `${programInfo(programId).name} (id ${programId})`;
  } catch {
    return `id ${programId}`;
  }
}
