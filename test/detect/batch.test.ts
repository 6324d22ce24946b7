import { array, assert, nat, property, tuple, uint8Array } from 'fast-check';
import { describe, expect, it } from 'vitest';
import { attackOf } from '../../bench/attack-traffic.ts';
import {
  BATCH_ROWS,
  BatchWriter,
  MAX_BATCH_BYTES,
  readBatchHeader,
  readBatchRows,
} from '../../src/detect/batch.ts';
import { MAX_PARTITIONS, partitionOf } from '../../src/detect/partition.ts';
import { SampleColumns, SampleReader } from '../../src/mitigation/index.ts';
import { eth } from '../../src/packet/build.ts';
import { columnsOf } from '../mitigation/samples.ts';

const CLOCK = 1_700_000_010_000;
const head = { streamHigh: 1, streamLow: 2, sequence: 3, lost: 4, clock: CLOCK };

function batchOf(columns: SampleColumns): Uint8Array {
  const writer = new BatchWriter();
  for (let row = 0; row < columns.count; row++) writer.add(columns, row, columns.weight[row]);
  return writer.take(head);
}

/** As a detector reads it, with a clock that is so many milliseconds ahead; undefined: it is refused. */
function read(bytes: Uint8Array, ahead = 0): SampleColumns | undefined {
  const header = readBatchHeader(bytes);
  if (header === undefined) return undefined;
  const columns = new SampleColumns(BATCH_ROWS);
  readBatchRows(bytes, header, (header.clock + ahead) * 1e6, new SampleReader(), columns);
  return columns;
}

const attacks = ['syn-flood', 'gre-flood', 'fragment-flood', 'dns-water-torture', 'ssdp-amplification'];
const samples = (each = 40): SampleColumns => {
  const frames = attacks.flatMap((kind) => {
    const { packet } = attackOf(kind, 7, '192.0.2.9');
    return Array.from({ length: each }, (_, at) => packet(at / each));
  });
  const columns = columnsOf(frames);
  for (let row = 0; row < columns.count; row++) {
    columns.weight[row] = 1 + row;
    columns.verdict[row] = row % 7;
  }
  return columns;
};

describe('a batch of samples', () => {
  it('is read as it was written', () => {
    const before = samples();
    const bytes = batchOf(before);
    expect(bytes.length).toBeLessThan(MAX_BATCH_BYTES);
    expect(readBatchHeader(bytes)).toEqual({ ...head, rows: before.count });
    const after = read(bytes) as SampleColumns;
    expect(after.count).toBe(before.count);
    for (const name of ['weight', 'length', 'family', 'protocol', 'sport', 'dport', 'tcpFlags'] as const)
      expect(after[name].slice(0, after.count), name).toEqual(before[name].slice(0, before.count));
    for (const name of ['ttl', 'fragment', 'payloadAt', 'payloadBytes', 'captured', 'verdict'] as const)
      expect(after[name].slice(0, after.count), name).toEqual(before[name].slice(0, before.count));
    expect(after.target.slice(0, 4 * after.count)).toEqual(before.target.slice(0, 4 * before.count));
    for (let row = 0; row < after.count; row++)
      expect(Math.abs(after.time[row] - before.time[row])).toBeLessThan(2000);
  });

  it('is as old as it was, by the clock of whoever reads it', () => {
    const before = samples();
    const after = read(batchOf(before), 3_600_000) as SampleColumns;
    expect(Math.abs(after.time[5] - before.time[5] - 3600e9)).toBeLessThan(2000);
  });

  it('may be empty, and is small', () => {
    expect(read(batchOf(new SampleColumns(1)))?.count).toBe(0);
    const columns = columnsOf([eth().ipv4({ dst: '192.0.2.1' }).udp({ dport: 53 }).payload('x').bytes()]);
    expect(batchOf(columns).length).toBeLessThan(40 + 14 + 64);
  });

  it('of another version, cut, or longer than it says is refused', () => {
    const bytes = batchOf(samples());
    for (const cut of [0, 1, 39, 40, bytes.length - 1]) expect(read(bytes.subarray(0, cut))).toBeUndefined();
    expect(read(Uint8Array.of(...bytes, 0))).toBeUndefined();
    expect(read(bytes.with(3, 2))).toBeUndefined();
  });

  it('of any bytes does not throw, and what is read of it agrees with its frames', () => {
    const good = batchOf(samples(2));
    const reader = new SampleReader();
    const columns = new SampleColumns(BATCH_ROWS);
    const mangled = array(tuple(nat(good.length - 1), nat(255)), { maxLength: 12 }).map((changes) => {
      const bytes = good.slice();
      for (const [at, value] of changes) bytes[at] = value;
      return bytes;
    });
    const check = (bytes: Uint8Array): void => {
      const header = readBatchHeader(bytes);
      if (header === undefined) return;
      columns.count = 0;
      readBatchRows(bytes, header, CLOCK * 1e6, reader, columns);
      expect(columns.count).toBeLessThanOrEqual(BATCH_ROWS);
      for (let row = 0; row < columns.count; row++) {
        expect(columns.weight[row]).toBeGreaterThanOrEqual(1);
        expect(columns.length[row]).toBeGreaterThanOrEqual(columns.captured[row]);
        expect(columns.payloadAt[row]).toBeLessThanOrEqual(columns.captured[row]);
        expect(columns.time[row]).toBeGreaterThan(0);
      }
    };
    assert(property(mangled, check), { numRuns: 200 });
    assert(property(uint8Array({ maxLength: 400 }), check), { numRuns: 200 });
  });
});

const of = (dst: string, partitions = 16): number =>
  partitionOf(
    columnsOf([
      (dst.includes(':') ? eth().ipv6({ dst }) : eth().ipv4({ dst })).udp({ dport: 53 }).payload('x').bytes(),
    ]),
    0,
    partitions,
  );

describe('partitions', () => {
  it('are the same for a /24 and a /48, and the same in every version', () => {
    expect(of('192.0.2.0')).toBe(of('192.0.2.255'));
    expect(of('2001:db8:1::')).toBe(of('2001:db8:1:ffff::1'));
    expect([of('192.0.2.7'), of('198.51.100.7'), of('2001:db8:1::7')]).toEqual([11, 10, 8]);
  });

  it('get about the same number of prefixes', () => {
    for (const partitions of [1, 16, MAX_PARTITIONS]) {
      const counts = Array.from({ length: partitions }, () => 0);
      const columns = columnsOf([eth().ipv4({ dst: '10.0.0.0' }).udp({}).payload('x').bytes()]);
      const prefixes = 16_384;
      for (let i = 0; i < prefixes; i++) {
        columns.target[3] = ((10 << 24) | (i << 8)) >>> 0;
        counts[partitionOf(columns, 0, partitions)]++;
      }
      const mean = prefixes / partitions;
      // Six standard deviations of a fair choice.
      const off = 6 * Math.sqrt(mean);
      expect(Math.min(...counts)).toBeGreaterThanOrEqual(Math.floor(mean - off));
      expect(Math.max(...counts)).toBeLessThanOrEqual(Math.ceil(mean + off));
    }
  });
});
