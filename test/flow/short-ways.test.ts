import { join } from 'node:path';
import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { FileSource } from '../../src/capture/file.ts';
import { type FlowEngineOptions, SAVED_FLOW_BYTES } from '../../src/flow/index.ts';
import { connSchema } from '../../src/log/conn-log.ts';
import { jsonWriter, lineOf } from '../../src/log/json-format.ts';
import { USUAL_LINE } from '../../src/log/log-writer.ts';
import { eth } from '../../src/packet/build.ts';
import { conversation, seeded } from '../../src/packet/conversation.ts';
import { Packet } from '../../src/packet/packet.ts';
import { corpusRoot, readCases } from './support/corpus.ts';
import { Harness } from './support/harness.ts';

/**
 * The native short ways are held against TypeScript: one engine is given packet after packet, which is always the way of
 * TypeScript, the other one batches. Whatever the frames, the state of every flow has to be the same to the bit, after
 * each batch, and so have the records, in the same order.
 */
class Pair {
  readonly reference: Harness;
  readonly batched: Harness;
  /** Packets of the batches that were left to TypeScript. */
  left = 0;
  packets = 0;
  readonly #states = [new Uint8Array(SAVED_FLOW_BYTES), new Uint8Array(SAVED_FLOW_BYTES)];

  constructor(options: FlowEngineOptions) {
    this.reference = new Harness(options);
    this.batched = new Harness(options);
    const { engine } = this.batched;
    const process = engine.process.bind(engine);
    engine.process = (packet) => {
      this.left++;
      return process(packet);
    };
  }

  feed(packets: readonly Packet[], slots: number): void {
    for (const packet of packets) this.reference.engine.process(packet);
    this.batched.engine.processBatch(packets, packets.length);
    this.packets += packets.length;
    for (let slot = 0; slot < slots; slot++) this.#compare(slot);
    expect(this.batched.engine.stats).toEqual(this.reference.engine.stats);
    expect(this.batched.engine.losses).toEqual(this.reference.engine.losses);
    expect(this.batched.engine.active).toBe(this.reference.engine.active);
  }

  #compare(slot: number): void {
    const [a, b] = [this.reference.engine, this.batched.engine];
    if (a.isOpen(slot) !== b.isOpen(slot) || a.generation(slot) !== b.generation(slot))
      throw new Error(`slot ${slot}: another flow after ${this.packets} packets`);
    if (!a.isOpen(slot)) return;
    a.save(slot, this.#states[0]);
    b.save(slot, this.#states[1]);
    if (Buffer.compare(this.#states[0], this.#states[1]) !== 0)
      expect(b.record(slot), `slot ${slot} after ${this.packets} packets`).toEqual(a.record(slot));
    expect(Buffer.compare(this.#states[0], this.#states[1]), `state of slot ${slot}`).toBe(0);
  }

  finish(): void {
    expect(this.batched.finish()).toEqual(this.reference.finish());
  }
}

/** Packets that lie behind one another in one memory, as a file's do. */
function inOneMemory(frames: readonly { ts: number; bytes: Uint8Array; wirelen?: number }[]): Packet[] {
  const memory = new Uint8Array(frames.reduce((sum, { bytes }) => sum + bytes.length, 0));
  let at = 0;
  return frames.map(({ ts, bytes, wirelen }) => {
    const packet = new Packet();
    memory.set(bytes, at);
    packet.u8 = memory;
    packet.offset = at;
    packet.caplen = bytes.length;
    packet.wirelen = wirelen ?? bytes.length;
    packet.ts = ts;
    at += bytes.length;
    return packet;
  });
}

const talk = fc.record({
  client: fc.integer({ min: 1, max: 60 }),
  ipv6: fc.boolean(),
  bytes: fc.integer({ min: 0, max: 60_000 }),
  back: fc.integer({ min: 0, max: 6000 }),
  clientSeq: fc.constantFrom(1, 0xffff_f000, 0xffff_ffff, 0x7fff_ff00),
  serverSeq: fc.constantFrom(0, 0xffff_ff00, 0xffff_ffff, 0xfffe_0000),
  retransmit: fc.constantFrom(0, 0, 0.05),
  reorder: fc.constantFrom(0, 0, 0.05),
  close: fc.constantFrom(
    'client-fin' as const,
    'server-fin' as const,
    'server-rst' as const,
    'none' as const,
  ),
  begin: fc.double({ min: 0, max: 20, noNaN: true }),
  gap: fc.constantFrom(0.0001, 0.001, 0.5),
  serverPort: fc.constantFrom(443, 22, 8080),
  seed: fc.nat(1000),
});

const datagrams = fc.record({
  client: fc.integer({ min: 1, max: 60 }),
  ipv6: fc.boolean(),
  sport: fc.constantFrom(53, 1024, 5000, 5353, 4789),
  dport: fc.constantFrom(53, 53, 443, 5000, 4789, 3544, 9999),
  first: fc.constantFrom(0, 0x41, 0x52, 0x60),
  size: fc.constantFrom(0, 2, 3, 40),
  zeroSum: fc.boolean(),
  begin: fc.double({ min: 0, max: 20, noNaN: true }),
});

/** How a frame is spoiled: nearly none, or a byte of its headers, its end, its length on the wire, or its time. */
function spoil(
  frames: { ts: number; bytes: Uint8Array }[],
  share: number,
  seed: number,
): { ts: number; bytes: Uint8Array; wirelen?: number }[] {
  const random = seeded(seed);
  return frames.flatMap((frame) => {
    const { bytes, ts } = frame;
    if (random() >= share) return [frame];
    const below = (n: number) => Math.floor(random() * n);
    switch (below(6)) {
      case 0: {
        const copy = bytes.slice();
        copy[12 + below(Math.min(60, bytes.length - 12))] = below(256);
        return [{ ts, bytes: copy }];
      }
      case 1:
        return [{ ts, bytes: bytes.slice(0, below(bytes.length)), wirelen: bytes.length }];
      case 2:
        return [{ ts, bytes: Uint8Array.of(...bytes, 0, 0, 0) }];
      case 3:
        return [{ ts: ts + below(20) - 10, bytes }];
      case 4:
        return [frame, frame];
      default:
        return [];
    }
  });
}

type Values<A> = A extends fc.Arbitrary<infer T> ? readonly T[] : never;

function framesOf(talks: Values<typeof talk>, quick: Values<typeof datagrams>) {
  const frames = talks.flatMap(({ client, ipv6, bytes, back, begin, gap, serverPort, ...rest }) =>
    conversation({
      ...rest,
      ...(ipv6
        ? {
            client: { address: `2001:db8::${client}`, port: 40_000 },
            server: { address: '2001:db8::20', port: serverPort },
          }
        : {
            client: { address: `10.0.0.${client}`, port: 40_000 },
            server: { address: '10.0.0.30', port: serverPort },
          }),
      turns: [
        { from: 'client', data: 300 },
        { from: 'server', data: bytes },
        { from: 'client', data: back },
      ],
    }).map((frame, i) => ({ ts: begin + i * gap, bytes: frame.bytes })),
  );
  for (const { client, ipv6, sport, dport, first, size, zeroSum, begin } of quick) {
    const payload = new Uint8Array(size).fill(first);
    for (const [n, flip] of [false, true, false].entries()) {
      const [src, dst] = ipv6 ? [`2001:db8::${client}`, '2001:db8::2'] : [`10.0.0.${client}`, '10.0.0.53'];
      const ends = flip ? { src: dst, dst: src } : { src, dst };
      const ip = ipv6 ? eth().ipv6(ends) : eth().ipv4(ends);
      const udp = ip.udp(flip ? { sport: dport, dport: sport } : { sport, dport });
      const frame = udp.payload(payload).bytes();
      if (zeroSum) frame.fill(0, (ipv6 ? 54 : 34) + 6, (ipv6 ? 54 : 34) + 8);
      frames.push({ ts: begin + n * 0.3, bytes: frame });
    }
  }
  return frames.sort((a, b) => a.ts - b.ts);
}

describe('native short ways', () => {
  test.each([
    ['bare', { bare: true }],
    ['bare, without checksums', { bare: true, checksums: false }],
    ['bare, few flows', { bare: true, maxFlows: 16 }],
    ['with recognizers', {}],
    ['bare, clock that is set back', { bare: true, clockStep: 2 }],
  ])('leave every flow as TypeScript does: %s', (_, options) => {
    fc.assert(
      fc.property(
        fc.array(talk, { minLength: 1, maxLength: 8 }),
        fc.array(datagrams, { maxLength: 12 }),
        fc.constantFrom(0, 0, 0.02, 0.3),
        fc.integer({ min: 1, max: 100 }),
        fc.nat(1000),
        (talks, quick, share, size, seed) => {
          const packets = inOneMemory(spoil(framesOf(talks, quick), share, seed));
          const pair = new Pair({ maxFlows: 64, ...options });
          for (let from = 0; from < packets.length; from += size)
            pair.feed(packets.slice(from, from + size), 64);
          pair.finish();
        },
      ),
      { numRuns: 25 },
    );
  });

  test('take nearly all packets of ordinary connections', () => {
    const talks: Values<typeof talk> = Array.from({ length: 40 }, (_, i) => ({
      client: i + 1,
      ipv6: i % 4 === 0,
      bytes: 40_000,
      back: 2000,
      clientSeq: 1 as const,
      serverSeq: 0xffff_ff00 as const,
      retransmit: 0 as const,
      reorder: 0 as const,
      close: 'client-fin' as const,
      begin: 1 + i / 10,
      gap: 0.001 as const,
      serverPort: 443 as const,
      seed: i,
    }));
    const pair = new Pair({ bare: true });
    pair.feed(inOneMemory(framesOf(talks, [])), 64);
    pair.finish();
    expect(pair.packets).toBeGreaterThan(1500);
    expect(pair.left / pair.packets).toBeLessThan(0.1);
  });
});

/** Each flow's line as the engine makes it by itself, and as the schema of conn.log makes it from the record. */
class Lines {
  readonly own: string[] = [];
  readonly expected: string[] = [];
  /** Flows of which the engine left the line to the schema. */
  left = 0;
  readonly harness: Harness;
  readonly #bytes = Buffer.alloc(3 * USUAL_LINE);
  readonly #write = jsonWriter(connSchema());

  constructor(options: FlowEngineOptions) {
    this.harness = new Harness({ bare: true, ...options }, { closed: (slot) => this.#closed(slot) });
  }

  #closed(slot: number): void {
    const { engine } = this.harness;
    const length = engine.line(slot, this.#bytes, USUAL_LINE);
    if (length === 0) {
      this.left++;
      return;
    }
    this.own.push(this.#bytes.toString('latin1', USUAL_LINE, USUAL_LINE + length));
    this.expected.push(`${lineOf(this.#write, engine.record(slot))}\n`);
  }

  run(packets: readonly Packet[]): void {
    this.harness.engine.processBatch(packets, packets.length);
    this.harness.finish();
  }
}

describe('lines of conn.log that the engine makes by itself', () => {
  test('are those of the schema', () => {
    fc.assert(
      fc.property(
        fc.array(talk, { minLength: 1, maxLength: 8 }),
        fc.array(datagrams, { maxLength: 12 }),
        fc.constantFrom(0, 0.1, 0.5),
        fc.nat(1000),
        (talks, quick, share, seed) => {
          const lines = new Lines({});
          lines.run(inOneMemory(spoil(framesOf(talks, quick), share, seed)));
          expect(lines.own).toEqual(lines.expected);
        },
      ),
      { numRuns: 60 },
    );
  });

  test('whatever addresses, ports, flags, local networks and times', () => {
    const group = fc.constantFrom('0', '0', '1', 'ff', 'ffff', '2001', 'fe80', '10');
    const v6 = fc.array(group, { minLength: 8, maxLength: 8 }).map((groups) => groups.join(':'));
    const v4 = fc.tuple(fc.nat(255), fc.nat(255), fc.nat(255), fc.nat(255)).map((octets) => octets.join('.'));
    const ends = fc.oneof(fc.tuple(v4, v4), fc.tuple(v6, v6));
    const times = fc.oneof(
      fc.double({ min: 0, max: 4e9, noNaN: true }),
      fc.constantFrom(0, 0.0000005, 1_700_000_000.999_999_8, 2_147_483_647.5, 1e12),
    );
    const segments = fc.array(
      fc.tuple(
        fc.boolean(),
        fc.constantFrom('S', 'SA', 'A', 'F', 'FA', 'R', 'RA', 'PA'),
        fc.nat(),
        fc.nat(2000),
      ),
      { minLength: 1, maxLength: 6 },
    );
    fc.assert(
      fc.property(
        ends,
        fc.nat(65_535),
        fc.nat(65_535),
        times,
        segments,
        (pair, sport, dport, begin, sent) => {
          const lines = new Lines({
            localNets: ['11.0.0.0/9', '12.34.0.0/15', 'ff00::/13'],
            timeouts: { attempt: 1e6 },
          });
          const frames = sent.map(([back, flags, seq, bytes], i) => {
            const [src, dst] = back ? [pair[1], pair[0]] : pair;
            const ip = src.includes(':') ? eth().ipv6({ src, dst }) : eth().ipv4({ src, dst });
            const ports = back ? { sport: dport, dport: sport } : { sport, dport };
            const tcp = ip.tcp({ ...ports, flags, seq, ack: seq >>> 1 });
            return { ts: begin + i * 0.001, bytes: tcp.payload(bytes).bytes() };
          });
          lines.run(inOneMemory(frames));
          expect(lines.own).toEqual(lines.expected);
          expect(lines.own.length).toBe(begin > 2 ** 31 ? 0 : lines.harness.records.length);
        },
      ),
      { numRuns: 300 },
    );
  });
});

const corpus = corpusRoot();

describe.skipIf(corpus === undefined)('native short ways over the corpus', () => {
  test.each([{ bare: true }, {}])('leave every flow as TypeScript does: %o', (options) => {
    const root = corpus ?? '';
    let packets = 0;
    for (const entry of readCases(root)) {
      const source = FileSource.open(join(root, entry.name, `trace.${entry.format}`));
      const pair = new Pair({ ...options, checksums: !entry.checksums_ignored, maxFlows: 1 << 12 });
      try {
        let batches = 0;
        while (
          source.drainBatches((batch, count) => {
            // States of all flows take long: now and then only.
            pair.feed(batch.slice(0, count), batches++ % 8 === 0 ? 256 : 0);
          }, 10_000)
        );
      } finally {
        source.close();
      }
      pair.finish();
      packets += pair.packets;
    }
    expect(packets).toBeGreaterThan(5000);
  });

  test('and their lines in conn.log', () => {
    const root = corpus ?? '';
    let [own, left] = [0, 0];
    for (const entry of readCases(root)) {
      const source = FileSource.open(join(root, entry.name, `trace.${entry.format}`));
      const lines = new Lines({ checksums: !entry.checksums_ignored, maxFlows: 1 << 12 });
      try {
        while (
          source.drainBatches((batch, count) => lines.harness.engine.processBatch(batch, count), 10_000)
        );
      } finally {
        source.close();
      }
      lines.harness.finish();
      expect(lines.own).toEqual(lines.expected);
      own += lines.own.length;
      left += lines.left;
    }
    expect(own).toBeGreaterThan(left);
  });
});
