import { describe, expect } from 'vitest';
import { createFlowEngine, type FlowEngine } from '../../src/flow/index.ts';
import { CARRIER, TIED } from '../../src/gate/layout.ts';
import { eth, type PacketBuilder } from '../../src/packet/build.ts';
import { LinkType } from '../../src/packet/link/types.ts';
import { Packet } from '../../src/packet/packet.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { NETS, PAYLOAD, SENT, TCP } from './packet-kinds.ts';
import { type GateKey, TestGate, XDP_DROP, XDP_PASS } from './support.ts';
import { ALL_TUNNELS, ends, KEYED_TUNNELS, WRAPS, type Wrap, wrapped } from './tunnel-table.ts';

// Two files at once may hold the loopback interface: each one of its own.
ownNetns();

const FEATURES = ['xdpFrags', 'syscallProgram'] as const;
const FAMILIES = [4, 6] as const;
type Level = { wrap: Wrap; family: 4 | 6 };

function engineOf(tunnelInKey: boolean): FlowEngine {
  return createFlowEngine(
    {
      checksums: false,
      tunnelInKey,
      tunnelPorts: ALL_TUNNELS.ports,
      shuntInside: ALL_TUNNELS.kinds,
      maxFlows: 1024,
    },
    { beforePacket: () => undefined, mayExpire: () => true, closed: () => undefined },
  );
}

function feed(engine: FlowEngine, frame: PacketBuilder): number {
  const packet = new Packet();
  packet.u8 = frame.bytes();
  packet.caplen = packet.wirelen = packet.u8.length;
  packet.linkType = LinkType.ethernet;
  packet.ts = 1_700_000_000;
  return engine.process(packet);
}

function keyOf(engine: FlowEngine, slot: number): GateKey {
  return { ...engine.key(slot), tcp: engine.proto(slot) === 6 };
}

/** Every way of one tunnel or two, around both families. */
function* ways(): Generator<{ name: string; around: Level[]; family: 4 | 6 }> {
  const inOthers = WRAPS.filter(({ name }) =>
    /^(VXLAN|GENEVE with options|GRE around IP|IP in IP)/.test(name),
  );
  for (const family of FAMILIES)
    for (const wrap of WRAPS)
      for (const outside of FAMILIES) {
        const level = { wrap, family: outside };
        yield { name: `${wrap.name} over IPv${outside}`, around: [level], family };
        for (const second of inOthers)
          yield {
            name: `${second.name} in ${wrap.name} over IPv${outside}`,
            around: [level, { wrap: second, family: outside === 4 ? 6 : 4 }],
            family,
          };
      }
}

const segment = (family: 4 | 6) => (start: PacketBuilder) =>
  (NETS.find((net) => net.family === family) as (typeof NETS)[number]).there(start).tcp(TCP).payload(PAYLOAD);

/** Shunts the flow in `slot` with the tunnels around it, as the sensor does. */
function shunt(gate: TestGate, engine: FlowEngine, slot: number): GateKey[] {
  const { tie, carriers } = engine.tunnelsAround(slot);
  const keys = carriers.map((carrier) => keyOf(engine, carrier));
  for (const key of keys) gate.shunt(key, { tunnels: { flags: CARRIER, tie: [0, 0] } });
  const seq = { seq: [...SENT], ack: [SENT[1], SENT[0]] } as { seq: [number, number]; ack: [number, number] };
  gate.shunt(keyOf(engine, slot), { ...seq, tunnels: { flags: TIED, tie } });
  return keys;
}

describe.each([false, true])('ids in the key: %s', (inKey) => {
  kernelTest('gate and flow engine have the same keys, ties and counts', [...FEATURES], () => {
    using gate = new TestGate({ tunnels: inKey ? KEYED_TUNNELS : ALL_TUNNELS });
    let carried = 0;
    for (const { name, around, family } of ways()) {
      const engine = engineOf(inKey);
      const frame = wrapped(around, segment(family));
      const slot = feed(engine, frame);
      expect(engine.isTunnelled(slot), name).toBe(true);
      const keys = shunt(gate, engine, slot);
      carried += keys.length;
      expect(gate.run(frame), name).toEqual({ action: XDP_DROP, verdict: 'shunted' });
      const { carriers } = engine.tunnelsAround(slot);
      for (const [i, key] of [keyOf(engine, slot), ...keys].entries()) {
        const its = [slot, ...carriers][i];
        const dirs = gate.read(key)?.dirs.map(({ pkts, ipBytes }) => [pkts, ipBytes]);
        const sides = ([0, 1] as const).map((side) => [engine.packets(its, side), engine.ipBytes(its, side)]);
        expect(dirs, `${name}, flow ${i}`).toEqual(sides);
        if (i > 0) {
          // The headers of UDP and of IPv4 or IPv6.
          const entry = gate.read(key);
          const headers = entry?.dirs.map((dir) => dir.ipBytes - dir.payloadBytes) ?? [];
          expect([28, 48], name).toContain(headers[0] + headers[1]);
        }
        gate.client.remove(key.family, key.bytes);
      }
    }
    expect(carried).toBeGreaterThan(100);
  });
});

kernelTest('what is in other tunnels than before passes and ends its shunt', [...FEATURES], () => {
  using gate = new TestGate({ tunnels: ALL_TUNNELS });
  const inner = segment(4);
  const through = (sport: number): PacketBuilder =>
    inner(ends(4).udp({ sport, dport: 4789 }).vxlan({ vni: 1 }).eth());
  const engine = engineOf(false);
  const slot = feed(engine, through(5000));
  const key = keyOf(engine, slot);
  const clear = (keys: readonly GateKey[]): void => {
    for (const each of [key, ...keys]) gate.client.remove(each.family, each.bytes);
  };
  const passed = { action: XDP_PASS, verdict: 'passCarrier' };
  const others = [
    ['another VXLAN flow', through(5001)],
    ['GRE', inner(ends(4).gre())],
    ['no tunnel', inner(eth())],
    ['one more tunnel', inner(ends(6).gre().ipv4({ src: '1.1.1.1', dst: '2.2.2.2' }).gre())],
  ] as const;
  for (const [name, frame] of others) {
    const keys = shunt(gate, engine, slot);
    expect(gate.run(frame), name).toEqual(passed);
    expect(
      gate.read(key)?.dirs.map(({ reason }) => reason),
      name,
    ).toEqual(['tunnel', 'tunnel']);
    expect(gate.run(through(5000)), name).toEqual({ action: XDP_PASS, verdict: 'passEnding' });
    expect(gate.read(keys[0])?.pkts, name).toBe(0);
    clear(keys);
  }
});

kernelTest('nothing is dropped in a tunnel that is not counted', [...FEATURES], () => {
  using gate = new TestGate({ tunnels: ALL_TUNNELS });
  const frame = segment(4)(ends(4).udp({ sport: 5000 }).vxlan({ vni: 1 }).eth());
  const engine = engineOf(false);
  const slot = feed(engine, frame);
  const key = keyOf(engine, slot);
  const passed = { action: XDP_PASS, verdict: 'passCarrier' };
  const attempt = (change: (carrier: GateKey) => void): void => {
    const [carrier] = shunt(gate, engine, slot);
    change(carrier);
    expect(gate.run(frame)).toEqual(passed);
    expect(gate.read(key)?.ending).toBe(true);
    gate.client.remove(key.family, key.bytes);
    gate.client.remove(carrier.family, carrier.bytes);
  };
  attempt((carrier) => gate.client.remove(carrier.family, carrier.bytes));
  attempt((carrier) => void gate.op('end', carrier));
  // A header that is none: from there on the flow engine does not look into this flow any more.
  attempt((carrier) => {
    const bad = ends(4).udp({ sport: 5000, dport: 4789 }).payload(40);
    expect(gate.run(bad)).toEqual({ action: XDP_PASS, verdict: 'passTunnel' });
    expect(gate.read(carrier)?.ending).toBe(true);
  });
});

kernelTest('a tunnel itself is never dropped, nor what is not looked into', [...FEATURES], () => {
  using gate = new TestGate({ tunnels: ALL_TUNNELS });
  const begin = ends(4).udp({ sport: 5000 }).vxlan({ vni: 1 }).eth();
  const engine = engineOf(false);
  const slot = feed(engine, segment(4)(begin));
  const [carrier] = shunt(gate, engine, slot);
  const arp = begin.bytes();
  expect(gate.run(Uint8Array.of(...arp.slice(0, -2), 8, 6, ...new Uint8Array(28))).action).toBe(XDP_PASS);
  const back = eth()
    .ipv4({ src: '172.16.0.2', dst: '172.16.0.1' })
    .udp({ sport: 4789, dport: 5000 })
    .payload(60);
  expect(gate.run(back)).toEqual({ action: XDP_PASS, verdict: 'passCarrier' });
  expect(gate.read(carrier)?.ending).toBe(false);
});
