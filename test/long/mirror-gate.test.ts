import { eth, PacketBuilder } from '../../src/packet/build.ts';
import { checkMirrorGate, type Mirror, type MirroredHost } from '../sensor/mirror-gate.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';

ownNetns();

const FEATURES = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram'] as const;
const OPTIONS = [{ class: 0x0132, type: 1, data: new Uint8Array(8) }];
const IPV4 = 0x0800;
const IPV6 = 0x86dd;
const BRIDGED = 0x6558;

function host(family: 4 | 6, ...options: string[]): MirroredHost {
  const [here, there] = family === 4 ? ['10.77.0.1', '10.77.0.2'] : ['fd77::1', 'fd77::2'];
  return {
    address: family === 4 ? `${here}/24` : `${here}/64 nodad`,
    options,
    outer: (dst) =>
      family === 4
        ? eth({ dst }).ipv4({ src: there, dst: here })
        : eth({ dst }).ipv6({ src: there, dst: here }),
  };
}

/** Several source ports: the mirror's own need not be the same for both directions. */
const sport = (number: number): number => 5000 + (number % 7);

const onVxlan = (outer: PacketBuilder, number: number, frame: Uint8Array, vni: number): PacketBuilder =>
  outer
    .udp({ sport: sport(number), dport: 4789 })
    .vxlan({ vni })
    .payload(frame);

/** AWS Traffic Mirroring through a Gateway Load Balancer; between the two IPv4 or IPv6, as it comes. */
const geneveVxlan = (address: string): Mirror => ({
  source: (port) => `udp://${address}:${port}?encap=geneve+vxlan`,
  wrap: (outer, number, dport, frame) => {
    const six = number % 3 === 0;
    const between = six
      ? new PacketBuilder().ipv6({ src: '2001:db8::1', dst: '2001:db8::2' })
      : new PacketBuilder().ipv4({ src: '192.0.2.1', dst: '192.0.2.2' });
    return outer
      .udp({ sport: sport(number), dport })
      .geneve({ vni: 9, options: number % 2 === 0 ? OPTIONS : [], protocol: six ? IPV6 : IPV4 })
      .payload(onVxlan(between, number, frame, 5).bytes());
  },
  vni: { 'id.ctx.vxlan_vni': 5, 'id.ctx.geneve_vni': 9 },
});

const vxlan = (address: string, vni: number): Mirror => ({
  source: (port) => `udp://${address}:${port}`,
  wrap: (outer, number, dport, frame) =>
    outer
      .udp({ sport: sport(number), dport })
      .vxlan({ vni })
      .payload(frame),
  vni: { 'id.ctx.vxlan_vni': vni },
});

const behind = (bytes: number): Mirror => ({
  source: (port) => `udp://0.0.0.0:${port}?encap=raw&skip=${bytes}`,
  wrap: (outer, number, dport, frame) =>
    outer
      .udp({ sport: sport(number), dport })
      .payload(bytes)
      .payload(frame),
  vni: {},
});

const vxlanIp: Mirror = {
  source: (port) => `udp://0.0.0.0:${port}?encap=vxlan&dlt=raw`,
  wrap: (outer, number, dport, frame) =>
    outer
      .udp({ sport: sport(number), dport })
      .vxlan({ vni: 6 })
      .payload(frame.subarray(14)),
  vni: { 'id.ctx.vxlan_vni': 6 },
};

kernelTest(
  'a mirror that ends here, in GENEVE with options over IPv6, to two workers that listen on all addresses',
  FEATURES,
  async () => {
    await checkMirrorGate(host(6, '--workers', '2'), {
      source: (port) => `udp://[::]:${port}?encap=geneve`,
      wrap: (outer, number, dport, frame) =>
        outer
          .udp({ sport: sport(number), dport })
          .geneve({ vni: 5, options: OPTIONS, protocol: BRIDGED })
          .payload(frame),
      vni: { 'id.ctx.geneve_vni': 5 },
    });
  },
);

kernelTest('VXLAN inside of GENEVE, over IPv4 and IPv6, to two workers', FEATURES, async () => {
  await checkMirrorGate(host(6, '--workers', '2'), geneveVxlan('[fd77::1]'));
});

kernelTest(
  'several mirrors at once with the same connections in them, two of them under the same identifiers',
  FEATURES,
  async () => {
    await checkMirrorGate(
      host(4),
      vxlan('10.77.0.1', 5),
      vxlan('0.0.0.0', 5),
      geneveVxlan('10.77.0.1'),
      vxlanIp,
      behind(16),
    );
  },
);
