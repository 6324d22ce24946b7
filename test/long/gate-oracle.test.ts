import { compareWithScapy } from '../gate/scapy.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';

// Two files at once may hold the loopback interface: each one of its own.
ownNetns();

for (const seed of [11, 12, 13, 14]) {
  const vlanKey = seed % 2 === 0;
  kernelTest(
    `5,000 frames: the gate sees what scapy sees${vlanKey ? ', VLANs in the key' : ''}, seed ${seed}`,
    ['xdpFrags', 'syscallProgram'],
    (context) => compareWithScapy(context, vlanKey, seed, 5000),
  );
}
