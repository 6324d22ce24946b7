import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SAVED_FLOW_BYTES } from '../../src/flow/index.ts';
import { eth, ipv4, type PacketBuilder } from '../../src/packet/build.ts';
import { checksum } from '../../src/packet/checksum.ts';
import { type Packet, Tunnelled } from '../../src/packet/packet.ts';
import { Harness, packetOf } from './support/harness.ts';
import {
  A,
  answered,
  asked,
  B,
  gre,
  gtpBytes,
  inEthernet,
  outer,
  SNAP,
  TunnelHarness,
  teredoInner,
  vxlan,
} from './support/tunnel-frames.ts';

const nested = (levels: number) => {
  let bytes = asked().bytes();
  for (let level = levels; level > 0; level--)
    bytes = ipv4({ src: `10.${level}.0.1`, dst: `10.${level}.0.2` })
      .udp({ sport: 50_000, dport: 4789 })
      .vxlan()
      .payload(inEthernet(bytes).bytes())
      .bytes();
  return inEthernet(bytes);
};

const feed = (tunnelInKey: boolean) => {
  const harness = new TunnelHarness({ tunnelInKey });
  const slots = [5, 6].map((vni) => harness.feed(vxlan(A, B, asked().bytes(), vni), 1));
  const key = harness.engine.key(slots[0]);
  return { harness, slots, key };
};

describe('UDP carriers', () => {
  const kinds: [string, number, string, Uint8Array][] = [
    ['VXLAN', 4789, 'vxlan', Uint8Array.of(8, 0, 0, 0, 0, 0, 5, 0, ...inEthernet(asked().bytes()).bytes())],
    ['GENEVE', 6081, 'geneve', Uint8Array.of(0, 0, 8, 0, 0, 0, 5, 0, ...asked().bytes())],
    ['GTPv1', 2152, 'gtpv1', gtpBytes(asked().bytes())],
    ['GTPv1', 2123, 'gtpv1', gtpBytes(asked().bytes())],
    ['AYIYA', 5072, 'ayiya', Uint8Array.of(0, 0, 1, 4, 0, 0, 0, 0, 0, ...asked().bytes())],
  ];
  test.each(kinds)('%s on port %i', (type, port, service, payload) => {
    const harness = new TunnelHarness();
    harness.feed(outer(A, B, port).payload(payload), 100);
    harness.engine.advance(170);
    const { inner, outer: around } = harness.split();
    expect(around).toMatchObject([{ service, origHost: A, respPort: port, history: 'D', origPkts: 1 }]);
    expect(inner).toMatchObject([
      { origHost: '10.0.0.1', respPort: 2000, origIpBytes: 58, tunnelParents: [around[0].uid] },
    ]);
    const id = { uid: around[0].uid, origHost: A, origPort: 50_000, respHost: B, respPort: port, type };
    expect(harness.log).toEqual([
      { ts: 100, ...id, action: 'DISCOVER' },
      { ts: 170, ...id, action: 'CLOSE' },
    ]);
  });

  test('a flip of the outer flow shows the responder, whose port decides', () => {
    const harness = new TunnelHarness();
    harness.feed(
      eth()
        .ipv4({ src: B, dst: A })
        .udp({ sport: 6081, dport: 50_000 })
        .geneve({ protocol: 0x0800 })
        .payload(asked().bytes()),
      100,
    );
    const { inner, outer: around } = harness.split();
    expect(around).toMatchObject([{ origHost: A, respPort: 6081, history: '^d' }]);
    expect(inner).toHaveLength(1);
  });

  test('both directions to the well-known port are two carriers, and both are parents', () => {
    const harness = new TunnelHarness();
    harness.feed(vxlan(A, B, asked().bytes()), 100);
    harness.feed(vxlan(B, A, answered().bytes()), 101);
    const { inner, outer: around } = harness.split();
    expect(around.map(({ connState }) => connState)).toEqual(['S0', 'S0']);
    expect(inner).toMatchObject([{ connState: 'SF', tunnelParents: around.map(({ uid }) => uid) }]);
    expect(harness.log.map(({ action }) => action)).toEqual(['DISCOVER', 'DISCOVER', 'CLOSE', 'CLOSE']);
  });

  test('Teredo: confirmed by both sides, found by its content on any port', () => {
    const harness = new TunnelHarness();
    const send = (back: boolean, port: number) =>
      harness.feed(
        (back
          ? eth().ipv4({ src: B, dst: A }).udp({ sport: port, dport: 50_000 })
          : outer(A, B, port)
        ).payload(teredoInner(back).bytes()),
        100,
      );
    send(false, 3544);
    send(false, 9999);
    send(true, 9999);
    const { inner, outer: around } = harness.split();
    expect(new Map(around.map(({ respPort, service }) => [respPort, service]))).toEqual(
      new Map([
        [3544, undefined],
        [9999, 'teredo'],
      ]),
    );
    expect(inner).toMatchObject([{ connState: 'SF', origIpBytes: 112 }]);
  });

  test('a bad outer checksum leaves the inside alone', () => {
    const harness = new TunnelHarness();
    harness.feed(
      eth()
        .ipv4({ src: A, dst: B })
        .udp({ dport: 4789 })
        .badChecksum()
        .vxlan()
        .payload(inEthernet(asked().bytes()).bytes()),
      1,
    );
    expect(harness.only()).toMatchObject({ history: 'C', service: undefined });
  });

  test('a bad inner checksum counts inside', () => {
    const harness = new TunnelHarness();
    harness.feed(outer(A, B, 4789).vxlan().eth().ipv4().udp().badChecksum().payload(9), 1);
    expect(harness.split().inner).toMatchObject([{ history: 'C', origPkts: 0 }]);
  });

  test('what is no VXLAN after all is no tunnel any more', () => {
    const harness = new TunnelHarness();
    harness.feed(outer(A, B, 4789).payload(40), 1);
    harness.feed(vxlan(A, B, asked().bytes()), 2);
    expect(harness.only()).toMatchObject({ service: undefined, origPkts: 2 });
  });

  test('GTP goes on after other messages, and is never in GTP', () => {
    const harness = new TunnelHarness();
    harness.feed(outer(A, B, 2152).payload(Uint8Array.of(0x48, 1, 0, 0, 0, 0, 0, 0)), 1);
    harness.feed(outer(A, B, 2152).payload(gtpBytes(asked().bytes())), 2);
    const nested = ipv4().udp({ dport: 2152 }).payload(gtpBytes(answered().bytes()));
    harness.feed(outer(A, B, 2152).payload(gtpBytes(nested.bytes())), 3);
    expect(
      harness
        .split()
        .inner.map(({ respPort }) => respPort)
        .sort((a, b) => a - b),
    ).toEqual([2000, 2152]);
  });

  test('a cut capture: lengths of the headers count inside too', () => {
    const frame = vxlan(A, B, ipv4().udp({ sport: 1, dport: 2 }).payload(1000).bytes()).bytes();
    const harness = new TunnelHarness();
    harness.feed(frame.subarray(0, 120), 1, { wirelen: frame.length });
    expect(harness.split().inner).toMatchObject([{ origPkts: 1, origIpBytes: 1028, history: 'D' }]);
  });
});

describe('IP carriers', () => {
  test('GRE: one tunnel for both directions, in no line of conn.log', () => {
    const harness = new TunnelHarness();
    harness.feed(gre(A, B, asked().bytes()), 100);
    harness.feed(gre(B, A, answered().bytes()), 101);
    const { inner, outer: around } = harness.split();
    expect(around).toEqual([]);
    expect(inner).toMatchObject([{ connState: 'SF', history: 'Dd' }]);
    expect(harness.log).toEqual([
      {
        ts: 100,
        uid: inner[0].tunnelParents?.[0],
        origHost: A,
        origPort: 0,
        respHost: B,
        respPort: 0,
        type: 'GRE',
        action: 'DISCOVER',
      },
    ]);
  });

  const ip: [string, PacketBuilder][] = [
    ['4 in 4', eth().ipv4({ src: A, dst: B, protocol: 4 }).payload(asked().bytes())],
    ['6 in 4', eth().ipv4({ src: A, dst: B, protocol: 41 }).payload(teredoInner().bytes())],
    ['4 in 6', eth().ipv6({ nextHeader: 4 }).payload(asked().bytes())],
    ['6 in 6', eth().ipv6({ nextHeader: 41 }).payload(teredoInner().bytes())],
  ];
  test.each(ip)('%s', (_name, frame) => {
    const harness = new TunnelHarness();
    const slot = harness.feed(frame, 100);
    expect(harness.engine.proto(slot)).toBe(17);
    expect(harness.only()).toMatchObject({ respPort: 2000, tunnelParents: [expect.stringMatching(/^C/)] });
    expect(harness.log).toMatchObject([{ type: 'IP', action: 'DISCOVER' }]);
  });

  test('GRE in UDP is a tunnel between addresses, its carrier has no service', () => {
    const harness = new TunnelHarness();
    harness.feed(outer(A, B, 4754).gre({ protocol: 0x0800 }).payload(asked().bytes()), 1);
    const { inner, outer: around } = harness.split();
    expect(around).toMatchObject([{ service: undefined }]);
    expect(inner[0].tunnelParents).not.toEqual([around[0].uid]);
  });

  test('IP in IP that does not fill its packet is left out', () => {
    const harness = new TunnelHarness();
    expect(
      harness.feed(
        eth()
          .ipv4({ protocol: 4 })
          .payload(Uint8Array.of(...asked().bytes(), 0)),
        1,
      ),
    ).toBe(-1);
    expect(harness.engine.stats.ignored[9]).toBe(1);
  });

  test('an hour without a new connection: expired; one more: discovered anew', () => {
    const harness = new TunnelHarness();
    harness.feed(gre(A, B, asked().bytes()), 100);
    harness.engine.advance(3600);
    expect(harness.log.map(({ action }) => action)).toEqual(['DISCOVER']);
    harness.engine.advance(3800);
    harness.feed(gre(A, B, asked().bytes()), 4000);
    expect(harness.log.map(({ action }) => action)).toEqual(['DISCOVER', 'EXPIRE', 'DISCOVER']);
    expect(new Set(harness.log.map(({ uid }) => uid)).size).toBe(1);
  });
});

test('tunnels between addresses are bounded: the oldest is forgotten', () => {
  const harness = new TunnelHarness({ maxFlows: 16 });
  const inner = asked().bytes();
  const frame = gre('10.0.0.0', B, inner).bytes();
  for (let i = 0; i < 65_537; i++) {
    // Another outer source address: by hand, for the builder is slow.
    frame[28] = i >> 8;
    frame[29] = i;
    frame[27] = i >> 16;
    frame.fill(0, 24, 26);
    const sum = checksum(frame, 14, 20);
    frame[24] = sum >> 8;
    frame[25] = sum;
    harness.feed(frame, 100);
  }
  const actions = harness.log.map(({ action }) => action);
  // The flow inside follows its tunnels for five changes only.
  expect(actions).toEqual(Array.from({ length: 6 }, () => 'DISCOVER').concat('EXPIRE'));
  expect(harness.log[6].origHost).toBe('10.0.0.0');
});

describe('tunnels in tunnels', () => {
  test('four are taken apart, and each line names the one around it', () => {
    const harness = new TunnelHarness();
    harness.feed(nested(4), 1);
    const records = harness.finish();
    expect(records.map(({ history }) => history)).toEqual(['D', 'D', 'D', 'D', 'D']);
    expect(records.map(({ tunnelParents }) => tunnelParents)).toEqual([
      undefined,
      ...records.slice(0, 4).map(({ uid }) => [uid]),
    ]);
  });

  test('a fifth is not: X', () => {
    const harness = new TunnelHarness();
    harness.feed(nested(5), 1);
    expect(harness.finish().map(({ history, service }) => [history, service])).toEqual([
      ...Array.from({ length: 4 }, () => ['D', 'vxlan']),
      ['DX', undefined],
    ]);
  });

  test('more than five changes of the tunnels: X, once', () => {
    for (const [packets, history] of [
      [6, 'Dd'],
      [7, 'DdX'],
      [30, 'DdX'],
    ] as const) {
      const harness = new TunnelHarness();
      for (let i = 0; i < packets; i++)
        harness.feed(i % 2 === 0 ? vxlan(A, B, asked().bytes()) : vxlan(B, A, answered().bytes()), 100 + i);
      expect(harness.split().inner).toMatchObject([{ history }]);
    }
  });

  test('with and without a tunnel is a change, and the same connection', () => {
    const harness = new TunnelHarness();
    for (let i = 0; i < 7; i++)
      harness.feed(i % 2 === 0 ? inEthernet(asked().bytes()) : gre(A, B, asked().bytes()), 100 + i);
    const { inner } = harness.split();
    expect(inner).toMatchObject([{ history: 'DX', origPkts: 7 }]);
    expect(inner[0].tunnelParents).toHaveLength(1);
  });
});

describe('identifiers', () => {
  test('networks are told apart by option, in keys of 48 bytes', () => {
    const apart = feed(true);
    expect(apart.key.family).toBe(6);
    expect(Buffer.from(apart.key.bytes.subarray(36)).toString('hex')).toBe('110000000500000100000000');
    expect(apart.harness.engine.find(6, apart.key.bytes, 0)).toBe(apart.slots[0]);
    expect(apart.harness.split().inner.map(({ vxlanVni, origHost }) => [vxlanVni, origHost])).toEqual([
      [5, '10.0.0.1'],
      [6, '10.0.0.1'],
    ]);
    const together = feed(false);
    expect(together.key.family).toBe(4);
    expect(together.harness.split().inner).toMatchObject([{ vxlanVni: 5, origPkts: 2 }]);
  });

  test('VLANs are those inside', () => {
    const harness = new TunnelHarness();
    harness.feed(
      eth()
        .vlan(7)
        .ipv4({ src: A, dst: B })
        .udp({ dport: 4789 })
        .vxlan()
        .eth()
        .vlan(9)
        .ipv4()
        .tcp({ flags: 'S' }),
      1,
    );
    expect(harness.finish().map(({ proto, vlan }) => [proto, vlan])).toEqual([
      ['udp', 7],
      ['tcp', 9],
    ]);
  });

  test('neither a tunnel nor what is inside may be dropped before it is seen', () => {
    const harness = new TunnelHarness();
    const inner = harness.feed(vxlan(A, B, asked().bytes()), 1);
    expect(harness.engine.isShuntable(inner)).toBe(false);
    const carrier = harness.feed(outer(A, B, 4789).payload(Uint8Array.of(8, 0, 0, 0, 0, 0, 0, 0)), 1);
    expect([carrier === inner, harness.engine.isShuntable(carrier)]).toEqual([false, false]);
  });
});

test('a full table may end the carrier of the packet in work', () => {
  const harness = new TunnelHarness({ maxFlows: 16 });
  for (let i = 0; i < 400; i++) {
    const inner = ipv4({ src: '10.0.0.1', dst: `10.1.${i >> 8}.${i & 255}` })
      .udp()
      .payload(8);
    harness.feed(vxlan(A, `10.2.${i >> 8}.${i & 255}`, inner.bytes()), 100 + i / 100);
  }
  const records = harness.finish();
  expect(records).toHaveLength(800);
  expect(harness.log.filter(({ action }) => action === 'DISCOVER')).toHaveLength(400);
  expect(harness.log.filter(({ action }) => action === 'CLOSE')).toHaveLength(400);
});

test('no frames make it throw, and each connection is a line', () => {
  const seeds = [
    vxlan(
      A,
      B,
      vxlan(A, B, gre(A, B, asked().bytes()).bytes().subarray(14))
        .bytes()
        .subarray(14),
    ).bytes(),
    outer(A, B, 6081)
      .geneve({ options: [{ class: 1, type: 2, data: new Uint8Array(8) }] })
      .eth()
      .vlan(3)
      .ipv6()
      .tcp({ flags: 'S' })
      .bytes(),
    outer(A, B, 2152).payload(gtpBytes(asked().bytes())).bytes(),
    outer(A, B, 3544).payload(teredoInner().bytes()).bytes(),
    outer(A, B, 4754).gre({ key: 1 }).ipv4().icmp().bytes(),
    eth()
      .ipv4({ protocol: 41 })
      .payload(eth().ipv6().fragment({ offset: 0, more: true, id: 1 }).udp().payload(40).bytes().subarray(14))
      .bytes(),
    eth().ipv6().fragment({ offset: 48, more: false, id: 1 }).payload(40).bytes(),
    eth()
      .ipv4()
      .gre({ protocol: 0x8200 })
      .payload(
        Uint8Array.of(
          0x88,
          2,
          ...new Uint8Array(22),
          0x80,
          0,
          ...new Uint8Array(12),
          0,
          66,
          ...SNAP,
          ...asked().bytes(),
        ),
      )
      .bytes(),
  ];
  const step = fc.tuple(
    fc.constantFrom(...seeds),
    fc.array(fc.tuple(fc.integer({ min: 12, max: 160 }), fc.nat(255)), { maxLength: 4 }),
    fc.nat(160),
    fc.double({ min: -1, max: 100, noNaN: true }),
  );
  fc.assert(
    fc.property(
      fc.array(step, { maxLength: 40 }),
      fc.boolean(),
      fc.boolean(),
      (steps, tunnelInKey, checksums) => {
        const harness = new TunnelHarness({ maxFlows: 16, tunnelInKey, checksums });
        let ts = 1000;
        for (const [seed, changes, cut, wait] of steps) {
          const bytes = seed.slice();
          for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
          ts += wait;
          harness.engine.process(
            packetOf(bytes.subarray(0, Math.max(0, bytes.length - cut)), ts, { wirelen: bytes.length }),
          );
        }
        expect(harness.finish()).toHaveLength(harness.engine.stats.opened);
        expect(harness.engine.active).toBe(0);
      },
    ),
    { numRuns: 400 },
  );
});

const vnis = (harness: Harness) =>
  harness.finish().map(({ vxlanVni, geneveVni, origPkts }) => [vxlanVni, geneveVni, origPkts]);

describe('frames out of a mirror', () => {
  const frame = eth().ipv4({ src: '10.0.0.1', dst: '10.0.0.2' }).udp({ sport: 1000, dport: 2000 });
  /** One frame in VXLAN 5 and 6 each, in GENEVE 5, in VXLAN 5 inside of GENEVE 9, and in none. */
  const MIRRORED: Partial<Packet>[] = [
    { tunnel: Tunnelled.vxlan, vni: 5 },
    { tunnel: Tunnelled.vxlan, vni: 6 },
    { tunnel: Tunnelled.geneve, vni: 5 },
    { tunnel: Tunnelled.vxlan, vni: 5, outerVni: 9 },
    {},
  ];

  function mirrored(tunnelInKey: boolean, frames: readonly Uint8Array[]): Harness {
    const harness = new Harness({ tunnelInKey });
    let ts = 100;
    for (const bytes of frames)
      for (const fields of MIRRORED) harness.engine.process(Object.assign(packetOf(bytes, ts++), fields));
    return harness;
  }

  test('are told apart by the identifiers of their tunnels, by the same option', () => {
    const bytes = frame.payload(20).bytes();
    expect(vnis(mirrored(true, [bytes, bytes]))).toEqual([
      [5, undefined, 2],
      [6, undefined, 2],
      [undefined, 5, 2],
      [5, 9, 2],
      [undefined, undefined, 2],
    ]);
    // Without it they are one connection, which began in the first of them.
    expect(vnis(mirrored(false, [bytes, bytes]))).toEqual([[5, undefined, 10]]);
  });

  test('in batches too', () => {
    const harness = new Harness({ tunnelInKey: true });
    const bytes = frame.payload(20).bytes();
    const packets = MIRRORED.map((fields, i) => Object.assign(packetOf(bytes, 100 + i), fields));
    harness.engine.processBatch(packets, packets.length);
    expect(vnis(harness)).toHaveLength(5);
  });

  test('have keys as the gate has them', () => {
    const harness = mirrored(true, [frame.payload(20).bytes()]);
    const ends = [0, 1, 2, 3].map((slot) =>
      Buffer.from(harness.engine.key(slot).bytes.subarray(40)).toString('hex'),
    );
    expect(ends).toEqual(['0500000100000000', '0600000100000000', '0000000005000001', '0500000109000001']);
    expect(harness.engine.key(4).family).toBe(4);
  });

  test('fragments of two networks are not put together', () => {
    const whole = ipv4().udp({ sport: 1, dport: 2 }).payload(1600).bytes().subarray(20);
    const pieces = [0, 1].map((i) =>
      eth()
        .ipv4({ id: 7, protocol: 17, fragment: { offset: i * 800, more: i === 0 } })
        .payload(whole.subarray(i * 800, i === 0 ? 800 : whole.length))
        .bytes(),
    );
    expect(vnis(mirrored(true, pieces)).map(([, , packets]) => packets)).toEqual([1, 1, 1, 1, 1]);
    const half = new Harness({ tunnelInKey: true });
    pieces.forEach((piece, i) =>
      half.engine.process(Object.assign(packetOf(piece, 100 + i), { tunnel: Tunnelled.vxlan, vni: 5 + i })),
    );
    expect(vnis(half)).toEqual([]);
  });

  test('a tunnel inside of a mirrored frame has its own identifier', () => {
    const harness = new TunnelHarness({ tunnelInKey: true });
    const inner = vxlan(A, B, asked().bytes(), 77).bytes();
    for (const vni of [5, 6])
      harness.engine.process(Object.assign(packetOf(inner, 100 + vni), { tunnel: Tunnelled.geneve, vni }));
    const { inner: inside, outer: around } = harness.split();
    expect(around.map(({ vxlanVni, geneveVni }) => [vxlanVni, geneveVni])).toEqual([
      [undefined, 5],
      [undefined, 6],
    ]);
    expect(inside.map(({ vxlanVni, geneveVni }) => [vxlanVni, geneveVni])).toEqual([
      [77, 5],
      [77, 6],
    ]);
  });

  test('identifiers outlive a restart', () => {
    const harness = mirrored(false, [frame.payload(20).bytes()]);
    const { engine } = harness;
    const saved = new Uint8Array(SAVED_FLOW_BYTES);
    engine.save(0, saved);
    const { family, bytes } = engine.key(0);
    const other = new Harness({});
    other.engine.restore(family, bytes, saved);
    expect(vnis(other)).toEqual([[5, undefined, 5]]);
  });
});
