import { afterAll, describe, expect } from 'vitest';
import { fragmentsOf, packetOf, randomEnds, back as reversed } from '../../bench/fanout-frames.ts';
import { FlowBalancer, loadBalance, oneSidedPorts } from '../../src/capture/balance.ts';
import { FanoutCount } from '../../src/capture/fanout.ts';
import type { BpfObject } from '../../src/kernel/index.ts';
import { eth, PacketBuilder } from '../../src/packet/build.ts';
import type { Encapsulation } from '../../src/packet/encap/index.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import {
  addListener,
  DatagramSender,
  datagrams,
  familyOf,
  KINDS,
  type Numbered,
  openSockets,
  randomNumbers,
  received,
  withNumber,
} from './udp-support.ts';

ownNetns();
addListener();

const SOCKETS = 4;
const SEED = 0x1badcafe;
const PORTS = oneSidedPorts({ vxlan: [4789, 8472], geneve: [6081] });
const ETHERNET_BYTES = 14;

const vxlan: Encapsulation = { kind: 'vxlan', skip: 0, linkType: 1 };

/** The program; loaded when it is asked for first. */
class Chooser {
  readonly #encapsulation: Encapsulation;
  readonly #sockets: number;
  #object: BpfObject | undefined;

  constructor(encapsulation: Encapsulation, sockets = SOCKETS) {
    this.#encapsulation = encapsulation;
    this.#sockets = sockets;
  }

  get object(): BpfObject {
    return (this.#object ??= loadBalance(this.#encapsulation, this.#sockets, PORTS, SEED));
  }

  get program() {
    return this.object.program('sluice_reuseport');
  }

  /** A test run takes an Ethernet header off. */
  socket(datagram: Uint8Array): number {
    const data = new Uint8Array(ETHERNET_BYTES + datagram.length);
    data.set(datagram, ETHERNET_BYTES);
    return this.program.testRun({ data }).retval >>> 0;
  }

  /** First fragments, followed ones, unknown ones. */
  counts(): number[] {
    return Object.values(FanoutCount).map((what) => {
      const value = new BigUint64Array(1);
      this.object.map('counts').get(Uint8Array.of(what, 0, 0, 0), new Uint8Array(value.buffer));
      return Number(value[0]);
    });
  }

  [Symbol.dispose](): void {
    this.#object?.close();
  }
}

describe.each(KINDS)('$name', (kind) => {
  const chooser = new Chooser(kind.encapsulation);
  afterAll(() => chooser[Symbol.dispose]());

  kernelTest('both directions give one number, and flows spread', [], () => {
    const chosen = new Map<string, number>();
    const shares = Array.from({ length: SOCKETS }, () => 0);
    for (const [at, { flow, bytes }] of datagrams(kind, 2).entries()) {
      const number = chooser.socket(bytes);
      expect(number).toBeLessThan(SOCKETS);
      const key = `${familyOf(kind, at)} ${flow}`;
      const before = chosen.get(key);
      if (before === undefined) {
        chosen.set(key, number);
        shares[number]++;
      } else expect(number, key).toBe(before);
    }
    for (const share of shares) expect(share).toBeGreaterThan(chosen.size / SOCKETS / 3);
  });

  kernelTest('cut anywhere, it still chooses a socket', [], () => {
    const [{ bytes }] = datagrams(kind, 3);
    for (let length = 0; length < bytes.length; length++)
      expect(chooser.socket(bytes.subarray(0, length))).toBeLessThan(SOCKETS);
  });

  kernelTest('each flow reaches one socket, from random outer ports', [], async () => {
    const receivers = openSockets(SOCKETS);
    try {
      for (const receiver of receivers) receiver.balance(chooser.program);
      using sender = new DatagramSender(receivers[0].port);
      const random = randomNumbers(4);
      const all = datagrams(kind, 4);
      sender.send(
        all.map(({ bytes }) => bytes),
        () => 1024 + random(60_000),
      );
      const got = await received(receivers, all.length);
      for (const [index, flows] of got.entries())
        expect(flows).toEqual(
          all.filter(({ bytes }) => chooser.socket(bytes) === index).map(({ flow }) => flow),
        );
    } finally {
      for (const receiver of receivers) receiver.close();
    }
  });
});

const geneveAround = (packet: Uint8Array, protocol: number) =>
  new PacketBuilder()
    .geneve({ protocol, options: [{ class: 0x0108, type: 1, data: new Uint8Array(8) }] })
    .payload(packet)
    .bytes();

/** What the mirror puts around an Ethernet frame. */
const MIRRORS: { name: string; encapsulation: Encapsulation; wrap: (frame: Uint8Array) => Uint8Array }[] = [
  {
    name: 'VXLAN',
    encapsulation: vxlan,
    wrap: (frame) => new PacketBuilder().vxlan().payload(frame).bytes(),
  },
  {
    name: 'GENEVE with an option',
    encapsulation: { kind: 'geneve', skip: 0, linkType: -1 },
    wrap: (frame) => geneveAround(frame, 0x6558),
  },
  {
    name: 'GENEVE+VXLAN',
    encapsulation: { kind: 'geneve+vxlan', skip: 0, linkType: 1 },
    wrap: (frame) =>
      geneveAround(
        new PacketBuilder()
          .ipv6({ src: '2001:db8::1', dst: '2001:db8::2' })
          .udp({ sport: 1024, dport: 4789 })
          .vxlan()
          .payload(frame)
          .bytes(),
        0x86dd,
      ),
  },
  {
    name: 'raw behind 8 bytes',
    encapsulation: { kind: 'raw', skip: 8, linkType: 1 },
    wrap: (frame) => new PacketBuilder().payload(8).payload(frame).bytes(),
  },
];

describe.each(MIRRORS)('fragments in $name', ({ encapsulation, wrap }) => {
  kernelTest('reach the socket of their flow, in both directions', [], async () => {
    using chooser = new Chooser(encapsulation);
    const random = randomNumbers(5);
    const FLOWS = 100;
    const first: Numbered[] = [];
    const rest: Numbered[] = [];
    for (let flow = 0; flow < FLOWS; flow++) {
      const there = { ...randomEnds(random), protocol: 'udp' as const };
      const before = flow % 3 === 0 ? eth().vlan(7) : eth();
      const numbered = (frame: Uint8Array): Numbered => ({ flow, bytes: withNumber(wrap(frame), flow) });
      for (const [at, ends] of [there, reversed(there)].entries()) {
        const [head, ...others] = fragmentsOf(before, ends, 2 * flow + at, 1300).map(numbered);
        first.push(head);
        rest.push(...others, numbered(packetOf(before, ends).bytes()));
      }
    }
    const receivers = openSockets(SOCKETS);
    try {
      for (const receiver of receivers) receiver.balance(chooser.program);
      using sender = new DatagramSender(receivers[0].port);
      const sockets = new Map<number, number>();
      // Notes are there before what follows them comes.
      for (const part of [first, rest]) {
        sender.send(
          part.map(({ bytes }) => bytes),
          () => 1024 + random(60_000),
        );
        const got = await received(receivers, part.length);
        for (const [index, flows] of got.entries())
          for (const flow of flows) {
            expect(sockets.get(flow) ?? index, `flow ${flow}`).toBe(index);
            sockets.set(flow, index);
          }
      }
      for (let index = 0; index < SOCKETS; index++)
        expect([...sockets.values()].filter((socket) => socket === index).length).toBeGreaterThan(
          FLOWS / SOCKETS / 3,
        );
      expect(chooser.counts()).toEqual([2 * FLOWS, 4 * FLOWS, 0]);
    } finally {
      for (const receiver of receivers) receiver.close();
    }
  });
});

kernelTest('a fragment that comes before its first one goes by its addresses', [], () => {
  using chooser = new Chooser(vxlan);
  const random = randomNumbers(6);
  for (let id = 0; id < 40; id++) {
    const [head, tail] = fragmentsOf(eth(), randomEnds(random), id, 700).map(MIRRORS[0].wrap);
    const early = chooser.socket(tail);
    expect(early).toBeLessThan(SOCKETS);
    expect(chooser.socket(tail)).toBe(early);
    const own = chooser.socket(head);
    expect(chooser.socket(tail)).toBe(own);
  }
  expect(chooser.counts()).toEqual([40, 40, 80]);
});

kernelTest('what has no ports of its own goes by addresses, in both directions', [], () => {
  using chooser = new Chooser(vxlan, 64);
  const socket = (frame: PacketBuilder) => chooser.socket(MIRRORS[0].wrap(frame.bytes()));
  const [a, b] = ['10.1.2.3', '10.4.5.6'];
  const there = () => eth().ipv4({ src: a, dst: b });
  const back = () => eth().ipv4({ src: b, dst: a });
  expect(socket(there().icmp({ type: 8, id: 3 }))).toBe(socket(back().icmp({ type: 0, id: 3 })));
  expect(socket(there().gre().payload(20))).toBe(socket(back().gre().payload(20)));
  const inside = eth().ipv4().tcp({}).bytes();
  for (const port of [4789, 8472, 2152, 3544])
    expect(socket(there().udp({ sport: 40_001, dport: port }).vxlan().payload(inside)), `${port}`).toBe(
      socket(back().udp({ sport: 55_555, dport: port }).vxlan().payload(inside)),
    );
  const other = Array.from({ length: 8 }, (_, n) => socket(there().udp({ sport: 4000 + n, dport: 4788 })));
  expect(new Set(other).size).toBeGreaterThan(1);
});

kernelTest('what is not IP goes to the first socket', [], () => {
  using chooser = new Chooser(vxlan);
  for (let n = 0; n < 20; n++) {
    expect(
      chooser.socket(
        MIRRORS[0].wrap(
          eth({ type: 0x0806 })
            .payload(28 + n)
            .bytes(),
        ),
      ),
    ).toBe(0);
    const odd = eth({ type: 0x0800 }).payload(Uint8Array.of(0x50 | (n & 15), 0, 0, n));
    expect(chooser.socket(MIRRORS[0].wrap(odd.bytes()))).toBe(0);
  }
});

describe('where it can be had', () => {
  kernelTest('it is loaded and can be attached', [], () => {
    using balancer = new FlowBalancer('::1', vxlan, 2, PORTS);
    expect(balancer.problem).toBeUndefined();
    expect(balancer.program?.name).toBe('sluice_reuseport'.slice(0, 15));
  });

  kernelTest('else there is none, with a reason', [], () => {
    // Not an address of this host: nothing to attach it to.
    const balancer = new FlowBalancer('203.0.113.1', vxlan, 2, PORTS);
    expect(balancer.program).toBeUndefined();
    expect(balancer.problem?.code).toBe('ADDRESS_UNKNOWN');
  });
});
