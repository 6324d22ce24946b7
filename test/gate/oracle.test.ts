import { kernelTest, ownNetns } from '../support/kernel.ts';
import { compareWithScapy } from './scapy.ts';

// Two files at once may hold the loopback interface: each one of its own.
ownNetns();

for (const vlanKey of [false, true]) {
  kernelTest(
    `1,000 frames: the gate sees what scapy sees${vlanKey ? ', VLANs in the key' : ''}`,
    ['xdpFrags', 'syscallProgram'],
    (context) => compareWithScapy(context, vlanKey, vlanKey ? 2 : 1, 1000),
  );
}
