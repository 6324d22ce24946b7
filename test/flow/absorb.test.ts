import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ShuntEvent, Side, SideDelta } from '../../src/flow/index.ts';
import { eth } from '../../src/packet/build.ts';
import { seeded } from '../../src/packet/conversation.ts';
import { CLIENT_SIDE, comparable, Harness, handshake, noDelta, segment } from './support/harness.ts';
import { impairedTalk, isMissing, type Talk } from './support/impaired.ts';
import { frameOf, ReferenceGate, type Step, sideStates } from './support/reference-gate.ts';

/** An established connection with data both ways, retransmissions and closed windows; each segment is acknowledged. */
function steps(
  plan: readonly (readonly [Side, number, number])[],
  clientSeq: number,
  serverSeq: number,
): Step[] {
  const next: [number, number] = [(clientSeq + 1) >>> 0, (serverSeq + 1) >>> 0];
  const sent: Step[][] = [[], []];
  const out: Step[] = [];
  let ts = 10;
  const add = (step: Omit<Step, 'ts'>) => {
    ts += 0.01;
    const whole = { ...step, ts };
    out.push(whole);
    return whole;
  };
  for (const [side, bytes, kind] of plan) {
    const other = (1 - side) as Side;
    const again = sent[side].at(-1);
    if (kind === 0 && again !== undefined) {
      add({ ...again, ack: next[other] });
    } else {
      const window = kind === 1 ? 0 : 8000;
      const step = { side, flags: 'PA', seq: next[side], ack: next[other], bytes, window };
      sent[side].push(add(step));
      next[side] = (next[side] + bytes) >>> 0;
    }
    if (kind !== 2)
      add({
        side: other,
        flags: 'A',
        seq: next[other],
        ack: next[side],
        bytes: 0,
        window: kind === 3 ? 0 : 9000,
      });
  }
  return out;
}

function openings(clientSeq: number, serverSeq: number): Step[] {
  const c1 = (clientSeq + 1) >>> 0;
  const s1 = (serverSeq + 1) >>> 0;
  const base = { bytes: 0, window: 8000 };
  return [
    { ...base, side: 0, flags: 'S', seq: clientSeq, ack: 0, ts: 1 },
    { ...base, side: 1, flags: 'SA', seq: serverSeq, ack: c1, ts: 1.1 },
    { ...base, side: 0, flags: 'A', seq: c1, ack: s1, ts: 1.2 },
  ];
}

const plan = fc.array(
  fc.tuple(fc.constantFrom<Side>(0, 1), fc.integer({ min: 1, max: 1400 }), fc.integer({ min: 0, max: 8 })),
  { minLength: 4, maxLength: 60 },
);
const sequence = fc.oneof(
  fc.integer({ min: 0, max: 0xffffffff }),
  fc.integer({ min: 0xffffffff - 20_000, max: 0xffffffff }),
);

/** The record of these segments, none of which is dropped. */
function wholeRecord(all: readonly Step[]): ReturnType<typeof comparable> {
  const harness = new Harness();
  for (const step of all) harness.feed(frameOf(step), step.ts);
  return comparable(harness.only());
}

describe('absorbing what the gate dropped gives the record that the packets would have given', () => {
  test.each(['fin', 'rst', 'none'])('TCP, ended by %s', (ending) => {
    fc.assert(
      fc.property(
        plan,
        sequence,
        sequence,
        fc.nat(1000),
        fc.nat(1000),
        fc.nat(3),
        (list, c, s, a, b, more) => {
          const middle = steps(list, c, s);
          const from = Math.min(a, b) % middle.length;
          const to = from + 1 + (Math.max(a, b) % (middle.length - from));
          const lastOf = (side: Side) => middle.findLast((step) => step.side === side);
          const end = (side: Side) => {
            const sum = middle
              .filter((step) => step.side === side)
              .map((step) => (step.seq + step.bytes) >>> 0);
            const start = side === 0 ? c + 1 : s + 1;
            return sum.reduce((best, seq) => (((seq - best) | 0) > 0 ? seq : best), start >>> 0);
          };
          const ts = (lastOf(0)?.ts ?? 10) + (lastOf(1)?.ts ?? 10);
          const flags = ending === 'fin' ? 'FA' : 'RA';
          const base = { bytes: 0, window: 8000 };
          const closing: Step[] = [];
          if (ending !== 'none') closing.push({ ...base, side: 0, flags, seq: end(0), ack: end(1), ts });
          if (ending === 'fin') {
            closing.push({ ...base, side: 1, flags, seq: end(1), ack: end(0) + 1, ts: ts + 0.1 });
            closing.push({ ...base, side: 0, flags: 'A', seq: end(0) + 1, ack: end(1) + 1, ts: ts + 0.2 });
          }
          const all = [...openings(c, s), ...middle, ...closing];
          const parts = new Harness();
          let slot = -1;
          let gate: ReferenceGate | undefined;
          const first = all.indexOf(middle[from]);
          const last = first + (to - from);
          for (const [index, step] of all.entries()) {
            if (index === first) {
              if (!parts.engine.isShuntable(slot)) return;
              gate = new ReferenceGate(sideStates(parts, slot));
            }
            // Taken over in one piece, or in several.
            if (gate !== undefined && (index === last || (more > 0 && index % (more + 1) === 0))) {
              parts.engine.absorb(slot, gate.sides, gate.events);
              gate = index === last ? undefined : new ReferenceGate(sideStates(parts, slot));
            }
            if (index >= first && index < last) gate?.drop(step);
            else slot = parts.feed(frameOf(step), step.ts);
          }
          if (gate !== undefined) parts.engine.absorb(slot, gate.sides, gate.events);
          expect(comparable(parts.only())).toEqual(wholeRecord(all));
        },
      ),
      { numRuns: 300 },
    );
  });

  test.each(['udp', 'icmp'])('%s', (proto) => {
    const frames = (out: boolean, bytes: number) => {
      const [src, dst] = out ? ['10.0.0.1', '10.0.0.9'] : ['10.0.0.9', '10.0.0.1'];
      const ip = eth().ipv4({ src, dst });
      if (proto === 'icmp') return ip.icmp({ type: out ? 8 : 0 }).payload(bytes);
      return ip.udp(out ? { sport: 1, dport: 2 } : { sport: 2, dport: 1 }).payload(bytes);
    };
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.boolean(), fc.nat(900)), { minLength: 2, maxLength: 30 }),
        fc.nat(30),
        (list, cut) => {
          const whole = new Harness();
          const parts = new Harness();
          const sides: [SideDelta, SideDelta] = [noDelta(), noDelta()];
          const kept = 1 + (cut % (list.length - 1));
          let slot = -1;
          const events: ShuntEvent[] = [];
          for (const [index, [out, bytes]] of list.entries()) {
            const ts = 1 + index;
            whole.feed(frames(out, bytes), ts);
            if (index < kept) {
              slot = parts.feed(frames(out, bytes), ts);
              continue;
            }
            const side: Side = out ? 0 : 1;
            const delta = sides[side];
            if (delta.pkts === 0) events.push({ letter: 'D', side });
            delta.pkts++;
            delta.ipBytes += 28 + bytes;
            delta.payloadBytes += bytes;
            delta.last = ts;
          }
          parts.engine.absorb(slot, sides, events);
          expect(comparable(parts.only())).toEqual(comparable(whole.only()));
        },
      ),
      { numRuns: 200 },
    );
  });
});

/** The record of these segments, of which the gate drops those from `first` on, until one of them ends the shunt at `last`. */
function shuntedRecord(all: readonly Step[], first: number, last: number): ReturnType<typeof comparable> {
  const harness = new Harness();
  let slot = -1;
  let gate: ReferenceGate | undefined;
  for (const [index, step] of all.entries()) {
    if (index === first) gate = new ReferenceGate(sideStates(harness, slot));
    if (gate !== undefined && index === last) {
      harness.engine.absorb(slot, gate.sides, gate.events);
      gate = undefined;
    }
    if (gate === undefined) slot = harness.feed(frameOf(step), step.ts);
    else gate.drop(step);
  }
  return comparable(harness.only());
}

test('a bad link: what it lost before the end is still missing at the end', () => {
  const [client, server] = [1000, 5000];
  let compared = 0;
  for (let seed = 1; seed <= 3000; seed++) {
    const luck = seeded(seed);
    const talk = (): Talk => ({
      sends: Array.from({ length: 1 + Math.floor(luck() * 6) }, () => [
        luck() < 0.3 ? 24 : 1 + Math.floor(luck() * 1400),
        luck() < 0.5 ? 0 : luck() * 0.1,
      ]),
      closes: luck() < 0.5 ? 0 : luck() * 0.3,
      waitsForPeer: luck() < 0.5,
    });
    const talks = [talk(), talk()] as const;
    if (talks[0].waitsForPeer && talks[1].waitsForPeer) talks[1].waitsForPeer = false;
    const all = [...openings(client, server), ...impairedTalk(talks, [client, server], luck, 0.05)];
    const first = 3 + Math.floor(luck() * (all.length - 3));
    const last = all.findIndex((step, i) => i >= first && step.flags.includes('F'));
    if (last < 0 || all.slice(0, first).some(({ flags }) => flags.includes('F'))) continue;
    // A hole from before the shunt, or one with more behind it, is in no count of the gate.
    const before = new Harness();
    let slot = -1;
    for (const step of all.slice(0, last)) slot = before.feed(frameOf(step), step.ts);
    if (isMissing(all.slice(0, first)) || !before.engine.isShuntable(slot)) continue;
    compared++;
    expect(shuntedRecord(all, first, last), `seed ${seed}`).toEqual(wholeRecord(all));
  }
  expect(compared).toBeGreaterThan(1000);
});

const at = (ts: number, side: Side, flags: string, seq: number, ack: number, bytes = 0): Step => ({
  ts,
  side,
  flags,
  seq: (side === 0 ? 1000 : 5000) + seq,
  ack: (side === 0 ? 5000 : 1000) + ack,
  bytes,
  window: 8000,
});

test('the FIN of one side is lost; its acknowledgement of the other side’s, which is dropped, shows so', () => {
  const all = [
    ...openings(1000, 5000),
    at(2, 0, 'PA', 1, 1, 100),
    at(2.1, 1, 'PA', 1, 101, 500),
    at(2.2, 0, 'A', 102, 501),
    at(2.3, 0, 'FA', 101, 501),
    at(2.31, 1, 'FA', 501, 102),
    at(2.5, 0, 'A', 102, 502),
  ];
  const whole = wholeRecord(all);
  // With both FINs it is closed: the acknowledgement is none of its duration.
  expect(whole.duration).toBeCloseTo(1.31, 6);
  expect(shuntedRecord(all, 4, 6)).toEqual(whole);
});

test('the last data of one side is lost, sent again and dropped: nothing is missing', () => {
  const all = [
    ...openings(1000, 5000),
    at(2, 1, 'PA', 1, 1, 500),
    at(2.1, 1, 'A', 701, 1),
    at(2.2, 0, 'A', 1, 501),
    at(2.3, 1, 'PA', 501, 1, 100),
    at(2.31, 1, 'PA', 601, 1, 100),
    at(2.4, 1, 'FA', 701, 1),
    at(2.5, 0, 'FA', 1, 702),
    at(2.7, 1, 'A', 702, 2),
  ];
  const whole = wholeRecord(all);
  expect(whole).toMatchObject({ missedBytes: 0, connState: 'SF' });
  // From before the first, and with the first of the two in the ring.
  for (const first of [3, 4]) expect(shuntedRecord(all, first, 8)).toEqual(whole);
});

test('more than 4 GiB in one piece', () => {
  const harness = new Harness();
  const slot = handshake(harness, 1);
  const sides: [SideDelta, SideDelta] = [noDelta(), noDelta()];
  // The server sent 3 * 2^32 + 7000 bytes behind sequence number 5001, all acknowledged.
  Object.assign(sides[1], { pkts: 9_000_000, ipBytes: 13e9, seq: 12_001, seqWraps: 3, last: 100 });
  Object.assign(sides[0], { pkts: 4_500_000, ipBytes: 180e6, ack: 12_001, last: 100 });
  harness.engine.absorb(slot, sides, [{ letter: 'D', side: 1 }]);
  // What follows goes on from there, without a gap.
  harness.feed(segment('server', 'PA', 12_001, 1001, 500), 101);
  harness.feed(segment('client', 'A', 1001, 12_501), 101.1);
  harness.feed(segment('server', 'FA', 12_501, 1001), 102);
  harness.feed(segment('client', 'FA', 1001, 12_502), 102.1);
  expect(harness.only()).toMatchObject({
    connState: 'SF',
    history: 'ShAdfF',
    origBytes: 0,
    respBytes: 3 * 2 ** 32 + 7500,
    missedBytes: 0,
    respPkts: 9_000_003,
    duration: expect.closeTo(101.1, 6) as number,
  });
});

test('the state that the gate takes over is that of the packets so far', () => {
  const harness = new Harness();
  const slot = handshake(harness, 1);
  const ahead = () => sideStates(harness, slot);
  expect(ahead()).toEqual([
    { seq: 1001, ack: 5001, retransmits: 0, zeroWindows: 0 },
    { seq: 5001, ack: 1001, retransmits: 0, zeroWindows: 0 },
  ]);
  harness.feed(segment('client', 'PA', 1001, 5001, 100, { window: 0 }), 2);
  harness.feed(segment('client', 'PA', 1001, 5001, 100), 2.1);
  harness.feed(segment('server', 'A', 5001, 1101), 2.2);
  expect(ahead()).toEqual([
    { seq: 1101, ack: 5001, retransmits: 1, zeroWindows: 1 },
    { seq: 5001, ack: 1101, retransmits: 0, zeroWindows: 0 },
  ]);
});

test('a flow can be shunted while both sides are established and nothing is missing', () => {
  const harness = new Harness();
  let slot = harness.feed(segment('client', 'S', 1000, 0), 1);
  expect(harness.engine.isShuntable(slot)).toBe(false);
  harness.engine.finish();
  slot = handshake(harness, 10);
  expect(harness.engine.isShuntable(slot)).toBe(true);
  harness.feed(segment('server', 'PA', 5101, 1001, 100), 11);
  expect(harness.engine.isShuntable(slot)).toBe(false);
  harness.feed(segment('server', 'PA', 5001, 1001, 100), 11.1);
  expect(harness.engine.isShuntable(slot)).toBe(true);
  harness.feed(segment('client', 'FA', 1001, 5201), 12);
  expect(harness.engine.isShuntable(slot)).toBe(false);
  const udp = harness.feed(eth().ipv4().udp({ sport: 9, dport: 10 }), 12);
  expect(harness.engine.isShuntable(udp)).toBe(true);
});

test('what was dropped behind a FIN acknowledges it: the FIN of the other side closes the connection', () => {
  const packets = [
    [segment('server', 'PA', 5001, 1001, 100), 2],
    [segment('server', 'FA', 5101, 1001), 2.1],
    [segment('client', 'A', 1001, 5102), 2.2],
    [segment('client', 'PA', 1001, 5102, 24), 3],
    [segment('client', 'FA', 1025, 5102), 3.1],
    [segment('server', 'R', 5102, 0), 4],
  ] as const;
  const whole = new Harness();
  handshake(whole, 1);
  for (const [packet, ts] of packets) whole.feed(packet, ts);

  const shunted = new Harness();
  const slot = handshake(shunted, 1);
  packets.forEach(([packet, ts], i) => {
    if (i !== 3) {
      shunted.feed(packet, ts);
      return;
    }
    const sides: [SideDelta, SideDelta] = [noDelta(), noDelta()];
    Object.assign(sides[CLIENT_SIDE], { pkts: 1, ipBytes: 64, seq: 1025, ack: 5102, last: 3 });
    shunted.engine.absorb(slot, sides, [{ letter: 'D', side: CLIENT_SIDE }]);
  });
  const record = comparable(whole.only());
  expect(record.duration).toBeCloseTo(2.1, 6);
  expect(comparable(shunted.only())).toEqual(record);
});
