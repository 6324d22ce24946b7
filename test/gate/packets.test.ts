import { afterAll, describe, expect } from 'vitest';
import { AfPacketSource } from '../../src/capture/afpacket.ts';
import type { GateOptions } from '../../src/gate/gate-options.ts';
import { SlPairKey } from '../../src/gate/layout.gen.ts';
import { State } from '../../src/gate/layout.ts';
import { Pairs } from '../../src/gate/pairs.ts';
import {
  interfaceInfo,
  loadObject,
  membarrier,
  monotonic,
  openPacketRing,
  PacketSender,
} from '../../src/kernel/index.ts';
import { describe as layers } from '../../src/packet/describe.ts';
import { bpfObject, ip, kernelTest, ownNetns, until, vethPair } from '../support/kernel.ts';
import { PAIR, type PacketRow, SENT } from './packet-kinds.ts';
import { PACKET_TABLE } from './packet-table.ts';
import { TestGate, XDP_DROP, XDP_PASS } from './support.ts';
import { ALL_TUNNELS, TUNNEL_TABLE } from './tunnel-table.ts';

// Two files at once may hold the loopback interface: each one of its own.
ownNetns();

const FEATURES = ['xdpFrags', 'syscallProgram'] as const;
/** A test run of a socket filter takes frames that fit into one page with what the kernel keeps beside them. */
const FILTER_FRAME = 3500;
const dropped = (verdict: string): boolean => verdict === 'shunted' || verdict === 'shuntedPair';

/** Where the gate runs. One place serves all rows: it is opened with the first and closed with the last. */
interface Place {
  gate: TestGate;
  /** What became of the frame: the program's answer, or what was seen behind it. */
  run: (bytes: Uint8Array) => Promise<{ action: number; verdict: string }>;
  close: () => void;
}

function testRun(options: Partial<GateOptions>): Place {
  const gate = new TestGate(options);
  return { gate, run: async (bytes) => gate.run(bytes), close: () => gate[Symbol.dispose]() };
}

/** One end of a pair of interfaces with an MTU of 9,000; a packet socket behind the gate sees what it lets through. */
function wire(mode: 'native' | 'generic' | 'socket', options: Partial<GateOptions>): Place {
  const pair = vethPair();
  for (const name of [pair.a, pair.b]) ip(`link set ${name} mtu 9000`);
  const gate = new TestGate({ ...options, ifname: pair.a, ifindex: interfaceInfo(pair.a).index });
  const ring = openPacketRing({ interface: pair.a, blockSize: 1 << 16, blocks: 16, retireMs: 1 });
  if (mode === 'socket') ring.filterBy(gate.gate.program);
  else expect(gate.gate.attach(mode)[0].mode).toBe(mode);
  const behind = new AfPacketSource(ring, pair.a);
  const sender = new PacketSender(pair.b);
  let expected: Uint8Array = new Uint8Array(0);
  let passed = 0;
  const run = async (bytes: Uint8Array): Promise<{ action: number; verdict: string }> => {
    const before = gate.gate.ledger();
    expect(sender.send(bytes, Uint32Array.of(0, bytes.length))).toBe(1);
    await until(() => gate.gate.ledger().seen.pkts > before.seen.pkts, 'the gate has not seen the frame');
    const verdict = gate.verdictSince(before, bytes.length);
    expected = bytes;
    // A frame that was let through by mistake shows with the next one, or at the end.
    if (!dropped(verdict)) passed++;
    await until(() => behind.received() >= passed, `a frame counted as ${verdict} did not come through`);
    await until(() => (drain(), behind.packets >= passed), 'the ring does not hand it out');
    expect(behind.packets).toBe(passed);
    return { action: dropped(verdict) ? XDP_DROP : XDP_PASS, verdict };
  };
  const drain = (): boolean =>
    behind.drain(({ u8, offset, caplen, vlanTci }) => {
      // The outermost tag comes beside the frame.
      const sent =
        vlanTci < 0 ? expected : Uint8Array.of(...expected.subarray(0, 12), ...expected.subarray(16));
      expect(Buffer.from(u8.subarray(offset, offset + caplen))).toEqual(Buffer.from(sent));
      if (vlanTci >= 0) expect(vlanTci).toBe((expected[14] << 8) | expected[15]);
    }, 1);
  const close = (): void => {
    sender.close();
    behind.close();
    gate[Symbol.dispose]();
    pair.remove();
  };
  return { gate, run, close };
}

type Keyed = Pick<PacketRow, 'vlanKey' | 'tunnels'>;

/** One place at a time, as an interface has one gate: another one when the next row wants another key. */
function oneOf(open: (options: Partial<GateOptions>) => Place) {
  let now: { row: Keyed; place: Place } | undefined;
  const close = (): void => {
    now?.place.close();
    now = undefined;
  };
  const keyed = (row: Keyed): Place => {
    const { vlanKey, tunnels } = row;
    if (now === undefined || now.row.vlanKey !== vlanKey || now.row.tunnels !== tunnels) {
      close();
      now = { row, place: open({ vlanKey, tunnels }) };
    }
    return now.place;
  };
  return { with: keyed, close };
}

/** The same behind a rule by hand that matches nothing: parsed once, and shunted by another program. */
function behindRules(place: Place): Place {
  const gate = place.gate.gate;
  const rule = loadObject(bpfObject('test_rule'), {
    reuseMaps: { rules: gate.table('rules'), scratch: gate.table('scratch') },
  });
  gate.setRules(rule.program('test_rule'));
  const close = (): void => {
    rule.close();
    place.close();
  };
  return { ...place, close };
}

/**
 * All, in an order in which the fewest places have to be opened: each takes a while. In tunnels all of them only where it is
 * quick, else those of one gate, and on a wire the forms alone.
 */
function rowsOf(most: number, inside: 'all' | 'one gate' | 'forms'): PacketRow[] {
  const inTunnels = TUNNEL_TABLE.filter(
    ({ tunnels, name, vlanKey }) =>
      inside === 'all' ||
      (tunnels === ALL_TUNNELS && !vlanKey && (inside === 'one gate' || / over IPv/.test(name))),
  );
  const rows = [...PACKET_TABLE, ...inTunnels].filter(({ bytes }) => bytes.length <= most);
  const gates = [...new Set(rows.map(({ tunnels }) => tunnels))];
  return gates.flatMap((tunnels) =>
    [false, true].flatMap((vlanKey) =>
      rows.filter((row) => row.tunnels === tunnels && row.vlanKey === vlanKey),
    ),
  );
}

function insideOf(where: string): 'all' | 'one gate' | 'forms' {
  if (!where.startsWith('test run')) return 'forms';
  return where.endsWith('rules') ? 'one gate' : 'all';
}

for (const [where, open, most = Number.POSITIVE_INFINITY] of [
  ['test run', testRun],
  ['native', (options) => wire('native', options)],
  ['generic', (options) => wire('generic', options)],
  ['test run behind rules', (options) => behindRules(testRun(options))],
  ['native behind rules', (options) => behindRules(wire('native', options))],
  ['test run of the socket filter', (options) => testRun({ ...options, kind: 'socket' }), FILTER_FRAME],
  ['socket filter', (options) => wire('socket', { ...options, kind: 'socket' })],
] as [string, (options: Partial<GateOptions>) => Place, number?][]) {
  describe(where, () => {
    const places = oneOf(open);
    afterAll(() => places.close());
    for (const row of rowsOf(most, insideOf(where))) {
      kernelTest(`${row.name}: ${row.verdict}`, [...FEATURES], async () => {
        const { gate, run } = places.with(row);
        const { key, bytes, verdict, counted } = row;
        gate.shunt(key, key.tcp ? { seq: [...SENT], ack: [SENT[1], SENT[0]] } : {});
        try {
          const action = counted === undefined ? XDP_PASS : XDP_DROP;
          expect(await run(bytes), layers(bytes)).toEqual({ action, verdict });
          const state = verdict === 'passClose' ? State.ending : State.shunt;
          expect(gate.read(key)?.dirs.map((dir) => dir.state)).toEqual([state, state]);
          expect(booked(gate, row)).toEqual(expectedBooks(row));
        } finally {
          gate.client.remove(key.family, key.bytes);
        }
      });
    }
  });
}

/** By side: packets, IP bytes, and payload or how far the sequence number is. */
function booked(gate: TestGate, { key }: PacketRow): number[][] | undefined {
  return gate.read(key)?.dirs.map((d) => [d.pkts, d.ipBytes, key.tcp ? d.seq : d.payloadBytes]);
}

function expectedBooks({ key, counted }: PacketRow): number[][] {
  return [0, 1].map((side) => {
    const begin = key.tcp ? SENT[side as 0 | 1] : 0;
    return counted?.side === side ? [1, counted.ipBytes, begin + counted.payload] : [0, 0, begin];
  });
}

/** The pair has no tag: where the VLANs are in the key, it is not that of a tagged packet. */
describe.each(['xdp', 'socket'] as const)('by address pair, %s', (kind) => {
  const gates = oneOf((options) => {
    const place = testRun({ ...options, kind });
    place.gate.gate.enable({ pairs: true });
    return place;
  });
  afterAll(() => gates.close());
  // The search is the same in both; so are tunnels before it.
  const rows =
    kind === 'xdp'
      ? rowsOf(Number.POSITIVE_INFINITY, 'one gate')
      : rowsOf(FILTER_FRAME, 'one gate').filter((row) => row.tunnels === undefined);
  for (const row of rows) {
    kernelTest(`${row.name}: ${row.pair}`, [...FEATURES], () => {
      const { gate } = gates.with(row);
      const pairs = new Pairs(gate.gate.table('pairs'), gate.client.ops, membarrier);
      const [a, b] = PAIR[row.family ?? row.key.family];
      // Nothing else runs: what is left of the row before can go at once.
      const key = new Uint8Array(SlPairKey.size);
      if (gate.gate.table('pairs').nextKey(undefined, key)) gate.gate.table('pairs').delete(key);
      expect(pairs.add(a, b, { limit: monotonic() + 60 })).toBe(true);
      const action = dropped(row.pair) ? XDP_DROP : XDP_PASS;
      expect(gate.run(row.bytes), layers(row.bytes)).toEqual({ action, verdict: row.pair });
      const counted = pairs.get(a, b);
      expect(Number(counted?.ab.pkts) + Number(counted?.ba.pkts)).toBe(dropped(row.pair) ? 1 : 0);
    });
  }
});
