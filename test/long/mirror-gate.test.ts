import { eth } from '../../src/packet/build.ts';
import { checkMirrorGate } from '../sensor/mirror-gate.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';

ownNetns();

kernelTest(
  'a mirror that ends here, in GENEVE with options over IPv6, to two workers that listen on all addresses',
  ['xdpFrags', 'xdpNativeVeth', 'syscallProgram'],
  async () => {
    const [host, mirror] = ['fd77::1', 'fd77::2'];
    const options = [{ class: 0x0132, type: 1, data: new Uint8Array(8) }];
    await checkMirrorGate({
      address: `${host}/64 nodad`,
      source: (port) => `udp://[::]:${port}?encap=geneve`,
      options: ['--workers', '2'],
      outer: (dst) => eth({ dst }).ipv6({ src: mirror, dst: host }),
      wrap: (outer, number, dport) =>
        outer.udp({ sport: 5000 + (number % 7), dport }).geneve({ vni: 5, options, protocol: 0x6558 }),
      vni: 'id.ctx.geneve_vni',
    });
  },
  120_000,
);
