import { expect } from 'vitest';
import { attachXdp, interfaceInfo, loadObject, PacketSender, xdpAttachment } from '../../src/kernel/index.ts';
import { eth } from '../../src/packet/build.ts';
import { bpfObject, ip, kernelTest, ownNetns, until, vethPair } from '../support/kernel.ts';
import { gateKey, TestGate } from './support.ts';

ownNetns();

const FEATURES = ['xdpFrags', 'syscallProgram', 'xdpLink', 'xdpNativeVeth'] as const;
const MODES = ['native', 'generic'] as const;
const A = { addr: '10.0.0.1', port: 5000 };
const B = { addr: '10.0.0.2', port: 6000 };
const key = gateKey(17, A, B);
const udp = (payload: number): Uint8Array =>
  eth().ipv4({ src: A.addr, dst: B.addr }).udp({ sport: A.port, dport: B.port }).payload(payload).bytes();

/** Sends the same frame so many times. */
function send(sender: PacketSender, frame: Uint8Array, times: number): void {
  const frames = new Uint8Array(frame.length * times);
  for (let i = 0; i < times; i++) frames.set(frame, i * frame.length);
  const offsets = Uint32Array.from({ length: times + 1 }, (_, i) => i * frame.length);
  expect(sender.send(frames, offsets)).toBe(times);
}

for (const theirs of MODES) {
  for (const ours of [...MODES, 'auto'] as const) {
    kernelTest(
      `a foreign program in ${theirs} mode is named, and stays when ours asks for ${ours}`,
      [...FEATURES],
      () => {
        const pair = vethPair();
        try {
          const { index: ifindex } = interfaceInfo(pair.a);
          using object = loadObject(bpfObject('lab_pass'));
          const [program] = object.programs.values();
          using link = attachXdp({ program, ifindex, mode: theirs });
          using gate = new TestGate({ ifname: pair.a, ifindex });
          let error: unknown;
          try {
            gate.gate.attach(ours);
          } catch (thrown) {
            error = thrown;
          }
          expect(error).toMatchObject({
            code: 'INTERFACE_BUSY',
            message: expect.stringContaining(`${program.name} (id ${program.id}), ${theirs} mode`),
          });
          expect(xdpAttachment(ifindex)).toEqual({ mode: theirs, programId: link.info().programId });
        } finally {
          pair.remove();
        }
      },
    );
  }
}

for (const modes of [
  ['native', 'native'],
  ['native', 'generic'],
] as const) {
  kernelTest(
    `two gates at once, ${modes.join(' and ')}, at MTU 9,000: each has its own tables and books`,
    [...FEATURES],
    async () => {
      const pairs = [vethPair(), vethPair()];
      for (const { a, b } of pairs) for (const name of [a, b]) ip(`link set ${name} mtu 9000`);
      const gates = pairs.map(({ a }) => new TestGate({ ifname: a, ifindex: interfaceInfo(a).index }));
      const senders = pairs.map(({ b }) => new PacketSender(b));
      try {
        for (const [n, gate] of gates.entries()) expect(gate.gate.attach(modes[n])[0].mode).toBe(modes[n]);
        // The same flow, shunted by the first one only; frames that fit one buffer, and some that need several.
        gates[0].shunt(key);
        for (let round = 0; round < 50; round++) {
          send(senders[round % 2], udp(100), 3);
          send(senders[1 - (round % 2)], udp(8900), 2);
        }
        const total = { pkts: 125, bytes: 25 * (3 * (42 + 100) + 2 * (42 + 8900)) };
        await until(
          () => gates.every(({ gate }) => gate.ledger().seen.pkts >= total.pkts),
          'not all frames have come',
        );
        const [first, second] = gates.map(({ gate }) => gate.ledger());
        // Half of each size went to each of them.
        expect(first).toMatchObject({ seen: total, shunted: total, passed: { pkts: 0, bytes: 0 } });
        expect(second).toMatchObject({ seen: total, shunted: { pkts: 0, bytes: 0 }, passed: total });
        expect(gates[0].read(key)).toMatchObject({ pkts: total.pkts });
        expect(gates[0].read(key)?.dirs[0].ipBytes).toBe(total.bytes - 14 * total.pkts);
        expect(gates[1].read(key)).toBeUndefined();
      } finally {
        for (const sender of senders) sender.close();
        for (const gate of gates) gate[Symbol.dispose]();
        for (const pair of pairs) pair.remove();
      }
    },
  );
}
