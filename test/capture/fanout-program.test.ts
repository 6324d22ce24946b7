import * as fc from 'fast-check';
import { expect } from 'vitest';
import {
  back,
  fragmentsOf,
  packetOf,
  randomEnds,
  randomOf,
  TUNNELS,
  WRAPPERS,
} from '../../bench/fanout-frames.ts';
import { FanoutCount, type FanoutKey, loadFanout } from '../../src/capture/fanout.ts';
import type { BpfObject } from '../../src/kernel/index.ts';
import { eth, type PacketBuilder, pattern } from '../../src/packet/build.ts';
import { kernelTest } from '../support/kernel.ts';
import { fanoutHash, flowOf } from './fanout-oracle.ts';

const SEED = 0x1badcafe;
const FLOW: FanoutKey = { key: 'flow', inner: false, vlanKey: false };

/** As a fanout group calls it: the kernel takes the Ethernet header off first. */
class Balancer {
  readonly object: BpfObject;

  constructor(key: Partial<FanoutKey> = {}, seed = SEED) {
    this.object = loadFanout({ ...FLOW, ...key }, seed);
  }

  hash(frame: Uint8Array): number {
    return this.object.program('sluice_fanout').testRun({ data: frame }).retval >>> 0;
  }

  count(what: keyof typeof FanoutCount): number {
    const value = new BigUint64Array(1);
    this.object.map('counts').get(Uint8Array.of(FanoutCount[what], 0, 0, 0), new Uint8Array(value.buffer));
    return Number(value[0]);
  }

  [Symbol.dispose](): void {
    this.object.close();
  }
}

kernelTest('both directions give the number of the oracle, whatever is around them', [], () => {
  for (const key of ['flow', 'pair'] as const) {
    for (const vlanKey of [false, true]) {
      using balancer = new Balancer({ key, vlanKey });
      fc.assert(
        fc.property(fc.integer(), (seed) => {
          const random = randomOf(seed);
          const ends = randomEnds(random);
          const { wrap, vlans } = WRAPPERS[random(WRAPPERS.length)];
          const expected = fanoutHash(flowOf(ends, vlanKey ? vlans : []), SEED, key === 'pair');
          for (const way of [ends, back(ends)])
            expect(balancer.hash(packetOf(wrap(eth()), way, random(100)).bytes())).toBe(expected);
        }),
        { numRuns: 150 },
      );
    }
  }
});

kernelTest('IPv4 options and IPv6 extension headers do not change it', [], () => {
  using balancer = new Balancer();
  const addresses = { src: '10.1.2.3', dst: '10.4.5.6' };
  const six = { src: '2001:db8::1', dst: '2001:db8::2' };
  const ports = { sport: 4000, dport: 443 };
  const plain = balancer.hash(eth().ipv4(addresses).tcp(ports).bytes());
  expect(
    balancer.hash(
      eth()
        .ipv4({ ...addresses, options: pattern(8) })
        .tcp(ports)
        .bytes(),
    ),
  ).toBe(plain);
  expect(balancer.hash(eth().ipv4(addresses).ah().tcp(ports).bytes())).toBe(plain);
  const plain6 = balancer.hash(eth().ipv6(six).tcp(ports).bytes());
  for (const frame of [
    eth().ipv6(six).hopByHop(pattern(6)).tcp(ports),
    eth().ipv6(six).hopByHop().destination(pattern(20)).ah().tcp(ports),
    // RFC 6946: a fragment header on a whole datagram.
    eth().ipv6(six).fragment({ offset: 0, more: false, id: 1 }).tcp(ports),
  ])
    expect(balancer.hash(frame.bytes())).toBe(plain6);
  expect(balancer.count('first')).toBe(0);
});

kernelTest('fragments have the number of their flow', [], () => {
  for (const inner of [false, true]) {
    using balancer = new Balancer({ inner });
    const random = randomOf(7);
    let fragments = 0;
    for (let i = 0; i < 200; i++) {
      const ends = { ...randomEnds(random), protocol: 'udp' as const };
      const before = WRAPPERS[random(WRAPPERS.length)].wrap(eth());
      const expected = fanoutHash(flowOf(ends, []), SEED, false);
      expect(balancer.hash(packetOf(before, ends).bytes())).toBe(expected);
      for (const way of [ends, back(ends)]) {
        for (const frame of fragmentsOf(before, way, i, 1400)) {
          expect(balancer.hash(frame)).toBe(expected);
          fragments++;
        }
      }
    }
    expect(balancer.count('first')).toBe(400);
    expect(balancer.count('followed')).toBe(fragments - 400);
    expect(balancer.count('unknown')).toBe(0);
    // What comes before the first one goes by its addresses, and is counted.
    const ends = randomEnds(random);
    const [first, second] = fragmentsOf(eth(), ends, 9999, 1400);
    expect(balancer.hash(second)).toBe(fanoutHash(flowOf(ends, []), SEED, true));
    expect(balancer.count('unknown')).toBe(1);
    expect(balancer.hash(second)).not.toBe(balancer.hash(first));
  }
});

kernelTest('by pair of addresses, fragments need no notes', [], () => {
  using balancer = new Balancer({ key: 'pair' });
  const ends = randomEnds(randomOf(3));
  for (const frame of fragmentsOf(eth(), ends, 1, 2000).toReversed())
    expect(balancer.hash(frame)).toBe(fanoutHash(flowOf(ends, []), SEED, true));
  expect(balancer.count('first') + balancer.count('followed') + balancer.count('unknown')).toBe(0);
});

kernelTest('inside of tunnels: the number of the inner flow by choice, of the outer one without', [], () => {
  using outer = new Balancer();
  using inner = new Balancer({ inner: true });
  using pair = new Balancer({ inner: true, key: 'pair' });
  const random = randomOf(5);
  for (const { name, enter } of TUNNELS) {
    const seen = new Set<number>();
    for (let i = 0; i < 20; i++) {
      const ends = randomEnds(random);
      const expected = fanoutHash(flowOf(ends, []), SEED, false);
      const [there, here] = [ends, back(ends)].map((way, at) =>
        packetOf(enter(WRAPPERS[random(WRAPPERS.length)].wrap(eth()), at === 0), way).bytes(),
      );
      expect(inner.hash(there), name).toBe(expected);
      expect(inner.hash(here), name).toBe(expected);
      expect(pair.hash(there), name).toBe(fanoutHash(flowOf(ends, []), SEED, true));
      seen.add(outer.hash(there));
    }
    // One family of the inner packets, one outer flow.
    expect(seen.size, name).toBeLessThanOrEqual(2);
  }
});

const on = (dport: number): PacketBuilder =>
  eth().ipv4({ src: '192.0.2.1', dst: '192.0.2.2' }).udp({ sport: 5000, dport });

kernelTest('tunnels are on the ports that are named, and on no others', [], () => {
  const tunnelPorts = { vxlan: [8472, 4790], geneve: [] };
  using inner = new Balancer({ inner: true, tunnelPorts });
  const ends = randomEnds(randomOf(7));
  const expected = fanoutHash(flowOf(ends, []), SEED, false);
  const hashOf = (outer: PacketBuilder): number => inner.hash(packetOf(outer.eth(), ends).bytes());
  for (const port of tunnelPorts.vxlan) expect(hashOf(on(port).vxlan({ vni: 1 }))).toBe(expected);
  for (const outer of [on(4789).vxlan({ vni: 1 }), on(6081).geneve({ vni: 1 }), on(0).vxlan({ vni: 1 })])
    expect(hashOf(outer)).not.toBe(expected);
});

kernelTest('fragments of tunnel packets follow the inner flow, and inner fragments theirs', [], () => {
  using balancer = new Balancer({ inner: true });
  const random = randomOf(11);
  for (let i = 0; i < 50; i++) {
    const ends = { ...randomEnds(random), protocol: 'udp' as const };
    const expected = fanoutHash(flowOf(ends, []), SEED, false);
    const tunnel = TUNNELS[random(TUNNELS.length)];
    for (const frame of fragmentsOf(tunnel.enter(eth(), true), ends, i, 1400))
      expect(balancer.hash(frame), tunnel.name).toBe(expected);
    // The tunnel's own datagram in pieces: only the first shows what is inside.
    const carried = packetOf(TUNNELS[0].enter(eth(), true), ends, 1000).bytes();
    const datagram = carried.subarray(14 + 20);
    for (let offset = 0; offset < datagram.length; offset += 400) {
      const frame = eth()
        .ipv4({
          src: '192.0.2.1',
          dst: '192.0.2.2',
          id: 20_000 + i,
          protocol: 17,
          fragment: { offset, more: offset + 400 < datagram.length },
        })
        .payload(datagram.slice(offset, offset + 400));
      expect(balancer.hash(frame.bytes())).toBe(expected);
    }
  }
  expect(balancer.count('unknown')).toBe(0);
});

kernelTest('cut and mutilated frames have a number too', [], () => {
  using balancer = new Balancer({ inner: true, vlanKey: true });
  fc.assert(
    fc.property(fc.integer(), (seed) => {
      const random = randomOf(seed);
      const before = WRAPPERS[random(WRAPPERS.length)].wrap(eth());
      const ends = randomEnds(random);
      const frame = packetOf(TUNNELS[random(TUNNELS.length)].enter(before, random(2) === 0), ends).bytes();
      for (let i = random(4); i > 0; i--) frame[12 + random(frame.length - 12)] = random(256);
      // A test run wants a whole IP header behind the Ethernet header.
      const type = (frame[12] << 8) | frame[13];
      const least = type === 0x0800 ? 34 : type === 0x86dd ? 54 : 14;
      balancer.hash(frame.subarray(0, least + random(frame.length - least + 1)));
    }),
    { numRuns: 1500 },
  );
});

kernelTest('numbers are spread evenly, and another seed gives others', [], () => {
  const random = randomOf(1);
  const frames = Array.from({ length: 4000 }, (_, i) =>
    // One server, one port, as an attacker or a proxy has it.
    packetOf(
      eth(),
      {
        family: 4,
        client: [`10.0.${i >> 8}.${i & 255}`, 1024 + random(4)],
        server: ['10.9.9.9', 443],
        protocol: 'tcp',
      },
      0,
    ).bytes(),
  );
  using one = new Balancer();
  using other = new Balancer({}, 2);
  for (const rings of [2, 3, 4, 7]) {
    const shares = Array.from({ length: rings }, () => 0);
    for (const frame of frames) shares[one.hash(frame) % rings]++;
    for (const share of shares) expect(share / (frames.length / rings)).toBeGreaterThan(0.85);
  }
  expect(frames.filter((frame) => one.hash(frame) === other.hash(frame)).length).toBeLessThan(5);
});
