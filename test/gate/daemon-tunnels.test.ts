import { expect } from 'vitest';
import { eth, type PacketBuilder } from '../../src/packet/build.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { UpGate } from './daemon-support.ts';

ownNetns();

const FLOW = 'udp 10.0.0.1:5000 10.0.0.2:53';
const datagram = (start: PacketBuilder): PacketBuilder =>
  start.ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }).udp({ sport: 5000, dport: 53 }).payload(30);
const outer = (): PacketBuilder => eth().ipv4({ src: '172.16.0.1', dst: '172.16.0.2' });
const vxlan = (vni: number, dport = 4789): PacketBuilder =>
  datagram(outer().udp({ dport }).vxlan({ vni }).eth());
const geneve = (vni: number): PacketBuilder => datagram(outer().udp().geneve({ vni }).eth());

kernelTest('a gate that looks into tunnels: what it says, and shunts by hand inside', [], async () => {
  await using gate = await UpGate.up(
    '--tunnels',
    'vxlan,geneve',
    '--tunnel-ports',
    'vxlan=8472,geneve=6081',
    '--tunnel-key',
  );
  expect((await gate.status()).features?.tunnels).toEqual({
    kinds: ['vxlan', 'geneve'],
    inKey: true,
    ports: { vxlan: [8472], geneve: [6081] },
  });
  expect((await gate.shunt('add', '--flow', FLOW, '--vni', '7')).code).toBe(0);
  expect((await gate.shunt('add', '--flow', FLOW, '--geneve-vni', '8')).code).toBe(0);
  gate.send(vxlan(7, 8472), 3);
  gate.send(vxlan(8, 8472), 5);
  gate.send(vxlan(7), 7);
  gate.send(geneve(7), 11);
  gate.send(geneve(8), 13);
  const rows = await gate.rows();
  const counted = rows.map(({ vni, geneveVni = 0, a, ab, ba }) => [
    vni,
    geneveVni,
    a.addr,
    ab.pkts + ba.pkts,
  ]);
  expect(counted.toSorted(([x], [y]) => Number(x) - Number(y))).toEqual([
    [0, 8, '10.0.0.1', 13],
    [7, 0, '10.0.0.1', 3],
  ]);
  expect((await gate.status()).shunted.pkts).toBe(16);
});
