import { SampleColumns, SampleReader } from '../../src/mitigation/index.ts';
import { Packet } from '../../src/packet/packet.ts';

/** Frames as rows of samples. */
export function columnsOf(frames: readonly Uint8Array[], caplen = 65_535): SampleColumns {
  const columns = new SampleColumns(Math.max(1, frames.length));
  const reader = new SampleReader();
  const packet = new Packet();
  for (const [at, frame] of frames.entries()) {
    packet.u8 = frame;
    packet.caplen = Math.min(caplen, frame.length);
    packet.wirelen = frame.length;
    packet.ts = 1_700_000_000 + at / 1000;
    if (reader.read(packet, 1, columns, columns.count)) columns.count++;
  }
  return columns;
}
