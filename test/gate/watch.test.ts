import { describe, expect } from 'vitest';
import { Exceptions } from '../../src/gate/exceptions.ts';
import { HeldFlows } from '../../src/gate/held-flows.ts';
import { MADE_DIR1, madeWhy, State } from '../../src/gate/layout.ts';
import { type GateWatch, readWatchCounts, WATCH_OWNER, type WatchCounts } from '../../src/gate/watch.ts';
import { eth, type PacketBuilder } from '../../src/packet/build.ts';
import { kernelTest, ownNetns } from '../support/kernel.ts';
import { NETS, type Net, PAYLOAD, PORTS, TCP } from './packet-kinds.ts';
import { type GateKey, gateKey, TestGate, XDP_DROP, XDP_PASS } from './support.ts';
import { ALL_TUNNELS, WRAPS, wrapped } from './tunnel-table.ts';

// Two files at once may hold the loopback interface: each one of its own.
ownNetns();

const FEATURES = ['xdpFrags', 'syscallProgram'] as const;
const WATCH: GateWatch = { tls: true, bytes: 0, packets: 0, idle: 600, owner: 1, size: 65_536 };
const CLIENT = 1;
const SERVER = 2;
const DATA = 23;

const watching = (watch: Partial<GateWatch> = {}, options = {}): TestGate =>
  new TestGate({ watch: { ...WATCH, ...watch }, ...options });
const countsOf = (gate: TestGate): WatchCounts => readWatchCounts(gate.gate.table('watch_count'));

/** A TLS record. */
function record(type: number, length: number, first = 0xaa): Uint8Array {
  const bytes = new Uint8Array(5 + length).fill(0xaa);
  bytes.set([type, 3, 3, length >> 8, length & 0xff, first]);
  return bytes;
}
const join = (...parts: Uint8Array[]): Uint8Array => Uint8Array.from(parts.flatMap((part) => [...part]));

/** A TCP connection from the client's address to port 443, or the other way round, as its segments. */
class Talk {
  readonly seq: [number, number];
  readonly #begin: (back: boolean) => PacketBuilder;
  readonly #swap: boolean;

  constructor(
    net: Net,
    { from = (p: PacketBuilder) => p, swap = false, seq = [1000, 5000] as [number, number] } = {},
  ) {
    this.seq = [...seq];
    this.#swap = swap;
    this.#begin = (back) => (back ? net.back : net.there)(from(eth()));
  }

  /** A segment of side 0, which is the client, or 1; `ack`: unless it acknowledges all of the other side. */
  segment(
    side: 0 | 1,
    data: Uint8Array | number,
    { flags = 'A', seq = this.seq[side], ack = this.seq[side === 0 ? 1 : 0] } = {},
  ): PacketBuilder {
    const back = (side === 1) !== this.#swap;
    const ports = back ? { sport: PORTS.dport, dport: PORTS.sport } : PORTS;
    const size = typeof data === 'number' ? data : data.length;
    this.seq[side] = Math.max(this.seq[side], seq + size);
    return this.#begin(back)
      .tcp({ ...ports, seq, ack, flags, window: 100 })
      .payload(data);
  }
}

const keyOf = (net: Net): GateKey => gateKey(6, net.a, net.b);
const [v4] = NETS;

/** What the two sides send in a full handshake of TLS 1.2 and 1.3, in order; the last one is the one that ends it. */
const HANDSHAKES: Record<string, readonly [0 | 1, Uint8Array][]> = {
  'TLS 1.2': [
    [0, record(22, 300, CLIENT)],
    [1, join(record(22, 80, SERVER), record(22, 900, 11), record(22, 4, 14))],
    [0, join(record(22, 66, 16), record(20, 1, 1), record(22, 40))],
    [1, join(record(20, 1, 1), record(22, 40))],
    [0, record(DATA, 200)],
    [1, record(DATA, 1200)],
  ],
  'TLS 1.2, resumed, false start': [
    [0, record(22, 300, CLIENT)],
    [1, join(record(22, 80, SERVER), record(20, 1, 1), record(22, 40))],
    [0, join(record(20, 1, 1), record(22, 40), record(DATA, 100))],
    [1, record(DATA, 1200)],
  ],
  'TLS 1.3': [
    [0, record(22, 500, CLIENT)],
    [
      1,
      join(record(22, 122, SERVER), record(20, 1, 1), record(DATA, 30), record(DATA, 900), record(DATA, 70)),
    ],
    [0, join(record(20, 1, 1), record(DATA, 53), record(DATA, 200))],
    [1, record(DATA, 250)],
  ],
  'TLS 1.3 with HelloRetryRequest': [
    [0, record(22, 500, CLIENT)],
    [1, join(record(22, 84, SERVER), record(20, 1, 1))],
    [0, join(record(20, 1, 1), record(22, 600, CLIENT))],
    [1, join(record(22, 122, SERVER), record(DATA, 1000))],
    [0, join(record(DATA, 53), record(DATA, 200))],
    [1, record(DATA, 250)],
  ],
  'behind STARTTLS': [
    [1, Buffer.from('220 mail ready\r\n')],
    [0, Buffer.from('STARTTLS\r\n')],
    [1, Buffer.from('220 go on\r\n')],
    [0, record(22, 500, CLIENT)],
    [1, join(record(22, 122, SERVER), record(DATA, 1000))],
    [0, record(DATA, 53)],
    [1, record(DATA, 250)],
  ],
};

/** Everything before the last step passes without an entry; from the packet behind it on it is dropped. */
function expectAfterLast(
  gate: TestGate,
  talk: Talk,
  key: GateKey,
  steps: readonly [0 | 1, Uint8Array][],
  name: string,
): void {
  for (const [i, [side, data]] of steps.entries()) {
    expect(gate.read(key), `${name}, before step ${i}`).toBeUndefined();
    expect(gate.run(talk.segment(side, data)), `${name}, step ${i}`).toEqual({
      action: XDP_PASS,
      verdict: 'passNoEntry',
    });
  }
  expect(
    gate.read(key)?.dirs.map(({ state }) => state),
    name,
  ).toEqual([State.shunt, State.shunt]);
}

describe('TLS', () => {
  kernelTest(
    'is shunted once the server has answered application data, in every frame',
    [...FEATURES],
    () => {
      const frames: [string, ConstructorParameters<typeof Talk>[1], Net][] = [];
      for (const net of NETS) {
        frames.push([`IPv${net.family}`, {}, net]);
        frames.push([`IPv${net.family}, the client on the high side`, { swap: true }, net]);
        frames.push([`IPv${net.family} behind a tag`, { from: (p: PacketBuilder) => p.vlan(7) }, net]);
        frames.push([
          `IPv${net.family} behind two tags and MPLS`,
          { from: (p: PacketBuilder) => p.qinq(5).vlan(7).mpls(99) },
          net,
        ]);
        frames.push([
          `IPv${net.family}, sequence numbers that wrap`,
          { seq: [2 ** 32 - 400, 2 ** 32 - 1100] },
          net,
        ]);
      }
      using gate = watching();
      for (const [frame, how, net] of frames)
        for (const [handshake, steps] of Object.entries(HANDSHAKES)) {
          const name = `${handshake}, ${frame}`;
          const talk = new Talk(net, how);
          const key = keyOf(net);
          expectAfterLast(gate, talk, key, steps, name);
          expect(gate.run(talk.segment(1, 900)), name).toEqual({ action: XDP_DROP, verdict: 'shunted' });
          expect(gate.run(talk.segment(0, 0)), name).toEqual({ action: XDP_DROP, verdict: 'shunted' });
          const entry = gate.read(key);
          const side = how?.swap === true ? 1 : 0;
          expect(madeWhy(entry?.cookie ?? 0), name).toBe('TLS_ESTABLISHED');
          expect(((entry?.cookie ?? 0) & MADE_DIR1) !== 0, name).toBe(side === 1);
          expect(entry?.made, name).toBeGreaterThan(0);
          const [down, up] = side === 0 ? [entry?.dirs[1], entry?.dirs[0]] : [entry?.dirs[0], entry?.dirs[1]];
          expect(down, name).toMatchObject({ pkts: 1, ipBytes: net.header + 20 + 900 });
          // Since it was made: exactly the payload that was dropped.
          expect(((down?.seq ?? 0) - (down?.began ?? 0)) >>> 0, name).toBe(900);
          expect(up, name).toMatchObject({ pkts: 1, ipBytes: net.header + 20 });
          expect(gate.run(talk.segment(0, 0, { flags: 'FA' })), name).toEqual({
            action: XDP_PASS,
            verdict: 'passClose',
          });
          expect(gate.read(key)?.ending, name).toBe(true);
          gate.client.remove(key.family, key.bytes);
          // The next connection on the tuple begins from nothing.
          expect(gate.run(talk.segment(1, record(DATA, 100))), name).toEqual({
            action: XDP_PASS,
            verdict: 'passNoEntry',
          });
          gate.run(talk.segment(0, 0, { flags: 'S' }));
        }
      expect(countsOf(gate).made.tls).toBe(frames.length * Object.keys(HANDSHAKES).length);
    },
  );

  kernelTest('is shunted inside of tunnels', [...FEATURES], () => {
    using gate = watching({}, { tunnels: ALL_TUNNELS });
    for (const net of NETS)
      for (const wrap of WRAPS) {
        const [, steps] = Object.entries(HANDSHAKES)[2];
        const talk = new Talk(net);
        const around = [{ wrap, family: 4 as const }];
        const inside = (side: 0 | 1, data: Uint8Array | number): PacketBuilder =>
          wrapped(around, (start) => {
            const ports = side === 0 ? PORTS : { sport: PORTS.dport, dport: PORTS.sport };
            const size = typeof data === 'number' ? data : data.length;
            const seq = talk.seq[side];
            talk.seq[side] += size;
            return (side === 0 ? net.there : net.back)(start)
              .tcp({ ...ports, seq, ack: talk.seq[side === 0 ? 1 : 0], flags: 'A', window: 100 })
              .payload(data);
          });
        for (const [side, data] of steps) expect(gate.run(inside(side, data)).action).toBe(XDP_PASS);
        expect(gate.run(inside(1, 900)), `${wrap.name}, IPv${net.family}`).toEqual({
          action: XDP_DROP,
          verdict: 'shunted',
        });
        const key = keyOf(net);
        expect(gate.read(key)?.made).toBeGreaterThan(0);
        gate.client.remove(key.family, key.bytes);
      }
  });

  kernelTest('is never shunted before', [...FEATURES], () => {
    const [ch, sh] = [record(22, 300, CLIENT), join(record(22, 122, SERVER), record(DATA, 900))];
    const nobody: Record<string, (talk: Talk) => PacketBuilder[]> = {
      'no ServerHello': (t) => [
        t.segment(0, ch),
        t.segment(1, record(DATA, 90)),
        t.segment(0, record(DATA, 90)),
        t.segment(1, record(DATA, 90)),
      ],
      'no ClientHello': (t) => [
        t.segment(1, sh),
        t.segment(0, record(DATA, 90)),
        t.segment(1, record(DATA, 90)),
      ],
      'early data': (t) => [
        t.segment(0, join(ch, record(DATA, 500))),
        t.segment(1, sh, { ack: 1000 + ch.length }),
        t.segment(1, record(DATA, 90)),
      ],
      // Sent before the server's answer had come, seen after it.
      'early data behind the ServerHello': (t) => [
        t.segment(0, ch),
        t.segment(1, sh),
        t.segment(0, record(DATA, 500), { ack: 5000 }),
        t.segment(1, record(DATA, 90)),
      ],
      'data of the server from before the client has finished': (t) => {
        const at = 1000 + ch.length;
        return [
          t.segment(0, ch),
          t.segment(1, sh),
          t.segment(0, record(DATA, 53)),
          t.segment(1, record(DATA, 90), { ack: at }),
          t.segment(1, record(DATA, 90), { ack: at }),
        ];
      },
      alerts: (t) => [
        t.segment(0, ch),
        t.segment(1, sh),
        t.segment(0, record(21, 2)),
        t.segment(1, record(21, 2)),
      ],
      'two clients': (t) => [
        t.segment(0, ch),
        t.segment(1, ch),
        t.segment(0, record(DATA, 90)),
        t.segment(1, record(DATA, 90)),
      ],
      'a connection in between': (t) => [
        t.segment(0, ch),
        t.segment(1, sh),
        t.segment(0, record(DATA, 53)),
        t.segment(0, 0, { flags: 'S' }),
        t.segment(1, record(DATA, 90)),
        t.segment(0, record(DATA, 90)),
        t.segment(1, record(DATA, 90)),
      ],
      'the end in between': (t) => [
        t.segment(0, ch),
        t.segment(1, sh),
        t.segment(0, record(DATA, 53)),
        t.segment(1, 0, { flags: 'R' }),
        t.segment(1, record(DATA, 90)),
        t.segment(0, record(DATA, 90)),
        t.segment(1, record(DATA, 90)),
      ],
      'payload that spells a record inside of another': (t) => {
        const inside = record(22, 600);
        inside.set(record(DATA, 20), 100);
        return [
          t.segment(0, ch),
          t.segment(1, join(record(22, 122, SERVER))),
          t.segment(0, inside.slice(0, 80)),
          t.segment(0, inside.slice(80)),
          t.segment(1, record(DATA, 90)),
        ];
      },
      'no TLS at all': (t) => [t.segment(0, 500), t.segment(1, 500), t.segment(0, 500), t.segment(1, 500)],
    };
    using gate = watching();
    for (const net of NETS)
      for (const [name, packets] of Object.entries(nobody)) {
        for (const packet of packets(new Talk(net))) {
          expect(gate.run(packet), name).toEqual({ action: XDP_PASS, verdict: 'passNoEntry' });
          expect(gate.read(keyOf(net)), name).toBeUndefined();
        }
        gate.run(new Talk(net).segment(0, 0, { flags: 'S' }));
      }
  });

  kernelTest('however its records are cut into segments', [...FEATURES], () => {
    using gate = watching();
    const steps = HANDSHAKES['TLS 1.3'];
    const key = keyOf(v4);
    for (const size of [1, 2, 3, 4, 5, 6, 7, 64, 1000]) {
      const talk = new Talk(v4);
      const name = `segments of ${size}`;
      let ended = false;
      for (const [i, [side, data]] of steps.entries()) {
        // A hello is looked for in one segment.
        const first = i < 2 ? Math.max(size, 6) : size;
        for (let at = 0; at < data.length; ) {
          const next = Math.min(data.length, at + (at === 0 ? first : size));
          const last = i === steps.length - 1 && !ended;
          expect(gate.run(talk.segment(side, data.slice(at, next))).action, name).toBe(
            ended ? XDP_DROP : XDP_PASS,
          );
          const shunted = gate.read(key) !== undefined;
          // With the segment in which the last header is whole.
          if (last && next >= 5) ended = true;
          expect(shunted, `${name}, step ${i} up to ${next}`).toBe(ended);
          at = next;
        }
      }
      gate.client.remove(key.family, key.bytes);
      gate.run(talk.segment(0, 0, { flags: 'S' }));
    }
  });

  kernelTest('in any order, with gaps and repeats: not before, and soon after', [...FEATURES], () => {
    using gate = watching();
    const key = keyOf(v4);
    let seed = 7;
    const random = (n: number): number => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
      return (seed >>> 8) % n;
    };
    for (let round = 0; round < 200; round++) {
      const talk = new Talk(v4);
      const [[, ch], [, sh], [, fin]] = HANDSHAKES['TLS 1.3'];
      for (const packet of [talk.segment(0, ch), talk.segment(1, sh)]) gate.run(packet);
      const early: PacketBuilder[] = [];
      for (let at = 0, from = talk.seq[0]; at < fin.length; ) {
        const next = Math.min(fin.length, at + 1 + random(90));
        const packet = talk.segment(0, fin.slice(at, next), { seq: from + at });
        early.push(packet);
        if (random(4) === 0) early.push(packet);
        at = next;
      }
      early.sort(() => random(3) - 1);
      // What the server says without having heard of it.
      const ack = 1000 + ch.length;
      early.splice(random(early.length), 0, talk.segment(1, record(DATA, 40), { ack }));
      for (const packet of early) {
        expect(gate.run(packet).action).toBe(XDP_PASS);
        expect(gate.read(key)).toBeUndefined();
      }
      // From here on it may be shunted; it has to be once both begin a segment with a record.
      gate.run(talk.segment(0, record(DATA, 30)));
      gate.run(talk.segment(1, record(DATA, 30)));
      gate.run(talk.segment(1, record(DATA, 30)));
      expect(gate.read(key), `round ${round}`).toBeDefined();
      gate.client.remove(key.family, key.bytes);
      gate.run(talk.segment(0, 0, { flags: 'S' }));
    }
  });
});

describe('by size', () => {
  kernelTest('of one direction in bytes or packets; acknowledgements do not count', [...FEATURES], () => {
    for (const net of NETS) {
      const key = keyOf(net);
      const each = net.header + 20 + PAYLOAD;
      for (const [name, watch] of Object.entries({
        bytes: { bytes: 10 * each },
        packets: { packets: 10 },
      } satisfies Record<string, Partial<GateWatch>>)) {
        using gate = watching(watch);
        const talk = new Talk(net);
        for (let i = 0; i < 9; i++)
          for (const packet of [talk.segment(0, PAYLOAD), talk.segment(1, PAYLOAD), talk.segment(1, 0)])
            expect(gate.run(packet), name).toEqual({ action: XDP_PASS, verdict: 'passNoEntry' });
        expect(gate.run(talk.segment(1, PAYLOAD)).action, name).toBe(XDP_PASS);
        expect(gate.run(talk.segment(1, PAYLOAD)), name).toEqual({ action: XDP_DROP, verdict: 'shunted' });
        expect(gate.run(talk.segment(0, PAYLOAD)), name).toEqual({ action: XDP_DROP, verdict: 'shunted' });
        const entry = gate.read(key);
        expect(madeWhy(entry?.cookie ?? 0), name).toBe(name === 'bytes' ? 'BULK' : 'PACKETS');
        expect(
          entry?.dirs.map((dir) => [dir.pkts, dir.ipBytes, dir.seq - (dir.began ?? 0)]),
          name,
        ).toEqual([
          [1, each, PAYLOAD],
          [1, each, PAYLOAD],
        ]);
        expect(entry?.owner, name).toBe(1);
      }
    }
  });

  kernelTest(
    'UDP and what has no ports as well; a direction that was silent learns its sequence',
    [...FEATURES],
    () => {
      using gate = watching({ packets: 3 });
      const udp = v4.there(eth()).udp(PORTS).payload(PAYLOAD);
      const esp = v4.there(eth(), 50).payload(PAYLOAD);
      for (const packet of [udp, esp]) {
        for (let i = 0; i < 3; i++) expect(gate.run(packet).action).toBe(XDP_PASS);
        expect(gate.run(packet)).toEqual({ action: XDP_DROP, verdict: 'shunted' });
      }
      expect(gate.read(gateKey(17, v4.a, v4.b))?.dirs[0]).toMatchObject({ pkts: 1, payloadBytes: PAYLOAD });
      const talk = new Talk(v4);
      for (let i = 0; i < 3; i++) gate.run(talk.segment(0, PAYLOAD));
      expect(gate.run(talk.segment(1, 0))).toEqual({ action: XDP_DROP, verdict: 'shunted' });
      expect(gate.run(talk.segment(1, PAYLOAD))).toEqual({ action: XDP_DROP, verdict: 'shunted' });
      const silent = gate.read(keyOf(v4))?.dirs[1];
      expect((silent?.seq ?? 0) - (silent?.began ?? 0)).toBe(PAYLOAD);
    },
  );

  kernelTest(
    'fragments and what is cut do not count; a connection that begins or ends counts anew',
    [...FEATURES],
    () => {
      using gate = watching({ packets: 3 });
      for (const net of NETS) {
        const talk = new Talk(net);
        for (let i = 0; i < 5; i++) gate.run(net.fragment(0, true, 6).payload(PAYLOAD));
        for (let i = 0; i < 5; i++) gate.run(net.there(eth()).tcp(TCP).payload(PAYLOAD).bytes().slice(0, 50));
        for (const flags of ['S', 'FA', 'RA']) {
          gate.run(talk.segment(0, PAYLOAD));
          gate.run(talk.segment(0, PAYLOAD));
          gate.run(talk.segment(1, 0, { flags }));
          expect(gate.read(keyOf(net)), flags).toBeUndefined();
        }
        for (let i = 0; i < 3; i++) expect(gate.run(talk.segment(0, PAYLOAD)).action).toBe(XDP_PASS);
        expect(gate.run(talk.segment(0, PAYLOAD)).action).toBe(XDP_DROP);
      }
    },
  );
});

describe('what holds it back', () => {
  kernelTest('exceptions', [...FEATURES], () => {
    for (const net of NETS) {
      using gate = watching({ packets: 3 });
      new Exceptions(gate.gate.table('exceptions')).add(net.b.addr);
      const talk = new Talk(net);
      for (let i = 0; i < 10; i++) expect(gate.run(talk.segment(0, PAYLOAD)).action).toBe(XDP_PASS);
      expect(gate.read(keyOf(net))).toBeUndefined();
      expect(countsOf(gate).excepted).toBe(1);
    }
  });

  kernelTest(
    'holds, and is shunted with the next packet once they are let go of',
    [...FEATURES],
    async () => {
      for (const net of NETS)
        for (const [name, watch] of Object.entries({
          packets: { packets: 3 },
          bytes: { bytes: 3000 },
          tls: {},
        })) {
          using gate = watching(watch);
          const held = new HeldFlows(
            () => gate.gate.table('held'),
            () => gate.client.grace(),
          );
          const key = { ...keyOf(net), sideOfA: 0 as const };
          await held.put([key, key]);
          const talk = new Talk(net);
          for (const [side, data] of HANDSHAKES['TLS 1.3']) gate.run(talk.segment(side, data));
          for (let i = 0; i < 10; i++)
            expect(gate.run(talk.segment(1, record(DATA, PAYLOAD))).action, name).toBe(XDP_PASS);
          expect(gate.read(key), name).toBeUndefined();
          expect(countsOf(gate), name).toMatchObject({ held: 1, made: { tls: 0, bytes: 0, packets: 0 } });
          const news: [Uint8Array, number][] = [];
          for (let i = 0; i < 2; i++) await held.news((bytes, times) => news.push([bytes, times]));
          expect(news, name).toEqual([[key.bytes, 1]]);
          expect(held.drop(key), name).toBe(0);
          expect(gate.run(talk.segment(1, record(DATA, PAYLOAD))).action, name).toBe(XDP_PASS);
          expect(gate.run(talk.segment(1, record(DATA, PAYLOAD))).action, name).toBe(XDP_DROP);
          expect(held.drop(key), name).toBe(0);
        }
    },
  );

  kernelTest('nobody who keeps the books: no lease, no shunt', [...FEATURES], () => {
    using gate = watching({ packets: 3, owner: WATCH_OWNER });
    const talk = new Talk(v4);
    for (let i = 0; i < 10; i++) expect(gate.run(talk.segment(0, PAYLOAD)).action).toBe(XDP_PASS);
    expect(countsOf(gate).made.packets).toBe(0);
  });

  kernelTest(
    'a full table: nobody else is put out, and it is asked again after as much again',
    [...FEATURES],
    () => {
      using gate = watching({ packets: 3 }, { maxShunts4: 2 });
      const flow = (sport: number) => v4.there(eth()).udp({ sport, dport: 9 }).payload(PAYLOAD);
      for (const sport of [1, 2, 3]) for (let i = 0; i < 3; i++) gate.run(flow(sport));
      expect([1, 2, 3].map((sport) => gate.run(flow(sport)).action)).toEqual([XDP_DROP, XDP_DROP, XDP_PASS]);
      expect(countsOf(gate)).toMatchObject({ made: { packets: 2 }, full: 1 });
      gate.client.remove(4, gateKey(17, { ...v4.a, port: 1 }, { ...v4.b, port: 9 }).bytes);
      for (let i = 0; i < 2; i++) expect(gate.run(flow(3)).action).toBe(XDP_PASS);
      expect(gate.run(flow(3)).action).toBe(XDP_DROP);
    },
  );

  kernelTest(
    'a flood of new flows takes no place of a shunt, nor that of a flow that goes on',
    [...FEATURES],
    () => {
      using gate = watching({ packets: 40, size: 4096 });
      const flow = (sport: number, dport: number) => v4.there(eth()).udp({ sport, dport }).payload(PAYLOAD);
      for (let i = 0; i < 40; i++) gate.run(flow(1, 9));
      const slow = new Talk(v4);
      for (let i = 0; i < 20_000; i++) {
        gate.gate.program.testRun({ data: flow(1024 + (i % 60_000), 10 + Math.floor(i / 60_000)).bytes() });
        // One packet of the watched one among five hundred others, ten times the size of the table in all.
        if (i % 500 === 0) gate.run(slow.segment(0, PAYLOAD));
        if (i % 1000 === 0) expect(gate.run(flow(1, 9)).verdict).toBe('shunted');
      }
      expect(gate.run(slow.segment(0, PAYLOAD)).verdict).toBe('shunted');
      const { begun, unwatched } = countsOf(gate);
      expect(begun + unwatched).toBeGreaterThan(19_000);
      expect(unwatched).toBeGreaterThan(0);
    },
  );
});

describe('entries that wait for a threshold', () => {
  const ways = { bytes: (each: number) => ({ bytes: 3 * each }), packets: () => ({ packets: 3 }) };
  for (const kind of ['xdp', 'socket'] as const)
    kernelTest(`pass until then, and then drop by themselves (${kind})`, [...FEATURES], () => {
      using gate = new TestGate({ thresholds: true, kind });
      for (const net of NETS)
        for (const [name, after] of Object.entries(ways)) {
          const key = keyOf(net);
          const talk = new Talk(net);
          const passed = { action: XDP_PASS, verdict: 'passArmed' };
          expect(gate.op('arm', key, { first: [1000, 5000], second: [5000, 1000] })).toBe(0);
          const later = { after: after(net.header + 20 + PAYLOAD), synced: [false, false] as const };
          expect(gate.op('flip', key, { first: [2, 0], later })).toBe(0);
          for (let i = 0; i < 2; i++)
            for (const side of [0, 1] as const)
              expect(gate.run(talk.segment(side, PAYLOAD)), name).toEqual(passed);
          expect(gate.read(key)?.threshold, name).toBe(true);
          expect(gate.run(talk.segment(1, PAYLOAD)), name).toEqual(passed);
          for (const side of [0, 1] as const)
            expect(gate.run(talk.segment(side, PAYLOAD)), name).toEqual({
              action: XDP_DROP,
              verdict: 'shunted',
            });
          const entry = gate.read(key);
          // What passed while it was armed is in no count, and T from before is.
          expect(
            entry?.dirs.map(({ pkts, seq, began, rexmits }) => [pkts, seq - (began ?? 0), rexmits]),
            name,
          ).toEqual([
            [1, PAYLOAD, 2],
            [1, PAYLOAD, 0],
          ]);
          expect(gate.run(talk.segment(0, 0, { flags: 'FA' })).verdict, name).toBe('passClose');
          gate.client.remove(key.family, key.bytes);
        }
    });

  kernelTest(
    'a FIN before it ends the entry; one that is synchronizing is not made to wait',
    [...FEATURES],
    () => {
      using gate = new TestGate({ thresholds: true });
      const key = keyOf(v4);
      const later = { after: { packets: 1 }, synced: [false, false] as const };
      gate.op('arm', key, { first: [1000, 5000], second: [5000, 1000] });
      expect(gate.op('sync', key, { first: [1000, 5000], second: [5000, 1000] })).toBe(0);
      const talk = new Talk(v4);
      // It passes the mark, which the owner has not seen.
      gate.run(talk.segment(0, PAYLOAD));
      expect(gate.op('flip', key, { later })).toBe(-11);
      expect(gate.op('flip', key, { later: { ...later, synced: [true, false] } })).toBe(-11);
      expect(gate.op('sync', key, { first: [1000, 5000], second: [5000, 1000] })).toBe(0);
      expect(gate.op('flip', key, { later })).toBe(0);
      expect(gate.run(talk.segment(0, 0, { flags: 'FA' })).verdict).toBe('passClose');
      expect(gate.run(talk.segment(0, PAYLOAD)).verdict).toBe('passEnding');
      expect(gate.read(key)?.pkts).toBe(0);
    },
  );
});
