import { expect } from 'vitest';
import { Exceptions } from '../../src/gate/exceptions.ts';
import { readLedger } from '../../src/gate/ledger.ts';
import { Ops } from '../../src/gate/ops.ts';
import { Pairs, PrefixPairs } from '../../src/gate/pairs.ts';
import { loadObject, membarrier, monotonic, possibleCpus } from '../../src/kernel/index.ts';
import { eth, type PacketBuilder } from '../../src/packet/build.ts';
import { bpfObject, kernelTest } from '../support/kernel.ts';
import { XDP_DROP, XDP_PASS } from './support.ts';

const FEATURES = ['xdpFrags', 'syscallProgram', 'membarrier'] as const;
const AB = { src: '10.0.0.1', dst: '192.168.0.1' };
const BA = { src: '192.168.0.1', dst: '10.0.0.1' };
const AB6 = { src: '2001:db8::1', dst: '2001:db8::2' };
const T = { sport: 1, dport: 2, flags: 'A', window: 10 };

function pairGate() {
  const object = loadObject(bpfObject('gate'), {
    constants: { cfg_pairs: 1, cfg_prefixes: 4 },
    mapSizes: { pairs: 16, prefixes: 4, ledger: possibleCpus() },
  });
  const ledgerMap = object.map('ledger');
  const ledger = new Uint32Array(
    ledgerMap.mmap(false),
    0,
    (ledgerMap.mappedStride / 4) * ledgerMap.maxEntries,
  );
  const ops = new Ops(object.program('sluice_ops'), object.map('ops').mmap(true), 0, 64);
  return {
    pairs: new Pairs(object.map('pairs'), ops, membarrier),
    prefixes: new PrefixPairs(object.map('prefixes'), ops, membarrier),
    exceptions: new Exceptions(object.map('exceptions')),
    run: (packet: PacketBuilder | Uint8Array): number =>
      object.program('sluice_gate').testRun({ data: packet instanceof Uint8Array ? packet : packet.bytes() })
        .retval,
    ledger: () => readLedger(ledger),
    [Symbol.dispose]: () => object.close(),
  };
}

const limit = (): number => monotonic() + 60;

kernelTest(
  'a pair holds back everything between two addresses, counted by direction',
  [...FEATURES],
  async () => {
    using gate = pairGate();
    expect(gate.pairs.add('192.168.0.1', '10.0.0.1', { limit: limit() })).toBe(true);
    expect(gate.pairs.add('10.0.0.1', '192.168.0.1', { limit: limit() })).toBe(false);
    const dropped: [string, PacketBuilder | Uint8Array][] = [
      ['TCP', eth().ipv4(AB).tcp(T)],
      [
        'SYN',
        eth()
          .ipv4(AB)
          .tcp({ ...T, flags: 'S' }),
      ],
      ['UDP', eth().ipv4(AB).udp().payload('x')],
      ['ICMP', eth().ipv4(AB).icmp()],
      ['SCTP', eth().ipv4(AB).sctp()],
      ['GRE', eth().ipv4(AB).gre().ipv4(BA).udp()],
      [
        'later fragment',
        eth()
          .ipv4({ ...AB, protocol: 17, fragment: { offset: 800, more: false } })
          .payload('x'),
      ],
      ['cut TCP header', eth().ipv4(AB).tcp(T).bytes().slice(0, 42)],
    ];
    for (const [name, packet] of dropped) expect(gate.run(packet), name).toBe(XDP_DROP);
    expect(gate.run(eth().ipv4(BA).tcp(T))).toBe(XDP_DROP);
    expect(gate.run(eth().ipv4({ src: '10.0.0.2', dst: '192.168.0.1' }).tcp(T))).toBe(XDP_PASS);
    const row = await gate.pairs.remove('10.0.0.1', '192.168.0.1');
    expect(row).toMatchObject({
      a: '10.0.0.1',
      b: '192.168.0.1',
      ab: { pkts: dropped.length },
      ba: { pkts: 1, ipBytes: 40 },
    });
    expect(gate.run(eth().ipv4(AB).tcp(T))).toBe(XDP_PASS);
    expect(gate.ledger()).toMatchObject({
      shunted: { pkts: dropped.length + 1 },
      seen: { pkts: dropped.length + 3 },
    });
  },
);

kernelTest('IPv6 pairs cover ICMPv6, fragments and extension headers', [...FEATURES], () => {
  using gate = pairGate();
  gate.pairs.add('2001:db8::1', '2001:db8::2', { limit: limit() });
  for (const packet of [
    eth().ipv6(AB6).tcp(T),
    eth().ipv6(AB6).icmpv6({ type: 135 }),
    eth().ipv6(AB6).hopByHop().udp(),
    eth().ipv6(AB6).fragment({ offset: 80, more: false, nextHeader: 17 }).payload('x'),
  ]) {
    expect(gate.run(packet)).toBe(XDP_DROP);
  }
});

kernelTest(
  'prefix pairs match either way round, exceptions win, limits end them',
  [...FEATURES],
  async () => {
    using gate = pairGate();
    const row = gate.prefixes.add('10.0.0.0/8', '192.168.0.0/16', { limit: limit() });
    gate.prefixes.add('2001:db8::/32', '2001:db8::2/128', { limit: limit() });
    expect(gate.run(eth().ipv4(AB).udp())).toBe(XDP_DROP);
    expect(gate.run(eth().ipv4(BA).udp())).toBe(XDP_DROP);
    expect(gate.run(eth().ipv6(AB6).udp())).toBe(XDP_DROP);
    expect(gate.run(eth().ipv4({ src: '11.0.0.1', dst: '192.168.0.1' }).udp())).toBe(XDP_PASS);
    gate.exceptions.add('10.0.0.0/24');
    expect(gate.exceptions.list()).toEqual(['10.0.0.0/24']);
    expect(gate.exceptions.covers(Uint8Array.of(10, 0, 0, 9))).toBe(true);
    expect(gate.run(eth().ipv4(AB).udp())).toBe(XDP_PASS);
    expect(gate.run(eth().ipv4({ src: '10.0.1.1', dst: '192.168.0.1' }).udp())).toBe(XDP_DROP);
    expect(gate.ledger().reasons.passException).toMatchObject({ pkts: 1 });
    expect(gate.exceptions.remove('10.0.0.7/24')).toBe(true);
    expect(gate.run(eth().ipv4(AB).udp())).toBe(XDP_DROP);
    expect(await gate.prefixes.remove(row)).toMatchObject({
      a: '10.0.0.0/8',
      ab: { pkts: 3 },
      ba: { pkts: 1 },
    });
    expect(gate.run(eth().ipv4(AB).udp())).toBe(XDP_PASS);
    gate.pairs.add(AB.src, AB.dst, { limit: monotonic() - 5 });
    expect(gate.run(eth().ipv4(AB).udp())).toBe(XDP_PASS);
    expect(() => gate.pairs.add('10.0.0.9', '10.0.0.8', {})).toThrow('time limit');
  },
);
