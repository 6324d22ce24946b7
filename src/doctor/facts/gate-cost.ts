import { bpfObjectPath } from '../../gate/kind.ts';
import { loadGate } from '../../gate/load.ts';
import { ProgramFlag } from '../../kernel/index.ts';
import { eth } from '../../packet/build.ts';
import type { CostFacts } from '../machine.ts';

const REPEAT = 400_000;
const ROUNDS = 5;

/** ns that this machine takes for a packet of a connection that is not shunted, in the gate as it is with nothing switched on. */
export function gateCost(): CostFacts['gate'] {
  try {
    using object = loadGate(bpfObjectPath('gate'), {
      programs: { sluice_gate: { flags: ProgramFlag.xdpHasFrags } },
    });
    const program = object.program('sluice_gate');
    const data = eth()
      .ipv4({ src: '10.0.0.1', dst: '192.168.0.1' })
      .tcp({ sport: 12_345, dport: 443, seq: 1000, ack: 5000, flags: 'A', window: 100 })
      .bytes();
    const rounds = Array.from({ length: ROUNDS }, () => program.testRun({ data, repeat: REPEAT }).durationNs);
    return { pass: Math.min(...rounds) };
  } catch (error) {
    return (error as Error).message;
  }
}
