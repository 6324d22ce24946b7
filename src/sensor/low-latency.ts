import { SluiceError } from '../base/errors.ts';
import { c1Latency, idleStates, LatencyRequest } from '../kernel/index.ts';

/** Keeps all processors at C1 or lighter until it is closed. @throws SluiceError PRIVILEGE or KERNEL_FEATURE */
export function keepAwake(): LatencyRequest {
  try {
    return new LatencyRequest(c1Latency(idleStates(0)));
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === 'ENOENT';
    throw new SluiceError(
      missing ? 'KERNEL_FEATURE' : 'PRIVILEGE',
      'the latency request (--low-latency) cannot be made',
      {
        cause: error,
        help: missing
          ? '/dev/cpu_dma_latency is not there (containers hide it): run without --low-latency'
          : 'run as root, or let the group of /dev/cpu_dma_latency write to it',
      },
    );
  }
}
