import { expect } from 'vitest';
import { TUNNEL_KINDS } from '../../src/base/tunnels.ts';
import { eth } from '../../src/packet/build.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { gateKey, TestGate, XDP_DROP, XDP_PASS } from './support.ts';

ownNetns();

const FEATURES = ['xdpFrags', 'syscallProgram'] as const;
const A = { addr: '2001:db8::1', port: 5000 };
const B = { addr: '2001:db8::2', port: 6000 };
const KEY = gateKey(17, A, B);
const ends = { src: A.addr, dst: B.addr };
const ports = { sport: A.port, dport: B.port };
const packet = eth().ipv6(ends).udp(ports).payload(100);
const TUNNELS = { kinds: TUNNEL_KINDS, inKey: false, ports: { vxlan: [4789], geneve: [6081] } };

kernelTest('headers behind long options are found, however long the frame', [...FEATURES], () => {
  using gate = new TestGate({ kind: 'socket' });
  gate.shunt(KEY);
  for (const options of [100, 180, 600, 1600])
    for (const payload of [0, 1000]) {
      const frame = eth().ipv6(ends).hopByHop(new Uint8Array(options)).udp(ports).payload(payload);
      const expected = { action: XDP_DROP, verdict: 'shunted' };
      expect(gate.run(frame), `${options} bytes of options, ${payload} of payload`).toEqual(expected);
    }
  // A frame that ends in its headers is cut wherever that is.
  for (const length of [60, 190, 250, 300]) {
    const frame = eth().ipv6(ends).hopByHop(new Uint8Array(250)).udp(ports).payload(10).bytes();
    expect(gate.run(frame.slice(0, length))).toEqual({ action: XDP_PASS, verdict: 'passParse' });
  }
});

kernelTest(
  'an XDP gate goes on as a socket filter, with its entries and what it looks into',
  [...FEATURES],
  () => {
    using gate = new TestGate({ tunnels: TUNNELS });
    gate.shunt(KEY);
    const inside = eth()
      .ipv4({ src: '192.0.2.1', dst: '192.0.2.2' })
      .udp({ sport: 9, dport: 4789 })
      .vxlan({ vni: 7 })
      .eth()
      .ipv6(ends)
      .udp(ports)
      .payload(100);
    const shunted = { action: XDP_DROP, verdict: 'shunted' };
    for (const each of [packet, inside]) expect(gate.run(each)).toEqual(shunted);
    expect(Object.keys(gate.gate.pins)).toEqual(
      expect.arrayContaining(['flows6', 'hook', 'next', 'scratch']),
    );
    gate.gate.becomeSocketFilter();
    expect(gate.gate.kind).toBe('socket');
    for (const each of [packet, inside]) expect(gate.run(each)).toEqual(shunted);
    expect(gate.read(KEY)?.dirs.map(({ pkts }) => pkts)).toEqual([4, 0]);
    expect(gate.gate.ledger().shunted.pkts).toBe(4);
    // A capture would not be put in: there is no hook to be found.
    expect(Object.keys(gate.gate.pins).filter((name) => ['hook', 'next', 'scratch'].includes(name))).toEqual(
      [],
    );
    // What is switched on later is in the filter too.
    gate.gate.enable({ pairs: true });
    for (const each of [packet, inside]) expect(gate.run(each)).toEqual(shunted);
  },
);
