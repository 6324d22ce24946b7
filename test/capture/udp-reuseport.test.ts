import { describe, expect, it } from 'vitest';
import { oneSidedPorts } from '../../src/capture/balance.ts';
import { balanceProgram } from '../../src/capture/reuseport.ts';
import { encodeCbpf, interpretCbpf } from '../../src/ebpf/index.ts';
import { eth, PacketBuilder } from '../../src/packet/build.ts';
import { Decapsulator } from '../../src/packet/encap/index.ts';
import { Packet } from '../../src/packet/packet.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import {
  addListener,
  DatagramSender,
  datagrams,
  familyOf,
  KINDS,
  openSockets,
  randomNumbers,
  received,
} from './udp-support.ts';

ownNetns();
addListener();

const SOCKETS = 4;

const PORTS = oneSidedPorts({ vxlan: [4789], geneve: [6081] });

describe.each(KINDS)('$name', (kind) => {
  const program = balanceProgram(kind.encapsulation, SOCKETS, PORTS);

  it('what it is tested with is what the source takes frames out of', () => {
    const decapsulator = new Decapsulator(kind.encapsulation);
    const packet = new Packet();
    for (const { bytes } of datagrams(kind, 1)) {
      packet.u8 = bytes;
      packet.offset = 0;
      packet.caplen = bytes.length;
      packet.wirelen = bytes.length;
      expect(decapsulator.open(packet)).toBe(true);
    }
  });

  it('both directions give one number, and flows spread', () => {
    const chosen = new Map<string, number>();
    const shares = Array.from({ length: SOCKETS }, () => 0);
    for (const [at, { flow, bytes }] of datagrams(kind, 2).entries()) {
      const number = interpretCbpf(program, bytes);
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

  it('cut anywhere, it still chooses a socket', () => {
    const [{ bytes }] = datagrams(kind, 3);
    for (let length = 0; length < bytes.length; length++)
      expect(interpretCbpf(program, bytes.subarray(0, length))).toBeLessThan(SOCKETS);
  });

  kernelTest('in the kernel each flow reaches one socket, from random outer ports', [], async () => {
    const receivers = openSockets(SOCKETS);
    try {
      receivers[1].balance(encodeCbpf(program));
      using sender = new DatagramSender(receivers[0].port);
      const random = randomNumbers(4);
      const all = datagrams(kind, 4);
      sender.send(
        all.map(({ bytes }) => bytes),
        () => 1024 + random(60_000),
      );
      const got = await received(receivers, all.length);
      expect(got.flat()).toHaveLength(all.length);
      // The kernel's choice is the interpreter's.
      for (const [index, flows] of got.entries()) {
        const expected = all
          .filter(({ bytes }) => interpretCbpf(program, bytes, { dialect: 'kernel' }) === index)
          .map(({ flow }) => flow);
        expect(flows).toEqual(expected);
      }
    } finally {
      for (const receiver of receivers) receiver.close();
    }
  });
});

describe('what has no ports of its own', () => {
  const encapsulation = { kind: 'vxlan', skip: 0, linkType: 1 } as const;
  const program = balanceProgram(encapsulation, 64, PORTS);
  const socket = (frame: Uint8Array) =>
    interpretCbpf(program, new PacketBuilder().vxlan().payload(frame).bytes());
  const [a, b] = ['10.1.2.3', '10.4.5.6'];
  const there = eth().ipv4({ src: a, dst: b });
  const back = eth().ipv4({ src: b, dst: a });

  it('all fragments of a pair of addresses stay together', () => {
    const first = (id: number) =>
      eth()
        .ipv4({ src: a, dst: b, id, fragment: { offset: 0, more: true } })
        .udp({ sport: 1000 + id, dport: 53 })
        .payload(24);
    const later = eth()
      .ipv4({ src: b, dst: a, protocol: 17, fragment: { offset: 64, more: false } })
      .payload(40);
    const chosen = new Set([first(1), first(2), first(3), later].map((packet) => socket(packet.bytes())));
    expect(chosen.size).toBe(1);
    const six = eth().ipv6({ src: '2001:db8::1', dst: '2001:db8::2' });
    const parts = [
      six.fragment({ offset: 0, more: true, id: 1 }).udp({ sport: 7, dport: 9 }).payload(32),
      six.fragment({ offset: 64, more: false, id: 1, nextHeader: 17 }).payload(32),
    ];
    expect(new Set(parts.map((packet) => socket(packet.bytes()))).size).toBe(1);
  });

  it('ICMP, SCTP and GRE by addresses, in both directions', () => {
    expect(socket(there.icmp({ type: 8, id: 3 }).bytes())).toBe(
      socket(back.icmp({ type: 0, id: 3 }).bytes()),
    );
    expect(socket(there.sctp({ sport: 1, dport: 2 }).bytes())).toBe(
      socket(back.sctp({ sport: 9, dport: 8 }).bytes()),
    );
    expect(socket(there.gre().payload(20).bytes())).toBe(socket(back.gre().payload(20).bytes()));
  });

  it('a tunnel in the mirrored traffic by its ends: its outer ports need not be symmetric', () => {
    const inside = eth().ipv4().tcp({}).bytes();
    const chosen = [
      there.udp({ sport: 40_001, dport: 4789 }).vxlan().payload(inside),
      back.udp({ sport: 55_555, dport: 4789 }).vxlan().payload(inside),
    ].map((packet) => socket(packet.bytes()));
    expect(new Set(chosen).size).toBe(1);
  });

  it('what is not IP goes to the first socket', () => {
    expect(socket(eth({ type: 0x0806 }).payload(28).bytes())).toBe(0);
    expect(
      socket(
        eth({ type: 0x0800 })
          .payload(Uint8Array.of(0x55, 0, 0, 0))
          .bytes(),
      ),
    ).toBe(0);
  });
});

it('programs are far below the limit of classic BPF', () => {
  for (const { encapsulation } of KINDS)
    expect(balanceProgram(encapsulation, 2, PORTS).length).toBeLessThan(700);
});

kernelTest('IPv6 listeners, and a number without a socket falls back to the kernel’s hash', [], async () => {
  const receivers = openSockets(2, '::1');
  try {
    // Always the tenth of two.
    receivers[0].balance(encodeCbpf([{ code: 0x06, jt: 0, jf: 0, k: 9 }]));
    using sender = new DatagramSender(receivers[0].port);
    const frames = Array.from({ length: 64 }, (_, n) =>
      eth({ dst: '00:00:00:00:00:00' })
        .ipv6({ src: '::1', dst: '::1' })
        .udp({ sport: 2000 + n, dport: receivers[0].port })
        .payload(8)
        .bytes(),
    );
    sender.sendFrames(frames);
    const got = await received(receivers, 64);
    expect(got[0].length).toBeGreaterThan(0);
    expect(got[1].length).toBeGreaterThan(0);
    expect(() => receivers[0].balance(new Uint8Array(8).fill(0xff))).toThrow(/EINVAL/);
  } finally {
    for (const receiver of receivers) receiver.close();
  }
});
