import { SluiceError } from '../base/errors.ts';
import { type Feature, probe } from '../kernel/index.ts';

const CAPTURE: Partial<Record<Feature, string>> = { packetRing: 'AF_PACKET rings (TPACKET_V3)' };
const GATE: Partial<Record<Feature, string>> = {
  xdpFrags: 'XDP programs for frames in several buffers',
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

/** @throws SluiceError KERNEL_FEATURE that names what the running kernel lacks for capture and (with a gate) for XDP */
export function checkKernel(gate: boolean): void {
  const capture = lacking(CAPTURE);
  const missing = gate ? [...capture, ...lacking(GATE)] : capture;
  if (missing.length === 0) return;
  const without = capture.length === 0 ? '`sluice run --no-gate` works without; ' : '';
  throw new SluiceError('KERNEL_FEATURE', `the running kernel lacks ${missing.join(', ')}`, {
    help:
      'Linux 6.1 or newer has all of it, unless it is configured out or a sandbox withholds it. ' +
      `${without}\`sluice read FILE\` needs nothing of it`,
  });
}
