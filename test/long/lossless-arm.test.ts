import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { lossless } from '../sensor/lossless.ts';
import { kernelTest } from '../support/kernel.ts';

const FEATURES = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing', 'tcx'] as const;
/** Slow enough that most of what reaches a threshold goes on when it is armed, however busy the machine. */
const mbps = 100;
const IMPAIR = { drop: 0.01, duplicate: 0.01, reorder: 0.01 };

/** Thresholds that many connections of the lab reach, and many do not. */
const POLICIES = `
policies:
  - name: armed-bytes
    when: proto == tcp and bytes >= 5kB
    action: arm
    after: 30kB
  - name: armed-packets
    when: packets >= 2
    action: arm
    after: 20 packets
`;

/** Options of a run whose gate begins every shunt by itself. */
function armed(): { options: string[]; [Symbol.dispose](): void } {
  const dir = mkdtempSync(join(tmpdir(), 'sluice-arm-'));
  const file = join(dir, 'policies.yaml');
  writeFileSync(file, POLICIES);
  return {
    options: ['--policy', 'none', '--policy-file', file],
    [Symbol.dispose]: () => rmSync(dir, { recursive: true }),
  };
}

kernelTest('lossless when the kernel begins shunts by itself, on a bad link', [...FEATURES], async () => {
  using policies = armed();
  const result = await lossless({ mbps, impair: { seed: 11, ...IMPAIR } }, { gated: policies.options });
  expect(result.shunted).toBeGreaterThan(100);
  expect(Object.keys(result.summary.policies).sort()).toEqual(['armed-bytes', 'armed-packets']);
});

kernelTest('the same through a socket filter, with a slow way to the ring', [...FEATURES], async () => {
  using policies = armed();
  const gated = [...policies.options, '--mode', 'socket'];
  const result = await lossless({ mbps, passOn: ['a', 'b'] }, { gated, slow: true });
  expect(result.shunted).toBeGreaterThan(100);
});
