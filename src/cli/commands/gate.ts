import type { Register } from '../command.ts';
import { registerGateDown } from './gate-down.ts';
import { registerGateResize } from './gate-resize.ts';
import { registerGateSlots } from './gate-slots.ts';
import { registerGateStatus } from './gate-status.ts';
import { registerGateUp } from './gate-up.ts';

/** `sluice gate up|down|status|resize|next|trace`. */
export const registerGate: Register = (program, host) => {
  const gate = program
    .command('gate')
    .description('The XDP gate alone, in front of other sensors: shunts come over its control socket.');
  registerGateUp(gate, host);
  registerGateDown(gate, host);
  registerGateResize(gate, host);
  registerGateStatus(gate, host);
  registerGateSlots(gate, host);
};
