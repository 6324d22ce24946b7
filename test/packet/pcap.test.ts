import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { eth } from '../../src/packet/build.ts';
import { Packet } from '../../src/packet/packet.ts';
import { type PcapFormat, PcapReader, pcapFile } from '../../src/packet/pcap.ts';
import { PcapngReader } from '../../src/packet/pcapng.ts';
import { type InterfaceToWrite, PcapngWriter, pcapngFile } from '../../src/packet/pcapng-writer.ts';
import { type CaptureReader, MAX_BLOCK_BYTES, Read } from '../../src/packet/reader.ts';

interface Seen {
  ts: number;
  wirelen: number;
  linkType: number;
  hex: string;
  interfaceId: number;
}

/** Reads a file through windows that grow by `step` bytes, carrying the rest over, as a source does. */
function readAll(reader: CaptureReader, file: Uint8Array, step = file.length): Seen[] {
  const packet = new Packet();
  const out: Seen[] = [];
  let start = 0;
  let end = 0;
  for (;;) {
    end = Math.min(file.length, end + Math.max(1, step));
    // A copy that ends where the window ends: reading beyond it would show.
    const piece = new Uint8Array(end - start + 3);
    piece.set(file.subarray(start, end), 3);
    reader.window(piece, 3, piece.length, start);
    for (;;) {
      const state = reader.next(packet);
      if (state === Read.damaged) return out;
      if (state === Read.more) break;
      const bytes = packet.u8.subarray(packet.offset, packet.offset + packet.caplen);
      expect(bytes.length).toBe(packet.caplen);
      out.push({
        ts: packet.ts,
        wirelen: packet.wirelen,
        linkType: packet.linkType,
        hex: Buffer.from(bytes).toString('hex'),
        interfaceId: reader instanceof PcapngReader ? reader.interfaceId : 0,
      });
    }
    start += reader.position - 3;
    if (end === file.length) {
      reader.finish();
      return out;
    }
  }
}

const A = eth().ipv4().udp().payload('first').bytes();
const B = eth().ipv6().tcp().payload(301).bytes();
const frames = [
  { ts: 1_700_000_000.123456, bytes: A },
  { ts: { seconds: 1_700_000_001, nanoseconds: 999_999_999 }, bytes: B, wirelen: 1500 },
  { ts: 0, bytes: new Uint8Array(0) },
];
const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');

describe('pcap', () => {
  test.each<PcapFormat & { name: string }>([
    { name: 'little-endian microseconds' },
    { name: 'big-endian microseconds', bigEndian: true },
    { name: 'little-endian nanoseconds', nano: true },
    { name: 'big-endian nanoseconds of another link type', nano: true, bigEndian: true, linkType: 113 },
  ])('$name', (format) => {
    const file = pcapFile(frames, format);
    for (const step of [1, 7, 64, file.length]) {
      const reader = new PcapReader();
      const seen = readAll(reader, file, step);
      expect(seen.map((each) => each.hex)).toEqual(frames.map((frame) => hex(frame.bytes)));
      expect(seen[0].ts).toBe(1_700_000_000.123456);
      // As a double is made of seconds and fraction, so that a comparison with other tools is exact.
      expect(seen[1].ts).toBe(1_700_000_001 + (format.nano ? 999_999_999 / 1e9 : 999_999 / 1e6));
      expect(seen.map((each) => each.wirelen)).toEqual([A.length, 1500, 0]);
      expect(seen[0].linkType).toBe(format.linkType ?? 1);
      expect(reader.damage).toBeUndefined();
      expect(reader.nano).toBe(format.nano ?? false);
    }
  });

  test('link types are given as libpcap gives them', () => {
    const reader = new PcapReader();
    expect(readAll(reader, pcapFile(frames, { linkType: 101 }))[0].linkType).toBe(12);
  });

  test('a captured length above the wire length raises the wire length', () => {
    const seen = readAll(new PcapReader(), pcapFile([{ ts: 1, bytes: A, wirelen: 10 }]));
    expect(seen[0].wirelen).toBe(A.length);
  });

  test('the patched format with longer record headers', () => {
    const plain = pcapFile([{ ts: 5, bytes: A }]);
    const file = Buffer.concat([plain.subarray(0, 40), new Uint8Array(8), plain.subarray(40)]);
    file.writeUInt32LE(0xa1b2cd34, 0);
    expect(readAll(new PcapReader(), file, 11).map((each) => each.hex)).toEqual([hex(A)]);
  });

  test('cut off anywhere: what came before is delivered, and the damage says where and what', () => {
    const file = pcapFile(frames);
    const bounds = [24, 24 + 16 + A.length, 24 + 32 + A.length + B.length, file.length];
    for (let n = 0; n < file.length; n++) {
      const reader = new PcapReader();
      const seen = readAll(reader, file.subarray(0, n), 50);
      const whole = bounds.filter((bound) => bound <= n).length - 1;
      expect(seen).toHaveLength(Math.max(0, whole));
      if (bounds.includes(n)) {
        expect(reader.damage).toBeUndefined();
      } else {
        expect(reader.damage?.code).toBe('FILE_FORMAT');
        expect(reader.damage?.packets).toBe(seen.length);
        expect(reader.damage?.offset).toBe(whole < 0 ? 0 : bounds[whole]);
        expect(reader.damage?.message).toMatch(/cut off/);
      }
    }
  });

  test('a length beyond the limit ends the file at that record', () => {
    const file = Buffer.from(pcapFile([...frames, ...frames]));
    const third = 24 + 32 + A.length + B.length;
    file.writeUInt32LE(300_000, third + 8);
    const reader = new PcapReader();
    expect(readAll(reader, file)).toHaveLength(2);
    expect(reader.damage?.offset).toBe(third);
    expect(reader.damage?.message).toContain('300000');
  });

  test('an unknown version is refused', () => {
    const file = Buffer.from(pcapFile(frames));
    file.writeUInt16LE(9, 4);
    const reader = new PcapReader();
    expect(readAll(reader, file)).toHaveLength(0);
    expect(reader.damage?.message).toContain('version 9.4');
  });
});

describe('pcapng', () => {
  const interfaces: InterfaceToWrite[] = [
    { name: 'eth0', comment: 'the first', filter: 'tcp' },
    { name: 'eth1', nano: true, linkType: 113, snaplen: 96, description: 'the second' },
    { name: 'eth2', offsetSeconds: 1_600_000_000 },
    { nano: true, offsetSeconds: -3600 },
  ];

  test.each([false, true])(
    'interfaces with their own link type, resolution and offset; big-endian: %s',
    (bigEndian) => {
      const file = pcapngFile(
        [0, 1, 2, 3].map((interfaceId) => ({
          ...frames[1],
          interfaceId,
          comment: interfaceId === 2 ? 'odd one' : 'x',
        })),
        { bigEndian, interfaces, application: 'test' },
      );
      for (const step of [1, 13, file.length]) {
        const reader = new PcapngReader();
        const seen = readAll(reader, file, step);
        expect(seen.map((each) => each.interfaceId)).toEqual([0, 1, 2, 3]);
        expect(seen.map((each) => each.linkType)).toEqual([1, 113, 1, 1]);
        expect(seen.map((each) => each.hex)).toEqual([B, B, B, B].map(hex));
        expect(seen.map((each) => each.wirelen)).toEqual([1500, 1500, 1500, 1500]);
        const micro = 1_700_000_001 + 999_999 / 1e6;
        const nano = 1_700_000_001 + 999_999_999 / 1e9;
        expect(seen.map((each) => each.ts)).toEqual([micro, nano, micro, nano]);
        expect(reader.interfaces.map((each) => each.name)).toEqual(['eth0', 'eth1', 'eth2', undefined]);
        expect(reader.interfaces[1]).toMatchObject({ linkType: 113, snaplen: 96, unitsPerSecond: 1e9 });
        expect(reader.damage).toBeUndefined();
      }
    },
  );

  test.each([
    [0, 1],
    [3, 1e3],
    [6, 1e6],
    [9, 1e9],
    [12, 1e12],
    [0x80 | 10, 1024],
    [0x80 | 32, 2 ** 32],
  ])('time resolution %i', (tsresol, units) => {
    const writer = new PcapngWriter();
    const seconds = units > 1e9 ? 1_700_000 : 1_700_000_000;
    const ticks = BigInt(seconds) * BigInt(units) + BigInt(units) / 4n;
    const described = new Uint8Array(8);
    described[0] = 1;
    const body = new Uint8Array(24);
    const view = new DataView(body.buffer);
    view.setUint32(4, Number(ticks >> 32n), true);
    view.setUint32(8, Number(ticks & 0xffffffffn), true);
    view.setUint32(12, 3, true);
    view.setUint32(16, 3, true);
    const file = Buffer.concat([
      writer.header().subarray(0, 28),
      writer.block(1, described, [writer.option(9, Uint8Array.of(tsresol))]),
      writer.block(6, body),
    ]);
    expect(readAll(new PcapngReader(), file)[0].ts).toBeCloseTo(
      seconds + Number(BigInt(units) / 4n) / units,
      6,
    );
  });

  test('simple and obsolete packet blocks, unknown blocks, a second section in the other byte order', () => {
    const writer = new PcapngWriter({ interfaces: [{ snaplen: 20 }] });
    const simple = new Uint8Array(4 + 64);
    new DataView(simple.buffer).setUint32(0, 60, true);
    simple.set(A.subarray(0, 60), 4);
    const old = new Uint8Array(20 + 4);
    new DataView(old.buffer).setUint32(8, 5_000_000, true);
    new DataView(old.buffer).setUint32(12, 3, true);
    new DataView(old.buffer).setUint32(16, 99, true);
    old.set([7, 8, 9], 20);
    const file = Buffer.concat([
      writer.header(),
      writer.block(2, old),
      writer.block(0x0bad, new Uint8Array(400)),
      writer.block(3, simple),
      pcapngFile([frames[0]], { bigEndian: true }),
    ]);
    const reader = new PcapngReader();
    const seen = readAll(reader, file, 17);
    expect(reader.damage).toBeUndefined();
    expect(seen.map((each) => each.hex)).toEqual(['070809', hex(A.subarray(0, 20)), hex(A)]);
    expect(seen.map((each) => each.wirelen)).toEqual([99, 60, A.length]);
    // A simple block carries no time: it gets that of the packet before it.
    expect(seen.map((each) => each.ts)).toEqual([5, 5, 1_700_000_000.123456]);
  });

  test('cut off anywhere: what came before is delivered, the rest is damage', () => {
    const file = pcapngFile(frames);
    for (let n = 1; n < file.length; n++) {
      const reader = new PcapngReader();
      const seen = readAll(reader, file.subarray(0, n), 40);
      expect(seen.length).toBeLessThan(3);
      const bound = [
        28,
        48,
        48 + 32 + ((A.length + 3) & ~3),
        48 + 64 + ((A.length + 3) & ~3) + ((B.length + 3) & ~3),
      ].includes(n);
      expect(reader.damage === undefined, `cut at ${n}`).toBe(bound);
    }
  });

  const damaged: [string, (file: Buffer) => void, RegExp][] = [
    ['a block too long', (file) => file.writeUInt32LE(MAX_BLOCK_BYTES + 4, 52), /outside of/],
    ['a block too short', (file) => file.writeUInt32LE(8, 52), /outside of/],
    ['two lengths that differ', (file) => file.writeUInt32LE(36, 52), /two lengths/],
    ['a byte-order mark that is none', (file) => file.writeUInt32LE(7, 8), /byte-order/],
    ['an unknown version', (file) => file.writeUInt16LE(2, 12), /version 2/],
    ['an interface that is not described', (file) => file.writeUInt32LE(4, 56), /interface 4/],
    ['more bytes than the block has', (file) => file.writeUInt32LE(9999, 68), /room for/],
    ['no section header', (file) => file.writeUInt32LE(6, 0), /no pcapng section/],
  ];
  test.each(damaged)('%s', (_name, damage, message) => {
    const file = Buffer.from(pcapngFile(frames));
    damage(file);
    const reader = new PcapngReader();
    readAll(reader, file);
    expect(reader.damage?.code).toBe('FILE_FORMAT');
    expect(reader.damage?.message).toMatch(message);
  });

  test('an option that is longer than its block', () => {
    const writer = new PcapngWriter();
    const option = writer.option(2, Uint8Array.of(1));
    option[2] = 200;
    const reader = new PcapngReader();
    readAll(reader, Buffer.concat([writer.header(), writer.block(1, new Uint8Array(8), [option])]));
    expect(reader.damage?.message).toMatch(/option/);
  });
});

describe('whatever the bytes', () => {
  const seeds = [
    pcapFile(frames),
    pcapFile(frames, { bigEndian: true, nano: true }),
    pcapngFile(frames),
    pcapngFile(frames, { bigEndian: true }),
  ];

  test('mutated files never throw, never deliver bytes outside of the window, and read alike in any chunking', () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...seeds.keys()),
        fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 6 }),
        fc.integer({ min: 1, max: 200 }),
        (which, edits, step) => {
          const file = Uint8Array.from(seeds[which]);
          for (const [at, value] of edits) file[at % file.length] = value;
          const make = () => (which < 2 ? new PcapReader() : new PcapngReader());
          const [one, two] = [make(), make()];
          expect(readAll(one, file, step)).toEqual(readAll(two, file));
          expect(one.damage?.message).toBe(two.damage?.message);
          expect(one.need).toBeLessThanOrEqual(MAX_BLOCK_BYTES + 24);
        },
      ),
      { numRuns: 2000 },
    );
  });

  test('random bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), fc.boolean(), (bytes, ng) => {
        const file = Uint8Array.from([...(ng ? seeds[2] : seeds[0]).subarray(0, 48), ...bytes]);
        readAll(ng ? new PcapngReader() : new PcapReader(), file, 31);
      }),
      { numRuns: 2000 },
    );
  });
});
