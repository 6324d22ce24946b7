import { expect } from 'vitest';
import type { FlowEngineApi, Side, TcpSideState } from '../../src/flow/types.ts';
import { State } from '../../src/gate/layout.ts';
import { eth } from '../../src/packet/build.ts';
import { Absorption } from '../../src/sensor/absorption.ts';
import { type Episode, newEpisode } from '../../src/sensor/episode.ts';
import { HandOff } from '../../src/sensor/hand-off.ts';
import { gateKey, TestGate } from '../gate/support.ts';
import { kernelTest, ownNetns, until } from '../support/kernel.ts';

ownNetns();

const ENDS = [
  { addr: '10.0.0.1', port: 1000 },
  { addr: '10.0.0.2', port: 443 },
] as const;
const key = gateKey(6, ...ENDS);

const nothing = (): void => {};

/** A gate, a ring and an engine that know what the test tells them, with the hand-off between them. */
class Stand implements Disposable {
  readonly gate = new TestGate();
  readonly sides: [TcpSideState, TcpSideState] = [
    { seq: 100, ack: 900, retransmits: 0, zeroWindows: 0 },
    { seq: 900, ack: 100, retransmits: 0, zeroWindows: 0 },
  ];
  readonly ring = { sequence: 1, position: 0, openBlock: () => this.ring.sequence, received: () => 0 };
  readonly episode: Episode = newEpisode({
    slot: 0,
    generation: 0,
    family: key.family,
    key: key.bytes,
    tcp: true,
    carrier: false,
    trigger: 0,
    triggered: 0,
  });
  readonly handOff: HandOff;

  constructor() {
    const engine = {
      tcpSide: (_slot: number, side: Side, out: TcpSideState) => void Object.assign(out, this.sides[side]),
      isShuntable: () => true,
    } as unknown as FlowEngineApi;
    this.handOff = new HandOff(
      {
        engine,
        gate: this.gate.client,
        ring: this.ring,
        absorption: new Absorption(engine, 0, () => 0),
      },
      0,
      false,
      {
        armed: nothing,
        flipped: nothing,
        full: nothing,
        gaveUp: nothing,
        dropped: nothing,
        carried: () => 'yes',
        valid: () => true,
      },
    );
    this.handOff.add(this.episode);
  }

  /** The ring has handed out what was in it. */
  turn(): void {
    this.ring.sequence++;
    this.handOff.turn();
  }

  /** The gate sees a segment; the worker does not yet. */
  packet(side: Side, seq: number, ack: number, payload: number): void {
    const [from, to] = side === 0 ? ENDS : [ENDS[1], ENDS[0]];
    const packet = eth()
      .ipv4({ src: from.addr, dst: to.addr })
      .tcp({ sport: from.port, dport: to.port, seq, ack, flags: 'A', window: 100 });
    this.gate.run(payload > 0 ? packet.payload('x'.repeat(payload)) : packet);
  }

  /** The worker has accounted a packet. */
  accounted(side: Side, now: Partial<TcpSideState>): void {
    Object.assign(this.sides[side], now);
    this.handOff.passed(this.episode);
  }

  /** Turns until it drops; the T of both sides that the gate then has. */
  async shunted(): Promise<[number, number]> {
    await until(() => {
      this.turn();
      return this.gate.read(key)?.dirs[0].state === State.shunt;
    }, 'it is not shunted');
    const [a, b] = this.gate.read(key)?.dirs ?? [];
    return [a?.rexmits ?? -1, b?.rexmits ?? -1];
  }

  [Symbol.dispose](): void {
    this.gate[Symbol.dispose]();
  }
}

kernelTest(
  'a retransmission of a silent side that is late in the ring is in the count of the gate',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    using stand = new Stand();
    stand.turn();
    stand.packet(0, 50, 900, 50);
    stand.turn();
    expect(stand.episode.phase).toBe('syncing');
    // The other side goes on, and both agree on it.
    stand.packet(1, 900, 100, 10);
    stand.accounted(1, { seq: 910 });
    stand.turn();
    expect(stand.episode.phase).toBe('syncing');
    // Now the late one is there.
    stand.accounted(0, { retransmits: 1 });
    expect(await stand.shunted()).toEqual([1, 0]);
  },
);

kernelTest(
  'a side that only repeats itself is shunted once it rests, and nothing is counted twice',
  ['xdpFrags', 'syscallProgram'],
  async () => {
    using stand = new Stand();
    stand.accounted(0, { retransmits: 3 });
    stand.turn();
    stand.turn();
    expect(stand.episode.phase).toBe('syncing');
    stand.packet(0, 50, 900, 50);
    stand.turn();
    stand.packet(0, 50, 900, 50);
    stand.accounted(0, { retransmits: 5 });
    expect(await stand.shunted()).toEqual([5, 0]);
    expect(stand.gate.read(key)?.pkts).toBe(0);
  },
);
