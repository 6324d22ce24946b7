import { expect } from 'vitest';
import { createFlowEngine } from '../../src/flow/index.ts';
import { coarseStep, realtimeOffset } from '../../src/kernel/index.ts';
import { eth, type PacketBuilder } from '../../src/packet/build.ts';
import { Packet } from '../../src/packet/packet.ts';
import { Shunter } from '../../src/sensor/shunter.ts';
import { TestGate, XDP_DROP, XDP_PASS } from '../gate/support.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';

ownNetns();

const TURNS = 20;
const PORTS = { sport: 5000, dport: 6000 };
const v4 = () => eth().ipv4({ src: '10.0.0.1', dst: '10.0.0.2' });
const v6 = () => eth().ipv6({ src: '2001:db8::1', dst: '2001:db8::2' });
const other = (protocol: number) => eth().ipv4({ src: '10.0.0.1', dst: '10.0.0.2', protocol });
const ROUND = { ...PORTS, window: 100 };
const BACK = { sport: 6000, dport: 5000, window: 100 };

/** A sensor's shunter over a gate, with made-up packets in place of a ring; asked to shunt the connection of these. */
async function requestFor(gate: TestGate, ...frames: Uint8Array[]): Promise<{ live: number }> {
  const engine = createFlowEngine(
    { maxFlows: 1024, checksums: false },
    { beforePacket: () => {}, mayExpire: () => true, closed: () => {} },
  );
  let turn = 0;
  const shunter = new Shunter({
    engine,
    gate: gate.client,
    ring: {
      get sequence() {
        return turn;
      },
      openBlock: () => turn,
      position: 0,
      received: () => 0,
    },
    events: { started: () => {}, ended: () => {}, refused: () => {}, recovered: () => {}, late: () => {} },
    idle: 300,
    settleMs: 0,
    clockOffset: realtimeOffset,
    tick: coarseStep(),
    isLocal: () => false,
    trigger: () => 'BULK',
  });
  const packet = new Packet();
  packet.ts = Date.now() / 1000;
  let slot = -1;
  for (const frame of frames) {
    packet.u8 = frame;
    packet.caplen = packet.wirelen = frame.length;
    slot = engine.process(packet);
  }
  shunter.request(slot, 0, packet.ts);
  while (turn++ < TURNS) {
    shunter.turn();
    // A side that is silent is looked at again a grace period later.
    await gate.client.grace();
  }
  return shunter;
}

async function entriesOf(gate: TestGate): Promise<number> {
  return (await gate.client.sweep(4, () => {})) + (await gate.client.sweep(6, () => {}));
}

const shunted: [string, ...PacketBuilder[]][] = [
  [
    'TCP',
    v4().tcp({ ...ROUND, seq: 1, flags: 'S' }),
    eth()
      .ipv4({ src: '10.0.0.2', dst: '10.0.0.1' })
      .tcp({ ...BACK, seq: 7, ack: 2, flags: 'SA' }),
    v4().tcp({ ...ROUND, seq: 2, ack: 8, flags: 'A' }),
  ],
  [
    'TCP over IPv6',
    v6().tcp({ ...ROUND, seq: 1, flags: 'S' }),
    eth()
      .ipv6({ src: '2001:db8::2', dst: '2001:db8::1' })
      .tcp({ ...BACK, seq: 7, ack: 2, flags: 'SA' }),
    v6().tcp({ ...ROUND, seq: 2, ack: 8, flags: 'A' }),
  ],
  ['UDP', v4().udp(PORTS).payload('abc')],
  ['UDP over IPv6', v6().udp(PORTS).payload('abc')],
  ['ICMP echo', v4().icmp()],
  ['ICMP one way', v4().icmp({ type: 3, code: 1 })],
  ['ICMPv6 echo', v6().icmpv6()],
  ['ESP', other(50).payload('abcdefgh')],
  ['AH', other(51).payload('abcdefgh')],
];

for (const [name, ...packets] of shunted) {
  kernelTest(`the gate finds what the sensor has armed: ${name}`, [], async () => {
    using gate = new TestGate();
    const frames = packets.map((packet) => packet.bytes());
    const frame = frames.at(-1) as Uint8Array;
    expect(gate.run(frame)).toEqual({ action: XDP_PASS, verdict: 'passNoEntry' });
    expect((await requestFor(gate, ...frames)).live).toBe(1);
    expect(gate.run(frame)).toEqual({ action: XDP_DROP, verdict: 'shunted' });
  });
}

// The gate tells SCTP associations apart by their ports, which conn.log has none of (as in Zeek): one connection of the sensor
// may be many of the gate, so that its entry would be none of them.
const refused: [string, PacketBuilder][] = [
  ['SCTP', v4().sctp(PORTS).payload('abc')],
  ['SCTP over IPv6', v6().sctp(PORTS).payload('abc')],
  ['a protocol for experiments', other(253).payload('abcdefgh')],
];

for (const [name, packet] of refused) {
  kernelTest(`the sensor never arms ${name}`, [], async () => {
    using gate = new TestGate();
    const frame = packet.bytes();
    expect((await requestFor(gate, frame)).live).toBe(0);
    expect(await entriesOf(gate)).toBe(0);
    expect(gate.run(frame)).toEqual({ action: XDP_PASS, verdict: 'passNoEntry' });
  });
}
