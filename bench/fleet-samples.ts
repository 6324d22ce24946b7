import { BATCH_ROWS, BatchWriter, readBatchHeader, readBatchRows } from '../src/detect/batch.ts';
import { SampleColumns, SampleReader } from '../src/mitigation/index.ts';
import { Packet } from '../src/packet/packet.ts';
import { attackOf } from './attack-traffic.ts';
import { type BenchIo, cpuSeconds, median, type Table } from './measure.ts';
import { usualTraffic } from './usual-traffic.ts';

const KINDS = ['usual', 'syn-flood', 'ntp-amplification', 'dns-amplification'];
const BATCHES = 400;

/** Samples as edges send them to detectors: bytes, and what writing and reading a batch takes on one CPU. */
export function sampleBatches(rounds: number, io: BenchIo): Table {
  const usual = usualTraffic(1, '198.51.100');
  const reader = new SampleReader();
  const columns = new SampleColumns(BATCH_ROWS);
  const packet = new Packet();
  const rows = KINDS.map((kind) => {
    io.progress(`batches: ${kind}`);
    const make = kind === 'usual' ? () => usual.packet(1) : attackOf(kind, 5, usual.servers[0]).packet;
    columns.count = 0;
    for (let tried = 0; columns.count < BATCH_ROWS && tried < 10 * BATCH_ROWS; tried++) {
      const frame = make(tried / 1000);
      packet.u8 = frame;
      packet.caplen = frame.length;
      packet.wirelen = frame.length;
      packet.ts = Date.now() / 1000;
      if (reader.read(packet, 20, columns, columns.count)) columns.count++;
    }
    const samples = columns.count;
    const head = { streamHigh: 1, streamLow: 2, sequence: 1, lost: 0, clock: Date.now() };
    const times = { write: [] as number[], read: [] as number[] };
    const into = new SampleColumns(BATCH_ROWS);
    let bytes = 0;
    for (let round = 0; round < rounds && !io.stop.aborted; round++) {
      const writer = new BatchWriter();
      let message: Uint8Array = new Uint8Array();
      let began = cpuSeconds();
      for (let n = 0; n < BATCHES; n++) {
        for (let row = 0; row < samples; row++) writer.add(columns, row, 20);
        message = writer.take(head);
      }
      times.write.push((BATCHES * samples) / (cpuSeconds() - began));
      bytes = message.length;
      began = cpuSeconds();
      for (let n = 0; n < BATCHES; n++) {
        into.count = 0;
        const header = readBatchHeader(message);
        if (header !== undefined) readBatchRows(message, header, head.clock * 1e6, reader, into);
      }
      times.read.push((BATCHES * samples) / (cpuSeconds() - began));
    }
    return {
      kind,
      samples,
      bytes,
      each: bytes / samples,
      write: median(times.write),
      read: median(times.read),
    };
  });
  return {
    title: 'Samples as edges send them: a batch, and samples/s of one CPU',
    columns: [
      { key: 'kind', title: 'traffic' },
      { key: 'samples', title: 'samples' },
      { key: 'bytes', title: 'bytes' },
      { key: 'each', title: 'bytes a sample', digits: 1 },
      { key: 'write', title: 'written' },
      { key: 'read', title: 'read' },
    ],
    rows,
  };
}
