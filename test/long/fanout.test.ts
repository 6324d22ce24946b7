import { expect } from 'vitest';
import { lossless } from '../sensor/lossless.ts';
import { kernelTest } from '../support/kernel.ts';

kernelTest(
  'records are the same with a gate, four workers and frames that are cut as with one worker and whole frames',
  ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing', 'tcx'],
  async () => {
    const result = await lossless({}, { gated: ['--workers', '4', '--fanout', 'ebpf', '--snaplen', 'auto'] });
    // Four workers on few CPUs come to shunting later than one.
    expect(result.shunted).toBeGreaterThan(20);
  },
  120_000,
);
