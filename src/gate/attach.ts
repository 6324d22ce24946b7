import { SluiceError } from '../base/errors.ts';
import { programInfo, type XdpAttachment } from '../kernel/index.ts';
import { DISPATCHER, dispatched } from './dispatcher.ts';

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

/** By a raw link, or in another way. `warning`: why it is not the best mode. @throws SluiceError INTERFACE_BUSY, KERNEL_FEATURE with the next best mode */
export function attachNew<Link>(
  attach: (mode: AttachMode) => Link,
  ifname: string,
  mode: AttachMode | 'auto',
): { link: Link; mode: AttachMode; warning?: string } {
  if (mode !== 'auto') {
    try {
      const link = attach(mode);
      return mode === 'generic' ? { link, mode, warning: GENERIC } : { link, mode };
    } catch (error) {
      throw withNextBest(error, ifname, mode);
    }
  }
  try {
    return { link: attach('native'), mode: 'native' };
  } catch (error) {
    if (error instanceof SluiceError && error.code === 'INTERFACE_BUSY') throw error;
    const link = attach('generic');
    const why = error instanceof Error ? error.message : String(error);
    return { link, mode: 'generic', warning: `${ifname}: no native XDP (${why}); ${GENERIC}` };
  }
}

/** Whether it is libxdp's, which runs others in turn. */
export const isDispatcher = ({ programId }: XdpAttachment): boolean => nameOf(programId) === DISPATCHER;

/** Somebody else's program is in the way, and who it is. */
export function foreignProgram(ifname: string, ifindex: number, there: XdpAttachment): SluiceError {
  const { programId, mode } = there;
  const name = nameOf(programId);
  if (name === DISPATCHER) {
    const behind = dispatched(ifindex, programId).map((each) => each.name);
    const which = behind.length === 0 ? '' : ` (${behind.join(', ')})`;
    return new SluiceError(
      'INTERFACE_BUSY',
      `${ifname} already has XDP programs of libxdp${which}, ${mode} mode`,
      {
        help: `\`xdp-loader status ${ifname}\` shows them, \`xdp-loader unload ${ifname} --all\` takes them off; \`sluice gate up --libxdp\` goes among them, where the kernel has such components; one that is to run behind the gate is pinned with \`bpftool prog load\` and goes into its next slot (\`sluice gate up --next PIN\`)`,
      },
    );
  }
  return new SluiceError(
    'INTERFACE_BUSY',
    `${ifname} already has an XDP program: ${name === undefined ? `id ${programId}` : `${name} (id ${programId})`}, ${mode} mode`,
    {
      help: 'detach it with the tool that attached it; Sluice does not replace what is not its own. One that is to run behind the gate goes into its next slot (`sluice gate up --next PIN`)',
    },
  );
}

function nameOf(programId: number): string | undefined {
  try {
    return programInfo(programId).name;
  } catch {
    return undefined;
  }
}
