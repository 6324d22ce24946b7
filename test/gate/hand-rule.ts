import { bpfObjectPath } from '../../src/gate/kind.ts';
import { type BpfObject, loadObject } from '../../src/kernel/index.ts';
import type { TestGate } from './support.ts';

/** In network order. */
const port = (value: number): number => ((value & 0xff) << 8) | (value >> 8);
const address = (text: string): number =>
  new Uint32Array(Uint8Array.from(text.split('.').map(Number)).buffer)[0] ?? 0;

/** A rule by hand: UDP from an address to port 53 is dropped, UDP to port 123 is limited. */
export function handRule(gate: TestGate, source = '10.0.0.1'): BpfObject {
  return loadObject(bpfObjectPath('test_rule'), {
    constants: { cfg_source: address(source), cfg_port: port(53), cfg_limited_port: port(123) },
    reuseMaps: { rules: gate.gate.table('rules'), scratch: gate.gate.table('scratch') },
  });
}
