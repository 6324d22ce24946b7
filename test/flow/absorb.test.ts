import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { ShuntEvent, Side, SideDelta, TcpSideState } from '../../src/flow/index.ts';
import { eth, type PacketBuilder } from '../../src/packet/build.ts';
import { CLIENT_SIDE, comparable, Harness, handshake, noDelta, segment } from './support/harness.ts';

interface Step {
  side: Side;
  flags: string;
  seq: number;
  ack: number;
  bytes: number;
  window: number;
  ts: number;
}

function frameOf(step: Step): PacketBuilder {
  const from = step.side === CLIENT_SIDE ? 'client' : 'server';
  return segment(from, step.flags, step.seq, step.ack, step.bytes, { window: step.window });
}

/** What the gate would do with the packets that it drops: the reference that `absorb` is fed from. */
class ReferenceGate {
  readonly sides: [SideDelta, SideDelta] = [noDelta(), noDelta()];
  readonly events: ShuntEvent[] = [];
  readonly #base: [TcpSideState, TcpSideState];
  readonly #seen = new Set<string>();

  constructor(base: [TcpSideState, TcpSideState]) {
    this.#base = base;
    for (const side of [0, 1] as const) {
      this.sides[side].seq = base[side].seq;
      this.sides[side].ack = base[side].ack;
    }
  }

  drop(step: Step): void {
    const { side } = step;
    const delta = this.sides[side];
    const base = this.#base[side];
    delta.pkts++;
    delta.ipBytes += 40 + step.bytes;
    delta.last = step.ts;
    this.#once(step.bytes > 0 ? 'D' : 'A', side);
    if (step.window === 0) this.#scaled('W', side, base.zeroWindows + ++delta.zeroWindows);
    const end = (step.seq + step.bytes) >>> 0;
    if (((end - delta.seq) | 0) > 0) {
      if (end < delta.seq) delta.seqWraps++;
      delta.seq = end;
    } else if (step.bytes > 0) {
      this.#scaled('T', side, base.retransmits + ++delta.retransmits);
    }
    if (delta.ack < 0 || ((step.ack - delta.ack) | 0) > 0) delta.ack = step.ack >>> 0;
  }

  #once(letter: 'D' | 'A', side: Side): void {
    if (this.#seen.has(letter + side)) return;
    this.#seen.add(letter + side);
    this.events.push({ letter, side });
  }

  #scaled(letter: 'T' | 'W', side: Side, count: number): void {
    if (/^10*$/.test(String(count))) this.events.push({ letter, side });
  }
}

function sideStates(harness: Harness, slot: number): [TcpSideState, TcpSideState] {
  const states: [TcpSideState, TcpSideState] = [
    { seq: 0, ack: 0, retransmits: 0, zeroWindows: 0 },
    { seq: 0, ack: 0, retransmits: 0, zeroWindows: 0 },
  ];
  for (const side of [0, 1] as const) harness.engine.tcpSide(slot, side, states[side]);
  return states;
}

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
          const whole = new Harness();
          for (const step of all) whole.feed(frameOf(step), step.ts);

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
          expect(comparable(parts.only())).toEqual(comparable(whole.only()));
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
