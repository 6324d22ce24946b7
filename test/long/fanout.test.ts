import { expect } from 'vitest';
import { lossless } from '../sensor/lossless.ts';
import { kernelTest } from '../support/kernel.ts';

kernelTest(
  'records are the same with a gate, four workers and frames that are cut as with one worker and whole frames',
  ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing', 'tcx'],
  async () => {
    // Slow enough for four workers on few CPUs, which come to shunting later than one.
    const result = await lossless(
      { mbps: 100 },
      { gated: ['--workers', '4', '--fanout', 'ebpf', '--snaplen', 'auto'] },
    );
    expect(result.shunted).toBeGreaterThan(20);
  },
);
