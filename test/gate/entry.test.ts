import { expect } from 'vitest';
import { historyEvents } from '../../src/gate/entry.ts';
import { SlFlow } from '../../src/gate/layout.gen.ts';
import { State } from '../../src/gate/layout.ts';
import { BpfMap, monotonic } from '../../src/kernel/index.ts';
import { eth, type PacketBuilder } from '../../src/packet/build.ts';
import { kernelTest, ownNetns, until } from '../support/kernel.ts';
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

kernelTest(
  'what is missing below the highest sequence: where it begins, until data makes up for it',
  [...FEATURES],
  () => {
    using gate = new TestGate();
    gate.shunt(key, { seq: [100, 900], ack: [900, 100] });
    const edge = (...packets: [seq: number, bytes: number][]) => {
      for (const [seq, bytes] of packets) expect(gate.run(data(0, seq, 900, bytes)).action).toBe(XDP_DROP);
      return gate.read(key)?.dirs[0].edge;
    };
    expect(edge([100, 10], [110, 0])).toBe(-1);
    // 110 to 140 was lost; what is sent again moves the edge from its beginning on only.
    expect(edge([140, 0], [140, 0])).toBe(110);
    expect(edge([120, 10])).toBe(110);
    expect(edge([110, 10])).toBe(120);
    expect(edge([145, 0])).toBe(120);
    expect(edge([120, 25])).toBe(-1);
    // Data behind what is missing: where it is cannot be told any more.
    expect(edge([150, 0])).toBe(145);
    expect(edge([150, 10])).toBe(-1);
    expect(gate.read(key)?.dirs[0]).toMatchObject({ seq: 160, rexmits: 3 });
    expect(gate.read(key)?.dirs[1].edge).toBe(-1);
  },
);

kernelTest('what is missing may begin before a wrap of the sequence', [...FEATURES], () => {
  using gate = new TestGate();
  gate.shunt(key, { seq: [0xffff_fff0, 900], ack: [900, 100] });
  gate.run(data(0, 0x10, 900, 0));
  expect(gate.read(key)?.dirs[0]).toMatchObject({ edge: 0xffff_fff0, seq: 0x10, seqWraps: 1 });
});

kernelTest(
  'an armed entry passes and tracks; its synchronization begins beyond what gate and worker have seen',
  [...FEATURES],
  () => {
    using gate = new TestGate();
    expect(gate.op('arm', key, { first: [100, 900], second: [900, 100] })).toBe(0);
    expect(gate.run(data(0, 100, 900, 50))).toEqual({ action: XDP_PASS, verdict: 'passArmed' });
    expect(gate.read(key)?.dirs[0]).toMatchObject({ pkts: 0, seq: 150, state: State.armed });
    // The worker has seen more than the gate, packets from before it was armed, and less: the mark is beyond both.
    expect(gate.op('sync', key, { first: [200, 800], second: [900, 120] })).toBe(0);
    expect(gate.client.ops.marks(0, 0)).toEqual({ seq: 200, ack: 900 });
    expect(gate.client.ops.marks(0, 1)).toEqual({ seq: 900, ack: 120 });
    // A retransmission does not pass the mark and is counted; new data does pass it, and counting begins anew behind it.
    gate.run(data(0, 150, 900, 50));
    expect(gate.read(key)?.dirs[0]).toMatchObject({ synced: false, rexmits: 1 });
    expect(gate.read(key)?.dirs[1]).toMatchObject({ synced: false, rexmits: 0 });
    gate.run(data(0, 200, 900, 50, 0));
    expect(gate.read(key)?.dirs[0]).toMatchObject({
      synced: true,
      syncSeq: 250,
      syncAck: 900,
      rexmits: 0,
      zeroWindows: 0,
    });
    gate.run(data(0, 200, 900, 50, 0));
    expect(gate.read(key)?.dirs[0]).toMatchObject({ rexmits: 1, zeroWindows: 1, syncSeq: 250 });
    // An acknowledgement that advances passes the mark of a side that sends no data.
    gate.run(data(1, 900, 250, 0));
    expect(gate.read(key)?.dirs[1]).toMatchObject({ synced: true, syncSeq: 900, syncAck: 250 });
    expect(gate.op('flip', key, { first: [8, 0], second: [0, 0] })).toBe(0);
    expect(gate.run(data(0, 250, 900, 50)).verdict).toBe('shunted');
    expect(gate.read(key)?.dirs[0]).toMatchObject({ pkts: 1, seq: 300, state: State.shunt, rexmits: 9 });
    // 8 before, 1 while armed: the next one is the tenth.
    gate.run(data(0, 250, 900, 50));
    expect(historyEvents(gate.read(key) as never, 0)).toEqual([
      { letter: 'D', side: 0 },
      { letter: 'T', side: 0 },
    ]);
  },
);

kernelTest('a synchronization counts a wrap that only the worker has seen', [...FEATURES], () => {
  using gate = new TestGate();
  gate.op('arm', key, { first: [100, 0xffff_ff00], second: [0xffff_ff00, 100] });
  expect(gate.op('sync', key, { first: [100, 0x0000_0100], second: [0x0000_0100, 100] })).toBe(0);
  expect(gate.client.ops.marks(0, 0)).toEqual({ seq: 100, ack: 0x0000_0100 });
  expect(gate.client.ops.marks(0, 1)).toEqual({ seq: 0x0000_0100, ack: 100 });
  expect(gate.read(key)?.dirs[1]).toMatchObject({ seq: 0x0000_0100, seqWraps: 1 });
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
  'history: first events, retransmissions and zero windows in order, at 1, 10, 100',
  [...FEATURES],
  () => {
    using gate = new TestGate();
    gate.shunt(key, { seq: [100, 900], ack: [900, 100], rexmits: [8, 0] });
    gate.run(data(0, 100, 900, 10));
    gate.run(data(1, 900, 110, 0, 0));
    gate.run(data(0, 100, 900, 10));
    gate.run(data(0, 105, 900, 5));
    // D of side 0; A and W of side 1; two T, the 9th and 10th: the tenth is a letter.
    const letters = [
      { letter: 'D', side: 0 },
      { letter: 'A', side: 1 },
      { letter: 'W', side: 1 },
      { letter: 'T', side: 0 },
    ];
    expect(historyEvents(gate.read(key) as never, 0)).toEqual(letters);
    for (let i = 0; i < 89; i++) gate.run(data(0, 100, 900, 10));
    expect(gate.read(key)?.logLength).toBe(4);
    gate.run(data(0, 100, 900, 10));
    expect(historyEvents(gate.read(key) as never, 4)).toEqual([{ letter: 'T', side: 0 }]);
    expect(gate.read(key)?.dirs[0].rexmits).toBe(100);
  },
);

kernelTest('a full event log ends the shunt instead of losing order', [...FEATURES], () => {
  using gate = new TestGate();
  gate.shunt(key, { seq: [100, 900], ack: [900, 100] });
  // 31 letters take ten million retransmissions: put the entry there by hand.
  using map = BpfMap.openPinned(gate.gate.pins['flows4']);
  const value = new Uint8Array(map.valueBytes);
  map.get(key.bytes, value);
  new DataView(value.buffer).setUint32(SlFlow.members.log_len, 31, true);
  value.fill(0x11, SlFlow.members.log, SlFlow.members.log + 15);
  value[SlFlow.members.log + 15] = 0x01;
  map.set(key.bytes, value);
  expect(gate.run(data(0, 100, 900, 10)).verdict).toBe('shunted');
  expect(gate.run(data(0, 110, 900, 10)).verdict).toBe('passEnding');
  const entry = gate.read(key);
  expect(entry).toMatchObject({ ending: true, pkts: 1, logLength: 32 });
  expect(entry?.dirs[0].reason).toBe('log_full');
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

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

kernelTest('an idle limit that has passed ends the shunt at the next packet', [...FEATURES], async () => {
  using gate = new TestGate();
  // So long that a machine with other work is not late by it.
  const idleMs = 3000;
  gate.shunt(key, { idleMs, seq: [100, 900], ack: [900, 100] });
  expect(gate.run(data(0, 100, 900, 10)).verdict).toBe('shunted');
  await pause(0.55 * idleMs);
  expect(gate.run(data(0, 110, 900, 10)).verdict).toBe('shunted');
  await pause(0.55 * idleMs);
  // The other direction has been quiet for longer than the limit, but the flow has not.
  expect(gate.run(data(1, 900, 120, 0)).verdict).toBe('shunted');
  await pause(idleMs + 100);
  expect(gate.run(data(0, 120, 900, 10))).toEqual({ action: XDP_PASS, verdict: 'passIdle' });
  expect(gate.read(key)?.dirs[0].reason).toBe('idle');
});

kernelTest('an entry needs a lease or a limit, and a key only once', [...FEATURES], () => {
  using gate = new TestGate({ maxShunts4: 2 });
  expect(gate.op('arm', key, { owner: 0, idleMs: 10 })).toBe(-22);
  expect(gate.op('arm', key, { owner: 0, cookie: 4_000_000_000 })).toBe(0);
  expect(gate.op('arm', key, { owner: 0, cookie: 4_000_000_000 })).toBe(-17);
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

kernelTest(
  'made by hand: the first packet tells the sequence, and the time limit ends it',
  [...FEATURES],
  async () => {
    using gate = new TestGate();
    const limit = Math.floor(monotonic()) + 3;
    gate.shunt(key, { owner: 0, cookie: limit });
    expect(gate.run(data(0, 3_000_000_000, 7, 10)).verdict).toBe('shunted');
    expect(gate.run(data(0, 3_000_000_010, 7, 10)).verdict).toBe('shunted');
    expect(gate.read(key)?.dirs[0]).toMatchObject({
      pkts: 2,
      seq: 3_000_000_020,
      seqWraps: 0,
      ack: 7,
      rexmits: 0,
    });
    await until(() => monotonic() > limit + 1.1, 'time stands still');
    expect(gate.run(data(0, 3_000_000_020, 7, 10))).toEqual({ action: XDP_PASS, verdict: 'passLimit' });
    expect(gate.read(key)?.dirs[1].reason).toBe('limit');
  },
);
