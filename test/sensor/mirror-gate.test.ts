import { eth } from '../../src/packet/build.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { checkMirrorGate } from './mirror-gate.ts';

ownNetns();

kernelTest(
  'a mirror that ends here: what the gate drops before the socket is in the records all the same',
  ['xdpFrags', 'xdpNativeVeth', 'syscallProgram'],
  async () => {
    const [host, mirror] = ['10.77.0.1', '10.77.0.2'];
    await checkMirrorGate(
      { address: `${host}/24`, options: [], outer: (dst) => eth({ dst }).ipv4({ src: mirror, dst: host }) },
      {
        source: (port) => `udp://${host}:${port}`,
        wrap: (outer, _, dport, frame) =>
          outer.udp({ sport: 5000, dport, checksum: 0 }).vxlan({ vni: 5 }).payload(frame),
        vni: { 'id.ctx.vxlan_vni': 5 },
      },
    );
  },
);
