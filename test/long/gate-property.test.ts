import { mutate } from '../gate/mutations.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';

// Two files at once may hold the loopback interface: each one of its own.
ownNetns();

for (const behindRules of [false, true]) {
  kernelTest(
    `150,000 random and mutated frames${behindRules ? ' behind rules' : ''}: none aborts, none but shunted flows is dropped, the books add up`,
    ['xdpFrags', 'syscallProgram'],
    () => mutate(150_000, behindRules),
  );
}
