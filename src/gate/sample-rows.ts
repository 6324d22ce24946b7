import { type SampleColumns, SampleReader } from '../mitigation/index.ts';
import { Packet } from '../packet/packet.ts';
import { VERDICTS } from './layout.ts';
import type { GateSample } from './sampling.ts';

/** Bytes of a frame that detection looks at. */
export const SAMPLE_BYTES = 128;

/** Writes samples of a gate into rows of columns. */
export class SampleRows {
  readonly #reader = new SampleReader();
  readonly #packet = new Packet();

  /** False: it is no packet that detection makes sense of, and the row is not to be used. */
  read(sample: GateSample, columns: SampleColumns, row: number): boolean {
    const packet = this.#packet;
    packet.u8 = sample.memory;
    packet.offset = sample.offset;
    packet.caplen = sample.captured;
    packet.wirelen = sample.length;
    packet.ts = sample.ts;
    if (!this.#reader.read(packet, sample.every, columns, row)) return false;
    columns.interface[row] = sample.ifindex;
    columns.verdict[row] = VERDICTS.indexOf(sample.verdict);
    columns.rule[row] = sample.rule ?? 0;
    return true;
  }
}
