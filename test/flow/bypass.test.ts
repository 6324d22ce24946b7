import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FileSource } from '../../src/capture/file.ts';
import { type ConnRecord, createFlowEngine } from '../../src/flow/index.ts';
import { conversation } from '../../src/packet/conversation.ts';
import { corpusRoot, readCases } from './support/corpus.ts';
import { packetOf } from './support/harness.ts';

const root = corpusRoot();

interface Outcome {
  records: ConnRecord[];
  bypassed: number;
  packets: number;
}

/** All connections of a capture; each is bypassed from when it has so many packets on. */
function run(path: string, checksums: boolean, from: number): Outcome {
  const records: ConnRecord[] = [];
  let bypassed = 0;
  const engine = createFlowEngine(
    { checksums, seed: 1, maxFlows: 1 << 14 },
    {
      beforePacket: () => undefined,
      mayExpire: () => true,
      closed: (slot) => records.push(engine.record(slot)),
    },
  );
  const source = FileSource.open(path);
  while (
    source.drain((packet) => {
      const slot = engine.process(packet);
      if (slot < 0 || !engine.isOpen(slot) || engine.isBypassed(slot)) return;
      if (engine.packets(slot, 0) + engine.packets(slot, 1) >= from && engine.bypass(slot)) bypassed++;
    }, 100_000)
  );
  source.close();
  engine.finish();
  return { records, bypassed, packets: engine.stats.bypassedPackets };
}

/** Without what is known from content only, which nobody has looked at. */
const headers = (record: ConnRecord): ConnRecord => ({ ...record, service: undefined });

test.skipIf(root === undefined)(
  'the corpus: whatever is bypassed from its first packet on, records are the same in all that headers tell',
  () => {
    let bypassed = 0;
    let packets = 0;
    let apart = 0;
    let compared = 0;
    for (const entry of readCases(root as string)) {
      const path = join(root as string, entry.name, `trace.${entry.format}`);
      const whole = run(path, !entry.checksums_ignored, Number.POSITIVE_INFINITY);
      const quick = run(path, !entry.checksums_ignored, 1);
      bypassed += quick.bypassed;
      packets += quick.packets;
      expect(quick.records.length, entry.name).toBe(whole.records.length);
      for (const [i, record] of whole.records.entries()) {
        // A bad checksum where nothing else is out of order: the one thing that is not known.
        const corrupt = /c/i.test(record.history ?? '');
        // Content turns a connection whose client spoke second.
        const turned =
          record.history?.includes('^') === true || quick.records[i].history?.includes('^') === true;
        if (corrupt || turned) {
          apart++;
          continue;
        }
        compared++;
        expect(headers(quick.records[i]), `${entry.name} ${record.uid}`).toEqual(headers(record));
      }
    }
    expect(bypassed).toBeGreaterThan(1500);
    expect(packets).toBeGreaterThan(7000);
    expect(compared).toBeGreaterThan(30 * apart);
  },
);

test('what is bypassed is counted apart, and a reset with a bad checksum is not believed', () => {
  const frames = conversation({ turns: [{ from: 'server', data: 100_000 }] });
  const records: ConnRecord[] = [];
  const engine = createFlowEngine(
    {},
    {
      beforePacket: () => undefined,
      mayExpire: () => true,
      closed: (slot) => records.push(engine.record(slot)),
    },
  );
  let ipBytes = 0;
  let slot = -1;
  for (const [i, { bytes }] of frames.entries()) {
    if (i === 30) {
      // In step, with the flags of a reset and the checksum of the segment that it was made of.
      const reset = bytes.slice();
      reset[14 + 20 + 13] = reset[14 + 20 + 13] | 4;
      engine.process(packetOf(reset, 30.5));
    }
    const before = slot < 0 ? 0 : engine.ipBytes(slot, 0) + engine.ipBytes(slot, 1);
    slot = engine.process(packetOf(bytes, i));
    if (i >= 20) ipBytes += engine.ipBytes(slot, 0) + engine.ipBytes(slot, 1) - before;
    if (i === 19) expect(engine.bypass(slot)).toBe(true);
  }
  expect(engine.stats).toMatchObject({ bypassedPackets: frames.length - 20, bypassedBytes: ipBytes });
  engine.finish();
  expect(records).toHaveLength(1);
  expect(records[0]).toMatchObject({ connState: 'SF', respBytes: 100_000, missedBytes: 0 });
  expect(records[0].origPkts + records[0].respPkts).toBe(frames.length);
  expect(records[0].history).toMatch(/c/i);
});
