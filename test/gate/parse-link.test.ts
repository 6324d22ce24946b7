import { expect } from 'vitest';
import { eth, type PacketBuilder } from '../../src/packet/build.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { gateKey, TestGate } from './support.ts';

ownNetns();

const A = { addr: '10.0.0.1', port: 1000 };
const B = { addr: '10.0.0.2', port: 443 };
const A6 = { addr: '2001:db8::1', port: 1000 };
const B6 = { addr: '2001:db8::2', port: 443 };
const flow4 = (outer: PacketBuilder) =>
  outer
    .ipv4({ src: A.addr, dst: B.addr })
    .tcp({ sport: A.port, dport: B.port, seq: 1, ack: 1, flags: 'A', window: 9 })
    .payload('12345');
const flow6 = (outer: PacketBuilder) =>
  outer
    .ipv6({ src: A6.addr, dst: B6.addr })
    .tcp({ sport: A.port, dport: B.port, seq: 1, ack: 1, flags: 'A', window: 9 })
    .payload('12345');
const labels = (count: number, outer = eth()): PacketBuilder =>
  Array.from({ length: count }, (_, i) => 16 + i).reduce((packet, label) => packet.mpls(label), outer);

const bytes = (packet: PacketBuilder, change: (frame: Uint8Array) => void): Uint8Array => {
  const frame = packet.bytes();
  change(frame);
  return frame;
};

for (const [name, frame, verdict] of [
  ['four labels behind four tags', flow6(labels(4, eth().vlan(1).vlan(2).vlan(3).vlan(4))), 'shunted'],
  // Bytes 14 on: version and type, code, session, length, PPP protocol.
  ['a discovery packet of PPPoE', bytes(flow4(eth().pppoe()), (f) => (f[15] = 0x09)), 'passNotIp'],
  ['another version of PPPoE', bytes(flow4(eth().pppoe()), (f) => (f[14] = 0x21)), 'passNotIp'],
  ['what is not IP behind a label', bytes(flow4(labels(1)), (f) => (f[18] = 0)), 'passNotIp'],
  ['an IPv4 header cut behind a label', flow4(labels(1)).bytes().slice(0, 30), 'passParse'],
] as const) {
  kernelTest(`${name}: ${verdict}`, ['xdpFrags', 'syscallProgram'], () => {
    using gate = new TestGate();
    for (const key of [gateKey(6, A, B), gateKey(6, A6, B6)]) gate.shunt(key, { seq: [1, 1], ack: [1, 1] });
    expect(gate.run(frame).verdict).toBe(verdict);
  });
}

kernelTest('a frame of several buffers counts whole', ['xdpFrags', 'syscallProgram'], () => {
  using gate = new TestGate();
  gate.shunt(gateKey(6, A, B), { seq: [1, 1], ack: [1, 1] });
  const long = eth()
    .ipv4({ src: A.addr, dst: B.addr })
    .tcp({ sport: A.port, dport: B.port, seq: 1, ack: 1, flags: 'A', window: 9 })
    .payload('x'.repeat(8900));
  // `run` holds the ledger against the length of the frame.
  expect(gate.run(long).verdict).toBe('shunted');
  expect(gate.read(gateKey(6, A, B))?.dirs[0]).toMatchObject({ pkts: 1, ipBytes: 8940, seq: 8901 });
  const arp = Uint8Array.from([...new Uint8Array(12), 8, 6, ...new Uint8Array(5000)]);
  expect(gate.run(arp).verdict).toBe('passNotIp');
});
