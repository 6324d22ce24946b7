import { expect } from 'vitest';
import { historyEvents } from '../../src/gate/entry.ts';
import { State } from '../../src/gate/layout.ts';
import { eth, type PacketBuilder } from '../../src/packet/build.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { gateKey, TestGate, XDP_DROP, XDP_PASS } from './support.ts';

// Two files at once may hold the loopback interface: each one of its own.
ownNetns();

const A = { addr: '10.0.0.1', port: 1000 };
const B = { addr: '10.0.0.2', port: 443 };
const key = gateKey(6, A, B);
const FEATURES = ['xdpFrags', 'syscallProgram'] as const;

function data(side: 0 | 1, seq: number, ack: number, payload: number, window = 100): PacketBuilder {
  const [from, to] = side === 0 ? [A, B] : [B, A];
  const packet = eth()
    .ipv4({ src: from.addr, dst: to.addr })
    .tcp({ sport: from.port, dport: to.port, seq: seq >>> 0, ack: ack >>> 0, flags: 'A', window });
  return payload > 0 ? packet.payload('x'.repeat(payload)) : packet;
}

kernelTest('counts what it drops, per direction, in IP bytes', [...FEATURES], () => {
  using gate = new TestGate();
  gate.shunt(key, { seq: [100, 900], ack: [900, 100] });
  for (let i = 0; i < 5; i++) expect(gate.run(data(0, 100 + i * 10, 900, 10)).action).toBe(XDP_DROP);
  for (let i = 0; i < 3; i++) expect(gate.run(data(1, 900, 150, 0)).action).toBe(XDP_DROP);
  const entry = gate.read(key);
  expect(entry?.dirs[0]).toMatchObject({ pkts: 5, ipBytes: 5 * 50, seq: 150, seqWraps: 0, ack: 900 });
  expect(entry?.dirs[1]).toMatchObject({ pkts: 3, ipBytes: 3 * 40, seq: 900, ack: 150 });
  expect(entry?.first).toBeGreaterThan(0);
});

kernelTest('an armed entry passes and tracks; the flip waits until it has caught up', [...FEATURES], () => {
  using gate = new TestGate();
  expect(gate.op('arm', key, { first: [100, 900], second: [900, 100] })).toBe(0);
  expect(gate.run(data(0, 100, 900, 50))).toEqual({ action: XDP_PASS, verdict: 'passArmed' });
  expect(gate.read(key)?.dirs[0]).toMatchObject({ pkts: 0, seq: 150, state: State.armed });
  // The worker has seen more than the gate: packets from before it was armed.
  expect(gate.op('flip', key, { first: [200, 900], second: [900, 100] })).toBe(-11);
  expect(gate.run(data(0, 150, 900, 50)).verdict).toBe('passArmed');
  expect(gate.op('flip', key, { first: [200, 900], second: [900, 100] })).toBe(0);
  expect(gate.run(data(0, 200, 900, 50)).verdict).toBe('shunted');
  expect(gate.read(key)?.dirs[0]).toMatchObject({ pkts: 1, seq: 250, state: State.shunt });
});

kernelTest('sequence numbers wrap and pass 4 GiB', [...FEATURES], () => {
  using gate = new TestGate();
  let seq = 0xffff_ff00;
  gate.shunt(key, { seq: [seq, 1], ack: [1, seq] });
  gate.run(data(0, seq, 1, 256));
  expect(gate.read(key)?.dirs[0]).toMatchObject({ seq: 0, seqWraps: 1 });
  // Steps of up to 2^31 - 1 are forward: nine of them are more than 4 GiB twice over.
  for (let i = 0; i < 9; i++) {
    seq = (seq + 256 * (i === 0 ? 1 : 0) + (i === 0 ? 0 : 0x4000_0000)) >>> 0;
    gate.run(data(0, seq, 1, 1));
  }
  expect(gate.read(key)?.dirs[0]).toMatchObject({ seq: 1, seqWraps: 3, pkts: 10 });
});

kernelTest(
  'history: retransmissions and zero windows in order, scaled once the base is known',
  [...FEATURES],
  () => {
    using gate = new TestGate();
    gate.shunt(key, { seq: [100, 900], ack: [900, 100] });
    gate.run(data(0, 100, 900, 10));
    gate.run(data(1, 900, 110, 0, 0));
    gate.run(data(0, 100, 900, 10));
    gate.run(data(0, 105, 900, 5));
    const base = { T: [8, 0] as [number, number], W: [0, 0] as [number, number] };
    const counts = structuredClone(base);
    let entry = gate.read(key);
    // D of side 0; A and W of side 1; two T, the 9th and 10th: the tenth is a letter.
    expect(historyEvents(entry as never, 0, base, counts)).toEqual([
      { letter: 'D', side: 0 },
      { letter: 'A', side: 1 },
      { letter: 'W', side: 1 },
      { letter: 'T', side: 0 },
    ]);
    const consumed = entry?.logLength ?? 0;
    expect(gate.op('base', key, { first: [8, 0], second: [0, 0] })).toBe(0);
    for (let i = 0; i < 89; i++) gate.run(data(0, 100, 900, 10));
    entry = gate.read(key);
    expect(entry?.logLength).toBe(consumed);
    gate.run(data(0, 100, 900, 10));
    entry = gate.read(key);
    expect(historyEvents(entry as never, consumed, base, counts)).toEqual([{ letter: 'T', side: 0 }]);
    expect(entry?.dirs[0].rexmits).toBe(92);
  },
);

kernelTest('a flood of retransmissions before the base is known loses no letter', [...FEATURES], () => {
  using gate = new TestGate();
  gate.shunt(key, { seq: [100, 900], ack: [900, 100] });
  gate.run(data(0, 100, 900, 10));
  for (let i = 0; i < 40; i++) expect(gate.run(data(0, 100, 900, 10)).action).toBe(XDP_DROP);
  const base = { T: [70, 0] as [number, number], W: [0, 0] as [number, number] };
  // 70 before and 40 now: the hundredth is one of those that were not logged.
  expect(historyEvents(gate.read(key) as never, 0, base, structuredClone(base))).toEqual([
    { letter: 'D', side: 0 },
    { letter: 'T', side: 0 },
  ]);
});

kernelTest('a full event log ends the shunt instead of losing order', [...FEATURES], () => {
  using gate = new TestGate();
  gate.shunt(key, { seq: [100, 900], ack: [900, 100] });
  let dropped = 0;
  // Every kind of event on both sides: 2 × (D, A, 10 T, 10 W) are more than the log holds.
  for (let i = 0; i < 12; i++) {
    for (const side of [0, 1] as const) {
      for (const payload of [0, 10]) {
        const packet = side === 0 ? data(0, 90, 900, payload, 0) : data(1, 890, 100, payload, 0);
        if (gate.run(packet).action === XDP_DROP) dropped++;
      }
    }
  }
  const entry = gate.read(key);
  expect(entry?.ending).toBe(true);
  expect(entry?.dirs[0].reason).toBe('log_full');
  expect(entry?.pkts).toBe(dropped);
  expect(entry?.logLength).toBe(32);
});

kernelTest('a lapsed lease passes everything and ends the shunt', [...FEATURES], () => {
  using gate = new TestGate();
  gate.shunt(key, { seq: [100, 900], ack: [900, 100] });
  expect(gate.run(data(0, 100, 900, 10)).verdict).toBe('shunted');
  gate.client.lease.drop();
  expect(gate.run(data(0, 110, 900, 10))).toEqual({ action: XDP_PASS, verdict: 'passLease' });
  gate.client.lease.renew();
  expect(gate.run(data(0, 120, 900, 10))).toEqual({ action: XDP_PASS, verdict: 'passEnding' });
  expect(gate.read(key)?.dirs[1]).toMatchObject({ state: State.ending, reason: 'lease' });
});

kernelTest('an idle limit that has passed ends the shunt at the next packet', [...FEATURES], async () => {
  using gate = new TestGate();
  gate.shunt(key, { owner: 0, idleMs: 150, seq: [100, 900], ack: [900, 100] });
  expect(gate.run(data(0, 100, 900, 10)).verdict).toBe('shunted');
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(gate.run(data(0, 110, 900, 10)).verdict).toBe('shunted');
  await new Promise((resolve) => setTimeout(resolve, 100));
  // The other direction has been quiet for longer than the limit, but the flow has not.
  expect(gate.run(data(1, 900, 120, 0)).verdict).toBe('shunted');
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(gate.run(data(0, 120, 900, 10))).toEqual({ action: XDP_PASS, verdict: 'passIdle' });
  expect(gate.read(key)?.dirs[0].reason).toBe('idle');
});

kernelTest('an entry needs a lease or a limit, and a key only once', [...FEATURES], () => {
  using gate = new TestGate({ maxShunts4: 2 });
  expect(gate.op('arm', key, { owner: 0, idleMs: 0 })).toBe(-22);
  expect(gate.op('arm', key, { owner: 0, idleMs: 10 })).toBe(0);
  expect(gate.op('arm', key, { owner: 0, idleMs: 10 })).toBe(-17);
  expect(gate.op('flip', gateKey(6, A, { ...B, port: 9 }))).toBe(-2);
  let full = 0;
  for (let port = 1; port < 8; port++)
    full = gate.op('arm', gateKey(6, { ...A, port }, B), { idleMs: 10, owner: 1 });
  expect(full).toBe(-7);
});

kernelTest('UDP: payload is summed from its lengths', [...FEATURES], () => {
  using gate = new TestGate();
  const udp = gateKey(17, A, B);
  gate.shunt(udp);
  for (const size of [10, 20, 30]) {
    gate.run(
      eth()
        .ipv4({ src: A.addr, dst: B.addr })
        .udp({ sport: A.port, dport: B.port })
        .payload('x'.repeat(size)),
    );
  }
  expect(gate.read(udp)?.dirs[0]).toMatchObject({ pkts: 3, ipBytes: 3 * 28 + 60, payloadBytes: 60 });
});
