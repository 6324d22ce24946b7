import type { ShuntEvent, Side, SideDelta, TcpSideState } from '../../../src/flow/index.ts';
import type { PacketBuilder } from '../../../src/packet/build.ts';
import { CLIENT_SIDE, type Harness, noDelta, segment } from './harness.ts';

/** One segment as the capture sees it. */
export interface Step {
  side: Side;
  flags: string;
  seq: number;
  ack: number;
  bytes: number;
  window: number;
  /** Seconds. */
  ts: number;
}

export function frameOf(step: Step): PacketBuilder {
  const from = step.side === CLIENT_SIDE ? 'client' : 'server';
  return segment(from, step.flags, step.seq, step.ack, step.bytes, { window: step.window });
}

/** What the gate would do with the packets that it drops: the reference that `absorb` is fed from. */
export class ReferenceGate {
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
      if (step.bytes > 0) delta.edge = -1;
      else if (delta.edge < 0) delta.edge = delta.seq;
      delta.seq = end;
    } else if (step.bytes > 0) {
      this.#scaled('T', side, base.retransmits + ++delta.retransmits);
      if (end === delta.seq) delta.edge = -1;
      else if (delta.edge >= 0 && ((step.seq - delta.edge) | 0) <= 0 && ((end - delta.edge) | 0) > 0)
        delta.edge = end;
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

export function sideStates(harness: Harness, slot: number): [TcpSideState, TcpSideState] {
  const states: [TcpSideState, TcpSideState] = [
    { seq: 0, ack: 0, retransmits: 0, zeroWindows: 0 },
    { seq: 0, ack: 0, retransmits: 0, zeroWindows: 0 },
  ];
  for (const side of [0, 1] as const) harness.engine.tcpSide(slot, side, states[side]);
  return states;
}
