import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type FlowEngineOptions,
  KEY4_BYTES,
  KEY6_BYTES,
  type Side,
  writeGateKey,
} from '../../src/flow/index.ts';
import { ipBytes } from '../../src/packet/address.ts';
import { eth, type PacketBuilder } from '../../src/packet/build.ts';
import { seeded } from '../../src/packet/conversation.ts';
import { comparable, Harness, handshake, noDelta, packetOf, segment } from './support/harness.ts';

const udp = (sport: number, dport: number, bytes = 10) =>
  eth().ipv4({ src: '10.0.0.1', dst: '10.0.0.9' }).udp({ sport, dport }).payload(bytes);
const answer = (sport: number, dport: number, bytes = 10) =>
  eth().ipv4({ src: '10.0.0.9', dst: '10.0.0.1' }).udp({ sport, dport }).payload(bytes);

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

const first = (frame: PacketBuilder, options: FlowEngineOptions = {}) => {
  const harness = new Harness(options);
  harness.feed(frame, 1);
  const { origPort, history } = harness.only();
  return [origPort, history];
};

const tcp = (sport: number, dport: number, flags: string) => eth().ipv4().tcp({ sport, dport, flags });

const dnsRecords = (bare: boolean, last: number) => {
  const harness = new Harness({ bare });
  harness.feed(udp(1000, 53), 100);
  harness.feed(answer(53, 1000), last);
  harness.feed(eth().ipv4().sctp(), 110.2);
  return harness.records.length;
};

const mapped = (last: string) => `${'00'.repeat(10)}ffff0a0000${last}`;

const addressBytes = (host: string) => ipBytes(host) as Uint8Array;

const localFlags = (src: string, dst: string, options: FlowEngineOptions = {}) => {
  const harness = new Harness(options);
  const ip = src.includes(':') ? eth().ipv6({ src, dst }) : eth().ipv4({ src, dst });
  harness.feed(ip.udp({ sport: 1, dport: 2 }), 1);
  const { localOrig, localResp } = harness.only();
  return [localOrig, localResp];
};

describe('ends by time', () => {
  test('an attempt that nobody answers ends 5 s after its SYN, data or not', () => {
    const harness = new Harness();
    harness.feed(segment('client', 'S', 1000, 0), 100);
    harness.feed(segment('client', 'PA', 1001, 1, 10), 104.9);
    harness.feed(segment('client', 'PA', 1011, 1, 10), 105.1);
    expect(harness.finish()).toMatchObject([
      { connState: 'S0', history: 'SD', origPkts: 2, ts: 100 },
      { connState: 'OTH', history: 'D', origPkts: 1, ts: 105.1 },
    ]);
  });

  test('SYN retries within 5 s are one connection, later ones another', () => {
    const harness = new Harness();
    for (const ts of [100, 101, 103, 107]) harness.feed(segment('client', 'S', 1000, 0), ts);
    expect(harness.finish()).toMatchObject([
      { connState: 'S0', history: 'S', origPkts: 3, duration: 3 },
      { connState: 'S0', history: 'S', origPkts: 1, duration: undefined, origBytes: undefined },
    ]);
  });

  test('a closed connection lingers for 5 s after the last packet that counts', () => {
    for (const [late, packets] of [
      [4.9, 4],
      [5.1, 3],
    ] as const) {
      const harness = new Harness();
      handshake(harness, 100);
      harness.feed(segment('client', 'FA', 1001, 5001), 101);
      harness.feed(segment('server', 'FA', 5001, 1002), 102);
      harness.feed(segment('client', 'A', 1002, 5002), 102 + late);
      const [record] = harness.finish();
      expect(record).toMatchObject({ connState: 'SF', duration: 2, origPkts: packets });
    }
  });

  test('a RST does not keep its peer from counting, but the end comes 5 s after it', () => {
    const harness = new Harness();
    handshake(harness, 100);
    harness.feed(segment('client', 'RA', 1001, 5001), 101);
    harness.feed(segment('server', 'PA', 5001, 1001, 100), 104);
    harness.feed(segment('server', 'PA', 5101, 1001, 100), 106.5);
    expect(harness.finish()).toMatchObject([
      { connState: 'RSTO', history: 'ShARd', duration: 4, respPkts: 2 },
      { connState: 'OTH', history: 'D', origHost: '192.0.2.1' },
    ]);
  });

  test('FIN and RST of one side end it when a look every 6 s finds 5 s of silence', () => {
    const harness = new Harness();
    handshake(harness, 100);
    harness.feed(segment('client', 'FA', 1001, 5001), 101);
    harness.feed(segment('client', 'RA', 1002, 5001), 101.1);
    harness.engine.advance(106);
    expect(harness.records).toHaveLength(0);
    harness.engine.advance(108);
    expect(harness.records).toMatchObject([{ connState: 'RSTO', history: 'ShAFR' }]);
  });

  test('a half-closed connection is kept for the inactivity timeout', () => {
    const harness = new Harness();
    handshake(harness, 100);
    harness.feed(segment('client', 'FA', 1001, 5001), 101);
    harness.engine.advance(400);
    expect(harness.records).toHaveLength(0);
    harness.engine.advance(402);
    expect(harness.records).toMatchObject([{ connState: 'S2' }]);
  });

  const idle: [string, FlowEngineOptions, (harness: Harness) => number, number][] = [
    ['UDP', {}, (harness) => harness.feed(udp(1000, 2000), 100), 60],
    ['ICMP', {}, (harness) => harness.feed(eth().ipv4().icmp(), 100), 60],
    ['other protocols', {}, (harness) => harness.feed(eth().ipv4().sctp(), 100), 60],
    ['a TCP handshake', {}, (harness) => harness.feed(segment('server', 'SA', 1, 2), 100), 60],
    ['TCP in the middle', {}, (harness) => harness.feed(segment('client', 'A', 1, 2), 100), 300],
    ['TCP', {}, (harness) => handshake(harness, 99.98), 300],
    ['an option', { timeouts: { udp: 7 } }, (harness) => harness.feed(udp(1000, 2000), 100), 7],
  ];
  test.each(idle)('silence: %s', (_name, options, begin, seconds) => {
    const harness = new Harness(options);
    const slot = begin(harness);
    if (seconds !== 60 || harness.engine.proto(slot) !== 6) {
      expect(harness.engine.idleTimeout(slot)).toBe(seconds);
    }
    const until = seconds === 60 && harness.engine.proto(slot) === 6 ? 5 : seconds;
    harness.engine.advance(100 + until - 0.5);
    expect(harness.engine.active).toBe(1);
    harness.engine.advance(100 + until + 0.5);
    expect(harness.engine.active).toBe(0);
  });

  test('an established connection to a port of people at keyboards is kept for an hour', () => {
    const harness = new Harness();
    const ssh = { dst: '192.0.2.1' };
    const back = { src: '192.0.2.1', dst: '10.0.0.1' };
    harness.feed(eth().ipv4(ssh).tcp({ dport: 22, flags: 'S', seq: 1 }), 100);
    harness.feed(eth().ipv4(back).tcp({ sport: 22, dport: 40_000, flags: 'SA', seq: 9, ack: 2 }), 100.1);
    const slot = harness.feed(eth().ipv4(ssh).tcp({ dport: 22, seq: 2, ack: 10 }), 100.2);
    expect(harness.engine.idleTimeout(slot)).toBe(3600);
    harness.engine.advance(3700);
    expect(harness.engine.active).toBe(1);
    harness.engine.advance(3701);
    expect(harness.engine.active).toBe(0);
  });

  test('a packet after the timeout is another flow, to the point', () => {
    for (const [ts, flows] of [
      [159.99, 1],
      [160, 2],
    ] as const) {
      const harness = new Harness();
      harness.feed(udp(1000, 2000), 100);
      harness.feed(udp(1000, 2000), ts);
      expect(harness.finish()).toHaveLength(flows);
    }
  });

  test('DNS is looked at every 10 s and ends after 9 s of silence; not in a bare run', () => {
    expect(dnsRecords(false, 100.5)).toBe(1);
    expect(dnsRecords(false, 103)).toBe(0);
    expect(dnsRecords(true, 100.5)).toBe(0);
  });

  test('timers run whatever the length of the leap, and a time that goes back does not undo it', () => {
    const harness = new Harness();
    harness.feed(udp(1000, 2000), 100);
    harness.engine.advance(4e9);
    expect(harness.engine.active).toBe(0);
    harness.feed(udp(1000, 2000), 50);
    harness.feed(udp(1000, 2000), 51);
    expect(harness.finish()).toHaveLength(3);
  });

  test('a step back of the clock, when it is to be followed', () => {
    const harness = new Harness({ clockStep: 30 });
    harness.feed(udp(1000, 2000), 5000);
    harness.feed(udp(1001, 2000), 1400);
    harness.feed(udp(1001, 2000), 1410);
    expect(harness.records).toHaveLength(0);
    harness.engine.advance(1471);
    expect(harness.records).toMatchObject([{ origPort: 1001, origPkts: 2, duration: 10 }]);
  });
});

describe('a new connection on the same tuple', () => {
  test('a SYN on a closed one, with the same sequence number too', () => {
    const harness = new Harness();
    for (const ts of [100, 101, 102]) {
      harness.feed(segment('client', 'S', 1000, 0), ts);
      harness.feed(segment('server', 'RA', 0, 1001), ts + 0.1);
    }
    expect(harness.finish()).toMatchObject([
      { connState: 'REJ', history: 'Sr' },
      { connState: 'REJ', history: 'Sr' },
      { connState: 'REJ', history: 'Sr' },
    ]);
  });

  test('a SYN on an open one: the same sequence number is a retransmission, another begins anew', () => {
    const harness = new Harness();
    handshake(harness, 100);
    harness.feed(segment('client', 'S', 1000, 0), 101);
    expect(harness.records).toHaveLength(0);
    harness.feed(segment('client', 'S', 9000, 0), 102);
    expect(harness.finish()).toMatchObject([
      { connState: 'S1', history: 'ShA', origPkts: 3 },
      { connState: 'S0', history: 'S' },
    ]);
  });

  test('a slot that is used again has another generation', () => {
    const harness = new Harness();
    const slot = harness.feed(udp(1000, 2000), 100);
    const generation = harness.engine.generation(slot);
    harness.engine.advance(200);
    expect(harness.engine.isOpen(slot)).toBe(false);
    expect(harness.feed(udp(1000, 2000), 201)).toBe(slot);
    expect(harness.engine.generation(slot)).not.toBe(generation);
  });
});

describe('direction', () => {
  test.each([
    ['UDP from a server port', udp(53, 1000), [1000, '^d']],
    ['UDP between server ports', udp(53, 123), [53, 'D']],
    ['TCP from a server port', tcp(80, 1000, 'PA'), [1000, '^a']],
    ['a SYN is never turned', tcp(80, 1000, 'S'), [80, 'S']],
    ['SYN-ACK from a server port', tcp(80, 1000, 'SA'), [1000, '^h']],
    ['both server ports, lower first', tcp(80, 443, 'A'), [443, '^a']],
    ['both server ports, higher first', tcp(443, 80, 'A'), [443, 'A']],
    ['both server ports, SYN-ACK', tcp(80, 443, 'SA'), [80, 'H']],
    [
      'to the broadcast address',
      eth().ipv4({ dst: '255.255.255.255' }).udp({ sport: 67, dport: 68 }),
      [67, 'D'],
    ],
  ])('%s', (_name, frame, expected) => {
    expect(first(frame)).toEqual(expected);
  });
  test('a bare run knows the tunnel ports only, unless it is told', () => {
    expect(first(udp(53, 1000), { bare: true })).toEqual([53, 'D']);
    expect(first(udp(4789, 1000), { bare: true })).toEqual([1000, '^d']);
    expect(first(udp(53, 1000), { bare: true, likelyServerPorts: { tcp: [], udp: [53] } })).toEqual([
      1000,
      '^d',
    ]);
  });
});

describe('ICMP', () => {
  test('pings of one host to another are one flow, whatever their identifiers', () => {
    const harness = new Harness();
    const out = eth().ipv4({ src: '10.0.0.2', dst: '10.0.0.1' });
    const back = eth().ipv4({ src: '10.0.0.1', dst: '10.0.0.2' });
    harness.feed(out.icmp({ type: 8, id: 1 }).payload(56), 1);
    harness.feed(back.icmp({ type: 0, id: 1 }).payload(56), 2);
    harness.feed(out.icmp({ type: 8, id: 2 }).payload(56), 3);
    expect(harness.only()).toMatchObject({
      proto: 'icmp',
      ipProto: 1,
      origPort: 8,
      respPort: 0,
      origBytes: 112,
      respBytes: 56,
      connState: 'OTH',
      history: undefined,
      duration: 2,
    });
  });

  test('one-way types: both directions, and each code, are flows of their own', () => {
    const harness = new Harness();
    const a = eth().ipv6({ src: 'fd00::1', dst: 'fd00::2' });
    const b = eth().ipv6({ src: 'fd00::2', dst: 'fd00::1' });
    harness.feed(a.icmpv6({ type: 1, code: 4 }).payload(48), 1);
    harness.feed(b.icmpv6({ type: 1, code: 4 }).payload(48), 2);
    harness.feed(a.icmpv6({ type: 1, code: 3 }).payload(48), 3);
    harness.feed(a.icmpv6({ type: 1, code: 4 }).payload(48), 4);
    const records = harness
      .finish()
      .map(({ origHost, origPort, respPort, origPkts }) => [origHost, origPort, respPort, origPkts]);
    expect(records).toEqual([
      ['fd00::1', 1, 4, 2],
      ['fd00::2', 1, 4, 1],
      ['fd00::1', 1, 3, 1],
    ]);
  });

  test('a truncated one adds bytes but is no packet', () => {
    const harness = new Harness();
    const frame = eth().ipv4().icmp().payload(500).bytes();
    harness.feed(frame, 1);
    harness.feed(frame.subarray(0, 80), 2, { wirelen: frame.length });
    expect(harness.only()).toMatchObject({ origPkts: 1, origIpBytes: 528, origBytes: 1000, duration: 1 });
  });
});

describe('checksums', () => {
  test('a bad packet leaves a line, is not counted and is recorded the 1st and 10th time', () => {
    const harness = new Harness();
    for (let i = 0; i < 10; i++) harness.feed(udp(1000, 2000).badChecksum(), 1 + i);
    harness.feed(answer(2000, 1000), 20);
    expect(harness.only()).toMatchObject({
      history: 'CCd',
      origPkts: 0,
      respPkts: 1,
      connState: 'SHR',
      duration: 19,
    });
  });
  test('ICMP is silent about it', () => {
    const harness = new Harness();
    harness.feed(eth().ipv4().icmp().badChecksum(), 1);
    expect(harness.only()).toMatchObject({ history: undefined, origPkts: 0 });
  });
  test('they are not looked at when told so, by option or by the packet', () => {
    const bad = eth().ipv4().badChecksum().tcp({ flags: 'S' }).badChecksum();
    const harness = new Harness({ checksums: false });
    harness.feed(bad, 1);
    expect(harness.only()).toMatchObject({ history: 'S', origPkts: 1 });
    const other = new Harness();
    other.feed(eth().ipv4().tcp({ flags: 'S' }).badChecksum(), 1, { checksum: 1 });
    expect(other.only()).toMatchObject({ history: 'S', origPkts: 1 });
  });
  test('a TCP header that cannot be is a line without counters', () => {
    const harness = new Harness();
    harness.feed(eth().ipv4().tcp({ flags: 'S', dataOffset: 4 }), 1);
    harness.feed(eth().ipv4().tcp({ flags: 'S', dataOffset: 15 }), 2);
    expect(harness.only()).toMatchObject({ history: undefined, connState: 'OTH', origPkts: 0 });
  });
});

describe('sequence numbers', () => {
  test('they are followed round 2^32, twice and more', () => {
    const harness = new Harness();
    handshake(harness, 1);
    const step = 0x4000_0000;
    // Before the first acknowledgement of data, a hole of more than 16 KiB would end the search for gaps.
    harness.feed(segment('server', 'PA', 5001, 1001, 1000), 1.5);
    harness.feed(segment('client', 'A', 1001, 6001), 1.6);
    let seq = 6001;
    for (let i = 0; i < 10; i++) {
      seq += step;
      harness.feed(segment('server', 'PA', seq - 1000, 1001, 1000), 2 + i);
      harness.feed(segment('client', 'A', 1001, seq), 2.5 + i);
    }
    expect(harness.only()).toMatchObject({
      respBytes: 10 * step + 1000,
      missedBytes: 10 * step - 10_000,
      history: 'ShAdgg',
      origBytes: 0,
      connState: 'S1',
    });
  });

  test('lost data is a gap when it is acknowledged, data out of order is none', () => {
    const harness = new Harness();
    handshake(harness, 1);
    harness.feed(segment('server', 'PA', 5101, 1001, 100), 2);
    harness.feed(segment('server', 'PA', 5001, 1001, 100), 2.1);
    harness.feed(segment('client', 'A', 1001, 5201), 2.2);
    harness.feed(segment('server', 'PA', 5301, 1001, 100), 2.3);
    harness.feed(segment('client', 'A', 1001, 5201), 2.4);
    expect(harness.engine.record(0)).toMatchObject({ missedBytes: 0 });
    harness.feed(segment('client', 'A', 1001, 5401), 2.5);
    expect(harness.only()).toMatchObject({ missedBytes: 100, history: 'ShAdtg', respBytes: 400 });
  });

  test('payload that was not captured whole becomes a gap', () => {
    const harness = new Harness();
    handshake(harness, 1);
    const frame = segment('server', 'PA', 5001, 1001, 1000).bytes();
    harness.feed(frame.subarray(0, 100), 2, { wirelen: frame.length });
    harness.feed(segment('client', 'A', 1001, 6001), 2.1);
    expect(harness.only()).toMatchObject({ missedBytes: 1000, respBytes: 1000, history: 'ShAdg' });
  });

  test('retransmissions and closed windows are recorded the 1st, 10th and 100th time', () => {
    const harness = new Harness();
    handshake(harness, 1);
    for (let i = 0; i <= 100; i++)
      harness.feed(segment('client', 'PA', 1001, 5001, 10, { window: i < 10 ? 0 : 9 }), 2 + i / 100);
    expect(harness.only()).toMatchObject({ history: 'ShADWTWTT', origBytes: 10, origPkts: 103 });
  });

  test('ranges above holes are bounded, and no order of segments makes it throw or go back', () => {
    const random = seeded(3);
    const harness = new Harness();
    handshake(harness, 1);
    for (let i = 0; i < 5000; i++) {
      const seq = 5001 + Math.floor(random() * 3_000_000);
      harness.feed(segment('server', 'PA', seq, 1001, 1 + Math.floor(random() * 1400)), 2);
      if (i % 50 === 0) harness.feed(segment('client', 'A', 1001, 5001 + i * 500), 2);
    }
    const record = harness.only();
    expect(record.missedBytes).toBeLessThanOrEqual(3_001_400);
    expect(record.respBytes).toBeGreaterThan(2_900_000);
  });
});

describe('keys', () => {
  test('IPv4: 16 bytes', () => {
    const harness = new Harness();
    const slot = harness.feed(
      eth().ipv4({ src: '10.0.0.9', dst: '10.0.0.1' }).tcp({ sport: 443, dport: 40_000, flags: 'S' }),
      1,
    );
    const key = harness.engine.key(slot);
    expect(key.family).toBe(4);
    expect(hex(key.bytes)).toBe('0a0000010a0000099c4001bb06000000');
    expect(harness.engine.origSide(slot)).toBe(1);
  });

  test('IPv6 and VLANs by option: 48 bytes', () => {
    const harness = new Harness({ vlanInKey: true });
    const frame = eth()
      .vlan(0x123)
      .vlan(0xabc)
      .ipv6({ src: 'fd00::1', dst: 'fd00::2' })
      .udp({ sport: 0x1111, dport: 0x2222 });
    const slot = harness.feed(frame, 1);
    const key = harness.engine.key(slot);
    const low = `fd00${'00'.repeat(13)}01`;
    const high = `fd00${'00'.repeat(13)}02`;
    // 17 | 0x123 << 8 | 0xabc << 20, little endian
    expect(hex(key.bytes)).toBe(`${low}${high}111122221123c1ab0000000000000000`);
    expect(key.family).toBe(6);
    expect(harness.engine.record(slot)).toMatchObject({ vlan: 0x123, innerVlan: 0xabc });
  });

  test('IPv4 in a tunnel is mapped, and the ids are in the key', () => {
    const out = new Uint8Array(KEY6_BYTES);
    const u8 = Uint8Array.of(10, 0, 0, 2, 10, 0, 0, 1);
    const side = writeGateKey(new Int32Array(out.buffer), 4, u8, 0, 4, 5, 6, 6, 0x01000007, 0x02000009);
    expect(side).toBe(1);
    expect(hex(out)).toBe(`${mapped('01')}${mapped('02')}00060005060000000700000109000002`);
  });

  test('VLANs are one flow unless told apart', () => {
    for (const [vlanInKey, flows] of [
      [false, 1],
      [true, 3],
    ] as const) {
      const harness = new Harness({ vlanInKey });
      for (const frame of [eth(), eth().vlan(5), eth().vlan(5).vlan(6)])
        harness.feed(frame.ipv4().udp({ sport: 1000, dport: 2000 }), 1);
      expect(harness.finish()).toHaveLength(flows);
    }
  });

  test('a flow is found by its key from either direction, at any offset', () => {
    const address = fc.tuple(fc.nat(3), fc.nat(3));
    fc.assert(
      fc.property(address, address, fc.nat(3), fc.nat(3), fc.boolean(), (a, b, sport, dport, six) => {
        const ip = (out: boolean) => {
          const [[s1, s2], [d1, d2]] = out ? [a, b] : [b, a];
          return six
            ? eth().ipv6({ src: `fd00:${s1}::${s2}`, dst: `fd00:${d1}::${d2}` })
            : eth().ipv4({ src: `10.0.${s1}.${s2}`, dst: `10.0.${d1}.${d2}` });
        };
        const harness = new Harness();
        const slot = harness.feed(ip(true).udp({ sport, dport }), 1);
        expect(harness.feed(ip(false).udp({ sport: dport, dport: sport }), 1)).toBe(slot);
        const { family, bytes } = harness.engine.key(slot);
        expect(bytes).toHaveLength(family === 4 ? KEY4_BYTES : KEY6_BYTES);
        const memory = new Uint8Array(60);
        memory.set(bytes, 5);
        expect(harness.engine.find(family, memory, 5)).toBe(slot);
        memory[5] ^= 1;
        expect(harness.engine.find(family, memory, 5)).toBe(-1);
        // The originator's side: its (address, port) comes first as bytes, or not.
        const { origHost, origPort, respHost, respPort } = harness.engine.record(slot);
        const order = Buffer.compare(
          Buffer.from([...addressBytes(origHost), origPort >> 8, origPort & 255]),
          Buffer.from([...addressBytes(respHost), respPort >> 8, respPort & 255]),
        );
        expect(harness.engine.origSide(slot)).toBe(order <= 0 ? 0 : 1);
      }),
    );
  });
});

describe('the sensor', () => {
  test('is asked before packets and ends of marked flows only', () => {
    const calls: string[] = [];
    const harness: Harness = new Harness(
      {},
      {
        beforePacket: (slot, side, flags) => {
          calls.push(`packet ${slot} ${side} ${flags} after ${harness.engine.packets(slot, 0)}`);
        },
        mayExpire: (slot) => {
          calls.push(`expire ${slot}`);
          return true;
        },
        closed: (slot) => {
          calls.push(`closed ${slot}`);
        },
      },
    );
    const slot = handshake(harness, 1);
    expect(calls).toEqual([]);
    harness.engine.setMark(slot, true);
    expect(harness.engine.isMarked(slot)).toBe(true);
    harness.feed(segment('server', 'PA', 5001, 1001, 10), 2);
    harness.engine.setMark(slot, false);
    harness.feed(segment('client', 'A', 1001, 5011), 3);
    harness.engine.setMark(slot, true);
    harness.engine.advance(303.5);
    expect(calls).toEqual(['packet 0 1 24 after 2', 'expire 0', 'closed 0']);
  });

  test('a marked flow lives on while it is wanted, and with what is absorbed', () => {
    let keep = true;
    let asked = 0;
    const harness: Harness = new Harness(
      {},
      {
        mayExpire: (slot, now) => {
          asked++;
          if (keep)
            harness.engine.absorb(
              slot,
              [{ ...noDelta(), pkts: 1, ipBytes: 100, last: now - 10 }, noDelta()],
              [],
            );
          return !keep;
        },
      },
    );
    const slot = handshake(harness, 1);
    harness.engine.setMark(slot, true);
    harness.engine.advance(302);
    expect([harness.engine.isOpen(slot), asked]).toEqual([true, 1]);
    expect(harness.engine.lastTime(slot)).toBe(292);
    keep = false;
    harness.engine.advance(591);
    expect(harness.engine.isOpen(slot)).toBe(true);
    harness.engine.advance(593);
    expect(harness.records).toMatchObject([{ origPkts: 3, duration: 291 }]);
  });

  test('keeping without a reason is asked again', () => {
    let asked = 0;
    const harness = new Harness({}, { mayExpire: () => ++asked > 2 });
    harness.engine.setMark(handshake(harness, 1), true);
    for (let now = 301; now < 310; now += 0.5) harness.engine.advance(now);
    expect(asked).toBe(3);
    expect(harness.records).toHaveLength(1);
  });

  test('absorbing before the packet that ends the flow', () => {
    const harness: Harness = new Harness(
      {},
      {
        beforePacket: (slot) => {
          const sides = [noDelta(), noDelta()] as [ReturnType<typeof noDelta>, ReturnType<typeof noDelta>];
          Object.assign(sides[1], { pkts: 3, ipBytes: 4120, seq: 9001, last: 5 });
          expect(harness.engine.find(4, new Uint8Array(16), 0)).toBe(-1);
          harness.engine.absorb(slot, sides, [{ letter: 'D', side: 1 }]);
          harness.engine.setMark(slot, false);
        },
      },
    );
    harness.engine.setMark(handshake(harness, 1), true);
    harness.feed(segment('client', 'S', 77_000, 0), 6);
    expect(harness.finish()).toMatchObject([
      { connState: 'S1', respBytes: 4000, respPkts: 4, history: 'ShAd', duration: 4 },
      { connState: 'S0', history: 'S', origHost: '10.0.0.1', respPort: 8443 },
    ]);
  });
});

describe('limits', () => {
  test('a full table ends flows that have been silent for long, with their records', () => {
    const harness = new Harness({ maxFlows: 64 });
    for (let i = 0; i < 64; i++) harness.feed(udp(1000 + i, 2000), 1 + i / 10);
    harness.engine.setMark(0, true);
    for (let i = 0; i < 500; i++) {
      harness.feed(udp(1063, 2000), 8 + i / 100);
      harness.feed(udp(3000 + i, 2000), 8 + i / 100);
    }
    expect(harness.engine.active).toBe(64);
    expect(harness.engine.stats.evicted).toBe(500);
    expect(harness.records).toHaveLength(500);
    // Neither the one that is always in use nor the one that the gate holds.
    expect(harness.records.some(({ origPort }) => origPort === 1063 || origPort === 1000)).toBe(false);
    expect(harness.finish()).toHaveLength(564);
  });

  test('options out of range are refused', () => {
    for (const options of [
      { maxFlows: 3 },
      { maxFlows: 1e9 },
      { timeouts: { udp: 0 } },
      { timeouts: { tcp: Number.NaN } },
      { localNets: ['10.0.0.0/33'] },
      { localNets: ['net'] },
      { likelyServerPorts: { tcp: [70_000], udp: [] } },
    ])
      expect(() => new Harness(options)).toThrow(expect.objectContaining({ code: 'USAGE' }));
  });

  test('no frames, times or orders make it throw', () => {
    const seeds = [
      segment('client', 'S', 1000, 0).bytes(),
      segment('server', 'SA', 5000, 1001, 20).bytes(),
      segment('client', 'PA', 1001, 5001, 40).bytes(),
      segment('client', 'FA', 1041, 5001).bytes(),
      segment('server', 'RA', 5001, 1001).bytes(),
      udp(1000, 53).bytes(),
      eth().ipv6().hopByHop().icmpv6({ type: 3 }).payload(20).bytes(),
    ];
    const change = fc.tuple(fc.integer({ min: 12, max: 70 }), fc.nat(255));
    const step = fc.tuple(
      fc.nat(seeds.length - 1),
      fc.array(change, { maxLength: 3 }),
      fc.double({ min: -5, max: 40 }),
      fc.nat(90),
    );
    fc.assert(
      fc.property(fc.array(step, { maxLength: 60 }), fc.boolean(), (steps, follow) => {
        const harness = new Harness({ checksums: false, maxFlows: 16, ...(follow ? { clockStep: 3 } : {}) });
        let ts = 1000;
        for (const [which, changes, wait, cut] of steps) {
          const bytes = seeds[which].slice();
          for (const [at, value] of changes) if (at < bytes.length) bytes[at] = value;
          ts += wait;
          harness.engine.process(
            packetOf(bytes.subarray(0, Math.max(0, bytes.length - cut)), ts, { wirelen: bytes.length }),
          );
        }
        harness.engine.process(packetOf(seeds[0], Number.NaN));
        for (const record of harness.finish()) {
          const { origBytes = 0, respBytes = 0, missedBytes } = comparable(record);
          expect(Math.min(origBytes, respBytes, missedBytes)).toBeGreaterThanOrEqual(0);
        }
        expect(harness.engine.active).toBe(0);
      }),
      { numRuns: 500 },
    );
  });
});

test('local addresses: special-purpose ranges, and those given', () => {
  expect(localFlags('172.31.255.1', '172.32.0.1')).toEqual([true, false]);
  expect(localFlags('fe80::1', 'ff02::1')).toEqual([true, false]);
  expect(localFlags('2002:a00:1::', '2002:801:1::')).toEqual([true, false]);
  expect(localFlags('1.2.3.4', '10.0.0.1', { localNets: ['1.2.3.0/29'] })).toEqual([true, true]);
  expect(localFlags('1.2.3.4', '10.0.0.1', { localNets: ['1.2.3.0/29'], privateIsLocal: false })).toEqual([
    true,
    false,
  ]);
});

test('packets that belong to no flow are counted by reason', () => {
  const harness = new Harness();
  expect(harness.feed(eth({ type: 0x0806 }).payload(46), 1)).toBe(-1);
  expect(
    harness.feed(
      eth()
        .ipv4({ fragment: { offset: 8, more: true } })
        .payload(46),
      1,
    ),
  ).toBe(-1);
  harness.feed(udp(1, 2), 1);
  expect([harness.engine.stats.packets, harness.engine.stats.opened]).toEqual([1, 1]);
  expect([...harness.engine.stats.ignored].reduce((sum, n) => sum + n)).toBe(2);
});

test('the order of a flip leaves the books with the sides', () => {
  const harness = new Harness();
  harness.feed(segment('server', 'SA', 5000, 1001), 1);
  const slot = harness.feed(segment('client', 'A', 1001, 5001), 2);
  const server: Side = 1;
  expect([harness.engine.packets(slot, server), harness.engine.ipBytes(slot, server)]).toEqual([1, 40]);
  expect(harness.only()).toMatchObject({ origHost: '10.0.0.1', history: '^hA', origPkts: 1, respPkts: 1 });
});
