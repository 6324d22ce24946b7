import { SAMPLE_HEAD, type SampleColumns, type SampleReader } from '../mitigation/index.ts';
import { Packet } from '../packet/packet.ts';

/** Rows of a batch, at most. */
export const BATCH_ROWS = 256;
/** `SLS`, and the version of the format. */
const MAGIC = 0x01_53_4c_53;
const HEADER = 40;
/** Age, weight, length, verdict, captured bytes. */
const ROW = 4 + 4 + 4 + 1 + 1;
export const MAX_BATCH_BYTES = HEADER + BATCH_ROWS * (ROW + SAMPLE_HEAD);
/** Microseconds that a sample may be older than its batch: a sender fills one in a fifth of a second, and older ones must not set the clock of a detector back. */
const MAX_AGE = 20e6;
const MAX_WEIGHT = 1e9;
/** Frames of more are merged ones. */
const MAX_LENGTH = 1 << 20;

/** Whose batch, which one, and what was not sent. */
export interface BatchHeader {
  readonly rows: number;
  /** Of the sender since it began: chosen by chance, 64 bits in two words. */
  readonly streamHigh: number;
  readonly streamLow: number;
  /** Of the batches of one sender for one partition, from 1. */
  readonly sequence: number;
  /** Samples of that partition that the sender has lost so far, modulo 2^32. */
  readonly lost: number;
  /** Milliseconds since 1970 by the sender's clock. */
  readonly clock: number;
}

/** Collects rows and writes them as one message: little-endian, column after column, frames last. */
export class BatchWriter {
  /** Rows that wait. */
  rows = 0;
  readonly #time = new Float64Array(BATCH_ROWS);
  readonly #weight = new Float32Array(BATCH_ROWS);
  readonly #length = new Uint32Array(BATCH_ROWS);
  readonly #verdict = new Uint8Array(BATCH_ROWS);
  readonly #captured = new Uint8Array(BATCH_ROWS);
  readonly #frames = new Uint8Array(BATCH_ROWS * SAMPLE_HEAD);
  #bytes = 0;

  /** Takes a copy of a row; the batch is to be taken once there are BATCH_ROWS. */
  add(columns: SampleColumns, row: number, weight: number): void {
    const to = this.rows++;
    const captured = columns.captured[row];
    this.#time[to] = columns.time[row];
    this.#weight[to] = weight;
    this.#length[to] = columns.length[row];
    this.#verdict[to] = columns.verdict[row];
    this.#captured[to] = captured;
    const from = row * SAMPLE_HEAD;
    this.#frames.set(columns.frames.subarray(from, from + captured), this.#bytes);
    this.#bytes += captured;
  }

  /** The message, and begins anew. */
  take({ streamHigh, streamLow, sequence, lost, clock }: Omit<BatchHeader, 'rows'>): Uint8Array {
    const { rows } = this;
    const bytes = new Uint8Array(HEADER + rows * ROW + this.#bytes);
    const view = new DataView(bytes.buffer);
    view.setUint32(0, MAGIC, true);
    view.setUint16(4, rows, true);
    view.setUint32(8, streamHigh, true);
    view.setUint32(12, streamLow, true);
    view.setUint32(16, sequence, true);
    view.setUint32(20, lost, true);
    view.setFloat64(24, clock, true);
    view.setUint32(32, this.#bytes, true);
    let at = HEADER;
    for (let row = 0; row < rows; row++, at += 4) {
      const age = Math.round((clock * 1e6 - this.#time[row]) / 1000);
      view.setUint32(at, Math.max(0, Math.min(MAX_AGE, age)), true);
    }
    for (let row = 0; row < rows; row++, at += 4) view.setFloat32(at, this.#weight[row], true);
    for (let row = 0; row < rows; row++, at += 4) view.setUint32(at, this.#length[row], true);
    bytes.set(this.#verdict.subarray(0, rows), at);
    bytes.set(this.#captured.subarray(0, rows), at + rows);
    bytes.set(this.#frames.subarray(0, this.#bytes), at + 2 * rows);
    this.rows = 0;
    this.#bytes = 0;
    return bytes;
  }
}

/** Undefined unless it is a batch of this version, whole and nothing behind it. Never throws, whatever the bytes. */
export function readBatchHeader(bytes: Uint8Array): BatchHeader | undefined {
  if (bytes.length < HEADER || bytes.length > MAX_BATCH_BYTES) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const rows = view.getUint16(4, true);
  const frames = view.getUint32(32, true);
  if (view.getUint32(0, true) !== MAGIC || rows > BATCH_ROWS || HEADER + rows * ROW + frames !== bytes.length)
    return undefined;
  const clock = view.getFloat64(24, true);
  if (!(clock > 0 && clock < 1e14)) return undefined;
  const captured = HEADER + rows * (ROW - 1);
  let sum = 0;
  for (let row = 0; row < rows; row++) {
    if (bytes[captured + row] > SAMPLE_HEAD) return undefined;
    sum += bytes[captured + row];
  }
  if (sum !== frames) return undefined;
  return {
    rows,
    streamHigh: view.getUint32(8, true),
    streamLow: view.getUint32(12, true),
    sequence: view.getUint32(16, true),
    lost: view.getUint32(20, true),
    clock,
  };
}

const packet = new Packet();

/**
 * Adds the rows of a batch (whose header was read) to columns that have room for BATCH_ROWS more. Of a row only its frame is believed, and
 * read anew: offsets and ports cannot contradict it. What makes no sense is left out. @param clock nanoseconds since 1970 here at
 * which the sender's clock said what is in the header
 */
export function readBatchRows(
  bytes: Uint8Array,
  { rows }: BatchHeader,
  clock: number,
  reader: SampleReader,
  into: SampleColumns,
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  packet.u8 = bytes;
  let frame = HEADER + rows * ROW;
  for (let row = 0; row < rows; row++) {
    const at = HEADER + 4 * row;
    const age = Math.min(MAX_AGE, view.getUint32(at, true));
    const weight = view.getFloat32(at + 4 * rows, true);
    const length = view.getUint32(at + 8 * rows, true);
    const captured = bytes[HEADER + 13 * rows + row];
    packet.offset = frame;
    packet.caplen = captured;
    packet.wirelen = Math.max(captured, length);
    packet.ts = (clock - age * 1000) / 1e9;
    frame += captured;
    if (!(weight >= 1 && weight <= MAX_WEIGHT) || length > MAX_LENGTH) continue;
    const to = into.count;
    if (!reader.read(packet, weight, into, to)) continue;
    into.verdict[to] = bytes[HEADER + 12 * rows + row];
    into.count++;
  }
}
