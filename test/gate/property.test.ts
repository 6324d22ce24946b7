import { kernelTest, ownNetns } from '../support/kernel.ts';
import { mutate } from './mutations.ts';

// Two files at once may hold the loopback interface: each one of its own.
ownNetns();

kernelTest(
  '3,000 random and mutated frames: none aborts, none but shunted flows is dropped, the books add up',
  ['xdpFrags', 'syscallProgram'],
  () => mutate(3000),
);
