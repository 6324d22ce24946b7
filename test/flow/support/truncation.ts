import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createFlowEngine } from '../../../src/flow/index.ts';
import { Packet } from '../../../src/packet/packet.ts';
import { PcapReader } from '../../../src/packet/pcap.ts';
import { PcapngReader } from '../../../src/packet/pcapng.ts';
import { type CaptureReader, Read } from '../../../src/packet/reader.ts';
import type { CorpusCase } from './corpus.ts';

const MAX_FLOWS = 2048;

function readerOf(file: Uint8Array, entry: CorpusCase, end: number): CaptureReader {
  const reader = entry.format === 'pcapng' ? new PcapngReader() : new PcapReader();
  reader.window(file, 0, end, 0);
  return reader;
}

/** Hands the packets of the file's first `end` bytes to `sink`; how many there were. */
function readTo(file: Uint8Array, entry: CorpusCase, end: number, sink: (packet: Packet) => void): number {
  const reader = readerOf(file, entry, end);
  const packet = new Packet();
  while (reader.next(packet) === Read.packet) sink(packet);
  return reader.packets;
}

/** Where each packet of the file ends. */
function borders(file: Uint8Array, entry: CorpusCase): number[] {
  const reader = readerOf(file, entry, file.length);
  const packet = new Packet();
  const out: number[] = [];
  while (reader.next(packet) === Read.packet) out.push(reader.position);
  return out;
}

/**
 * Cuts a trace behind every `stride`th packet, and within the packet: the reader gives what is whole and tells of the
 * rest, and each connection that has begun is one record. Throws when that does not hold; how many cuts it made.
 */
export function truncated(root: string, entry: CorpusCase, stride: number): number {
  const file = readFileSync(join(root, entry.name, `trace.${entry.format}`));
  const ends = borders(file, entry);
  let cuts = 0;
  for (let n = 1 + ((ends.length - 1) % stride); n <= ends.length; n += stride) {
    cuts++;
    const end = ends[n - 1];
    const what = `${entry.name}, ${n} of ${ends.length} packets`;
    let records = 0;
    const engine = createFlowEngine(
      { checksums: !entry.checksums_ignored, maxFlows: MAX_FLOWS },
      {
        beforePacket: () => undefined,
        mayExpire: () => true,
        closed: (slot) => {
          records++;
          engine.record(slot);
        },
      },
    );
    const read = readTo(file, entry, end, (packet) => engine.process(packet));
    if (read !== n) throw new Error(`${what}: ${read} were read`);
    engine.finish();
    if (engine.active !== 0) throw new Error(`${what}: ${engine.active} flows are left`);
    if (records !== engine.stats.opened)
      throw new Error(`${what}: ${records} of ${engine.stats.opened} records`);
    const cut = readerOf(file, entry, end - 1);
    const packet = new Packet();
    while (cut.next(packet) === Read.packet);
    if (cut.packets !== n - 1 || cut.finish() === undefined)
      throw new Error(`${what}: cut within the last, ${cut.packets} were read, ${cut.damage?.message}`);
  }
  return cuts;
}
