import { expect } from 'vitest';
import type { Verdict } from '../../src/gate/layout.ts';
import { eth, type PacketBuilder } from '../../src/packet/build.ts';
import { describe as layers } from '../../src/packet/describe.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { type GateKey, gateKey, TestGate, XDP_DROP, XDP_PASS } from './support.ts';

// Two files at once may hold the loopback interface: each one of its own.
ownNetns();

const A = { addr: '10.0.0.1', port: 12345 };
const B = { addr: '192.168.0.1', port: 443 };
const A6 = { addr: '2001:db8::1', port: 12345 };
const B6 = { addr: '2001:db8::2', port: 443 };
const AB = { src: A.addr, dst: B.addr };
const BA = { src: B.addr, dst: A.addr };
const AB6 = { src: A6.addr, dst: B6.addr };
const T = { sport: A.port, dport: B.port, seq: 1000, ack: 5000, flags: 'A', window: 100 };
const BACK = { sport: B.port, dport: A.port, seq: 5000, ack: 1000, flags: 'A', window: 100 };
const U = { sport: A.port, dport: B.port };
const payload = 'x'.repeat(40);
/** Bytes that read as the flow's ports, where a careless parser would look for them. */
const spelled = Uint8Array.of(
  0x30,
  0x39,
  0x01,
  0xbb,
  0,
  0,
  3,
  0xe8,
  0,
  0,
  0,
  0,
  0x50,
  0x10,
  0,
  100,
  0,
  0,
  0,
  0,
);

const tcp4 = gateKey(6, A, B);
const tcp6 = gateKey(6, A6, B6);
const udp4 = gateKey(17, A, B);
const echo4 = gateKey(1, { addr: A.addr, port: 8 }, { addr: B.addr, port: 0 });
const echo6 = gateKey(58, { addr: A6.addr, port: 128 }, { addr: B6.addr, port: 129 });

interface Row {
  name: string;
  packet: PacketBuilder | Uint8Array;
  /** Shunted beforehand; default the TCP flow over IPv4. */
  key?: GateKey;
  verdict: Verdict;
}

function cut(packet: PacketBuilder, length: number): Uint8Array {
  return packet.bytes().slice(0, length);
}

const rows: Row[] = [
  { name: 'the flow', packet: eth().ipv4(AB).tcp(T).payload(payload), verdict: 'shunted' },
  { name: 'its other direction', packet: eth().ipv4(BA).tcp(BACK).payload(payload), verdict: 'shunted' },
  { name: 'a pure acknowledgement', packet: eth().ipv4(AB).tcp(T), verdict: 'shunted' },
  {
    name: 'SYN on the tuple',
    packet: eth()
      .ipv4(AB)
      .tcp({ ...T, flags: 'S' }),
    verdict: 'passClose',
  },
  {
    name: 'SYN+ACK on the tuple',
    packet: eth()
      .ipv4(BA)
      .tcp({ ...BACK, flags: 'SA' }),
    verdict: 'passClose',
  },
  {
    name: 'FIN',
    packet: eth()
      .ipv4(AB)
      .tcp({ ...T, flags: 'FA' }),
    verdict: 'passClose',
  },
  {
    name: 'FIN with payload',
    packet: eth()
      .ipv4(AB)
      .tcp({ ...T, flags: 'FA' })
      .payload(payload),
    verdict: 'passClose',
  },
  {
    name: 'RST',
    packet: eth()
      .ipv4(BA)
      .tcp({ ...BACK, flags: 'R' }),
    verdict: 'passClose',
  },
  {
    name: 'IPv4 options',
    packet: eth()
      .ipv4({ ...AB, options: Uint8Array.of(0x94, 4, 0, 0) })
      .tcp(T)
      .payload(payload),
    verdict: 'shunted',
  },
  {
    name: 'another flow whose IPv4 options spell the ports',
    packet: eth()
      .ipv4({ ...AB, options: spelled })
      .tcp({ ...T, sport: 1, dport: 2 })
      .payload(payload),
    verdict: 'passNoEntry',
  },
  {
    name: 'first fragment',
    packet: eth()
      .ipv4({ ...AB, protocol: 6, fragment: { offset: 0, more: true } })
      .payload(spelled),
    verdict: 'passFragment',
  },
  {
    name: 'later fragment whose payload spells the ports',
    packet: eth()
      .ipv4({ ...AB, protocol: 6, fragment: { offset: 1480, more: false } })
      .payload(spelled),
    verdict: 'passFragment',
  },
  {
    name: 'TCP header cut after 8 bytes',
    packet: cut(eth().ipv4(AB).tcp(T), 14 + 20 + 8),
    verdict: 'passParse',
  },
  { name: 'IPv4 header cut', packet: cut(eth().ipv4(AB).tcp(T), 14 + 12), verdict: 'passParse' },
  { name: 'one VLAN tag', packet: eth().vlan(100).ipv4(AB).tcp(T).payload(payload), verdict: 'shunted' },
  {
    name: 'priority tag',
    packet: eth().vlan(0, { prio: 5 }).ipv4(AB).tcp(T).payload(payload),
    verdict: 'shunted',
  },
  { name: 'QinQ', packet: eth().qinq(200).vlan(100).ipv4(AB).tcp(T).payload(payload), verdict: 'shunted' },
  {
    name: 'QinQ with outer 0x9100',
    packet: eth().vlan(200, { tpid: 0x9100 }).vlan(100).ipv4(AB).tcp(T).payload(payload),
    verdict: 'shunted',
  },
  {
    name: 'four tags',
    packet: eth().vlan(1).vlan(2).vlan(3).vlan(4).ipv4(AB).tcp(T).payload(payload),
    verdict: 'shunted',
  },
  {
    name: 'five tags',
    packet: eth().vlan(1).vlan(2).vlan(3).vlan(4).vlan(5).ipv4(AB).tcp(T),
    verdict: 'passParse',
  },
  { name: 'IPv6', packet: eth().ipv6(AB6).tcp(T).payload(payload), key: tcp6, verdict: 'shunted' },
  {
    name: 'IPv6 with hop-by-hop options',
    packet: eth().ipv6(AB6).hopByHop().tcp(T).payload(payload),
    key: tcp6,
    verdict: 'shunted',
  },
  {
    name: 'IPv6 with hop-by-hop, destination and routing headers',
    packet: eth().ipv6(AB6).hopByHop().destination().routing({ segmentsLeft: 0 }).tcp(T).payload(payload),
    key: tcp6,
    verdict: 'shunted',
  },
  {
    name: 'IPv6 with AH',
    packet: eth().ipv6(AB6).ah().tcp(T).payload(payload),
    key: tcp6,
    verdict: 'shunted',
  },
  {
    name: 'IPv6 first fragment',
    packet: eth().ipv6(AB6).fragment({ offset: 0, more: true, id: 1 }).tcp(T).payload(payload),
    key: tcp6,
    verdict: 'passFragment',
  },
  {
    name: 'IPv6 later fragment',
    packet: eth()
      .ipv6(AB6)
      .hopByHop()
      .fragment({ offset: 1480, more: false, id: 1, nextHeader: 6 })
      .payload(spelled),
    key: tcp6,
    verdict: 'passFragment',
  },
  { name: 'IPv6 header cut', packet: cut(eth().ipv6(AB6).tcp(T), 14 + 30), key: tcp6, verdict: 'passParse' },
  { name: 'UDP with the same ports', packet: eth().ipv4(AB).udp(U).payload(payload), verdict: 'passNoEntry' },
  { name: 'UDP', packet: eth().ipv4(AB).udp(U).payload(payload), key: udp4, verdict: 'shunted' },
  {
    name: 'UDP whose length is less than its header',
    packet: eth()
      .ipv4(AB)
      .udp({ ...U, length: 4 })
      .payload(payload),
    key: udp4,
    verdict: 'passParse',
  },
  {
    name: 'ICMP echo',
    packet: eth().ipv4(AB).icmp({ type: 8, code: 0 }).payload(payload),
    key: echo4,
    verdict: 'shunted',
  },
  {
    name: 'ICMP echo reply',
    packet: eth().ipv4(BA).icmp({ type: 0, code: 0 }).payload(payload),
    key: echo4,
    verdict: 'shunted',
  },
  {
    name: 'ICMP unreachable between the same hosts',
    packet: eth().ipv4(AB).icmp({ type: 3, code: 1 }).payload(payload),
    key: echo4,
    verdict: 'passNoEntry',
  },
  {
    name: 'ICMPv6 echo',
    packet: eth().ipv6(AB6).icmpv6({ type: 128, code: 0 }).payload(payload),
    key: echo6,
    verdict: 'shunted',
  },
  {
    name: 'SCTP',
    packet: eth().ipv4(AB).sctp({ sport: A.port, dport: B.port }).payload(payload),
    verdict: 'passNoEntry',
  },
  {
    name: 'ARP',
    packet: Uint8Array.from([...eth({ type: 0x0806 }).bytes(), ...new Uint8Array(46)]),
    verdict: 'passNotIp',
  },
  {
    name: 'GRE around the flow',
    packet: eth().ipv4(BA).gre().ipv4(AB).tcp(T).payload(payload),
    verdict: 'passOther',
  },
];

for (const { name, packet, key = tcp4, verdict } of rows) {
  kernelTest(`${name}: ${verdict}`, ['xdpFrags', 'syscallProgram'], () => {
    using gate = new TestGate();
    gate.shunt(key, key.tcp ? { seq: [1000, 5000], ack: [5000, 1000] } : {});
    const bytes = packet instanceof Uint8Array ? packet : packet.bytes();
    const got = gate.run(bytes);
    expect(got, layers(bytes)).toEqual({ action: verdict === 'shunted' ? XDP_DROP : XDP_PASS, verdict });
    const ended = verdict === 'passClose';
    expect(gate.read(key)?.ending).toBe(ended);
    // Counted exactly when it was dropped.
    expect(gate.read(key)?.pkts).toBe(verdict === 'shunted' ? 1 : 0);
  });
}

kernelTest('VLANs keep flows apart when they are in the key', ['xdpFrags', 'syscallProgram'], () => {
  using gate = new TestGate({ vlanKey: true });
  const seq: [number, number] = [1000, 5000];
  gate.shunt(gateKey(6, A, B, 100), { seq, ack: [5000, 1000] });
  gate.shunt(gateKey(6, A, B, 200, 100), { seq, ack: [5000, 1000] });
  const flow = (b: PacketBuilder): string => gate.run(b.ipv4(AB).tcp(T).payload(payload)).verdict;
  expect(flow(eth().vlan(100))).toBe('shunted');
  expect(flow(eth().vlan(100, { prio: 7 }))).toBe('shunted');
  expect(flow(eth().vlan(0).vlan(100))).toBe('shunted');
  expect(flow(eth().qinq(200).vlan(100))).toBe('shunted');
  expect(flow(eth().qinq(200).vlan(100).vlan(7))).toBe('shunted');
  // 116 differs from 100 in the high bits only, in which peers have lost ids.
  expect(flow(eth().vlan(116))).toBe('passNoEntry');
  expect(flow(eth())).toBe('passNoEntry');
  expect(flow(eth().qinq(100).vlan(200))).toBe('passNoEntry');
});
