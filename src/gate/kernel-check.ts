import { SluiceError } from '../base/errors.ts';
import { type Feature, probe } from '../kernel/index.ts';
import type { GateKind } from './kind.ts';

const CAPTURE: Partial<Record<Feature, string>> = { packetRing: 'AF_PACKET rings (TPACKET_V3)' };
const XDP: Partial<Record<Feature, string>> = {
  xdpFrags: 'XDP programs for frames in several buffers',
};
const GATE: Partial<Record<Feature, string>> = {
  syscallProgram: 'BPF programs of type syscall',
  coarseClock: 'the coarse clock in BPF programs',
  mmapableArray: 'mapped BPF arrays',
  batchOperations: 'batched reads of BPF maps',
  membarrier: 'membarrier(2)',
};

function lacking(features: Partial<Record<Feature, string>>): string[] {
  return Object.entries(features).flatMap(([feature, name]) => {
    const result = probe(feature as Feature);
    return result.state === 'unsupported' ? [`${name} (Linux ${result.since})`] : [];
  });
}

/** What only XDP needs, and what a gate on sockets needs as well. */
export const lackingForXdp = (): string[] => lacking(XDP);
export const lackingForFilter = (): string[] => lacking(GATE);

/** @throws SluiceError KERNEL_FEATURE that names what the running kernel lacks for capture and for this gate */
export function checkKernel(gate: GateKind | 'none'): void {
  const capture = lacking(CAPTURE);
  const missing = [
    ...capture,
    ...(gate === 'xdp' ? lackingForXdp() : []),
    ...(gate === 'none' ? [] : lackingForFilter()),
  ];
  if (missing.length === 0) return;
  const without = capture.length === 0 ? '`sluice run --no-gate` works without; ' : '';
  throw new SluiceError('KERNEL_FEATURE', `the running kernel lacks ${missing.join(', ')}`, {
    help:
      'Linux 6.1 or newer has all of it, unless it is configured out or a sandbox withholds it. ' +
      `${without}\`sluice read FILE\` needs nothing of it`,
  });
}
