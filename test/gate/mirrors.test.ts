import { describe, expect } from 'vitest';
import { createFlowEngine, type FlowEngine } from '../../src/flow/index.ts';
import { mirrorKey, mirrorRow, mirrorUnfit } from '../../src/gate/mirrors.ts';
import type { GateTunnels } from '../../src/gate/tunnels.ts';
import { ipBytes } from '../../src/packet/address.ts';
import { eth } from '../../src/packet/build.ts';
import { Decapsulator, type Encapsulation } from '../../src/packet/encap/index.ts';
import { Packet } from '../../src/packet/packet.ts';
import { type End, KINDS, type Kind, randomNumbers } from '../capture/udp-support.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { type GateKey, gateKey, TestGate, XDP_DROP, XDP_PASS } from './support.ts';

ownNetns();

const FEATURES = ['xdpFrags', 'syscallProgram'] as const;
const HOSTS = { 4: '192.0.2.1', 6: '2001:db8:ffff::1' } as const;
const PORT = 4000;
const TURNS = 12;
const DAMAGED = 500;

const A: End = { v4: '10.1.0.1', v6: '2001:db8::a', port: 12_000 };
const B: End = { v4: '10.2.0.1', v6: '2001:db8::b', port: 23_000 };

/** A gate before mirrors. */
function mirrorGate(inKey: boolean): TestGate {
  const tunnels: GateTunnels = { kinds: [], inKey, ports: { vxlan: [], geneve: [] }, mirror: true };
  return new TestGate({ tunnels });
}

/** A mirror ends at a port of this host; its entries are those of owners `first` to `last`. */
function name(gate: TestGate, encapsulation: Encapsulation, port = PORT, first = 1, last = 1): void {
  const row = mirrorRow(encapsulation, [first, last]);
  for (const host of Object.values(HOSTS))
    gate.gate.table('mirrors').set(mirrorKey(ipBytes(host) as Uint8Array, port), row);
}

const datagram = (payload: Uint8Array, family: 4 | 6 = 4, dport = PORT): Uint8Array =>
  (family === 4
    ? eth().ipv4({ src: '192.0.2.9', dst: HOSTS[4] })
    : eth().ipv6({ src: '2001:db8:ffff::9', dst: HOSTS[6] })
  )
    .udp({ sport: 999, dport })
    .payload(payload)
    .bytes();

/** What the sensor behind the gate makes of a datagram: the key of the flow that it counts the frame for. */
class Reader {
  readonly #decapsulator: Decapsulator;
  readonly #engine: FlowEngine;

  constructor(encapsulation: Encapsulation, inKey: boolean) {
    this.#decapsulator = new Decapsulator(encapsulation);
    this.#engine = createFlowEngine(
      { checksums: false, tunnelInKey: inKey, maxFlows: 4096 },
      { beforePacket: () => undefined, mayExpire: () => true, closed: () => undefined },
    );
  }

  key(payload: Uint8Array): GateKey | undefined {
    const packet = new Packet();
    packet.u8 = payload;
    packet.caplen = packet.wirelen = payload.length;
    packet.ts = 1_700_000_000;
    if (!this.#decapsulator.open(packet)) return undefined;
    const slot = this.#engine.process(packet);
    return slot < 0 ? undefined : { ...this.#engine.key(slot), tcp: this.#engine.proto(slot) === 6 };
  }
}

const same = (a: GateKey | undefined, b: GateKey): boolean =>
  a !== undefined && Buffer.compare(a.bytes, b.bytes) === 0;

/** Some bytes are others, or the end is missing. */
function damaged(good: Uint8Array, random: (below: number) => number): Uint8Array {
  const bytes = good.slice(0, random(3) === 0 ? random(good.length + 1) : good.length);
  // Mostly in the headers.
  for (let errors = random(3); errors >= 0 && bytes.length > 0; errors--)
    bytes[random(Math.min(bytes.length, 90))] = random(256);
  return bytes;
}

const looked = KINDS.filter(({ encapsulation }) => mirrorUnfit(encapsulation) === undefined);

describe.each([false, true])('ids in the key: %s', (inKey) => {
  kernelTest('drops what is a frame of a shunted flow, and nothing else', [...FEATURES], () => {
    using gate = mirrorGate(inKey);
    for (const [number, { name: kind, encapsulation, payload }] of looked.entries()) {
      name(gate, encapsulation);
      const reader = new Reader(encapsulation, inKey);
      const random = randomNumbers(number);
      const all = Array.from({ length: TURNS }, (_, turn) =>
        (turn % 2 === 0 ? payload(A, B, turn) : payload(B, A, turn)).bytes(),
      );
      // The flow of both directions; GENEVE around IP has one of each family.
      const keys = all.map((bytes) => reader.key(bytes)).filter((key) => key !== undefined);
      expect(keys, kind).toHaveLength(TURNS);
      const shunt = (key: GateKey): void => {
        const entry = gate.read(key);
        if (entry !== undefined && !entry.ending) return;
        gate.client.remove(key.family, key.bytes);
        gate.shunt(key);
      };
      let drops = 0;
      for (const [turn, bytes] of all.entries())
        for (const family of [4, 6] as const) {
          shunt(keys[turn]);
          const { action, verdict } = gate.run(datagram(bytes, family));
          if (action === XDP_DROP) drops++;
          // Those beyond its limits: fragments, headers between the tunnels.
          else expect(['passFragment', 'passTunnel', 'passParse'], `${kind}, ${turn}`).toContain(verdict);
          // Of another port nothing is looked at.
          expect(gate.run(datagram(bytes, family, PORT + 1)).verdict, kind).toBe('passHost');
        }
      expect(drops, kind).toBeGreaterThanOrEqual(TURNS);
      let unlike = 0;
      for (let n = 0; n < DAMAGED; n++) {
        const bytes = damaged(all[n % TURNS], random);
        shunt(keys[n % TURNS]);
        const { action } = gate.run(datagram(bytes));
        const its = reader.key(bytes);
        if (keys.some((each) => same(its, each))) continue;
        unlike++;
        expect(action, `${kind}: ${Buffer.from(bytes).toString('hex')}`).toBe(XDP_PASS);
      }
      expect(unlike, kind).toBeGreaterThan(DAMAGED / 20);
      for (const key of keys) gate.client.remove(key.family, key.bytes);
    }
  });
});

kernelTest('a frame that goes on beyond its datagram is none', [...FEATURES], () => {
  const { encapsulation, payload } = KINDS.find((kind) => kind.name === 'GENEVE+VXLAN, IPv4 between') as Kind;
  using gate = mirrorGate(false);
  name(gate, encapsulation);
  gate.shunt(gateKey(6, { addr: A.v4, port: A.port }, { addr: B.v4, port: B.port }));
  const bytes = payload(A, B, 0).bytes();
  expect(gate.run(datagram(bytes)).action).toBe(XDP_DROP);
  // UDP between the tunnels ends within the Ethernet header inside.
  const udp = 8 + 20;
  bytes.set([0, 8 + 8 + 8], udp + 4);
  expect(gate.run(datagram(bytes))).toEqual({ action: XDP_PASS, verdict: 'passParse' });
});

kernelTest('an entry is of the mirror whose owner made it', [...FEATURES], () => {
  const [{ encapsulation, payload }] = KINDS;
  using gate = mirrorGate(false);
  name(gate, encapsulation);
  name(gate, encapsulation, PORT + 1, 2, 3);
  const key = gateKey(6, { addr: A.v4, port: A.port }, { addr: B.v4, port: B.port });
  gate.shunt(key);
  const bytes = payload(A, B, 0).bytes();
  expect(gate.run(datagram(bytes))).toEqual({ action: XDP_DROP, verdict: 'shunted' });
  expect(gate.run(datagram(bytes, 4, PORT + 1))).toEqual({ action: XDP_PASS, verdict: 'passNoEntry' });
  expect(gate.run(datagram(bytes))).toEqual({ action: XDP_DROP, verdict: 'shunted' });
  expect(gate.read(key)?.pkts).toBe(2);
});
