import { oneOf } from './choice.ts';
import { oneMessage } from './datagram.ts';
import { BAD_HEADER, FrameParser } from './frames.ts';
import type { Service, ServiceParser } from './service.ts';

/** Start, length, control, destination and source, behind which their checksum stands. */
const COVERED = 8;
const HEADER = 10;
const MIN_LENGTH = 5;
/** User data comes in blocks of 16 bytes with a checksum of two. */
const BLOCK = 16;
const POLYNOMIAL = 0xa6bc;

/** Whether u8[at, at + 10) is the header of a link frame (IEEE 1815 section 9.2) with the right checksum. */
function isHeader(u8: Uint8Array, at: number): boolean {
  if (u8[at] !== 5 || u8[at + 1] !== 0x64 || u8[at + 2] < MIN_LENGTH) return false;
  let crc = 0;
  for (let i = 0; i < COVERED; i++) {
    crc ^= u8[at + i];
    for (let bit = 0; bit < 8; bit++) crc = (crc & 1) === 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
  }
  crc = ~crc & 0xffff;
  return u8[at + COVERED] === (crc & 0xff) && u8[at + COVERED + 1] === crc >>> 8;
}

class Dnp3Parser extends FrameParser {
  constructor() {
    super(0);
  }

  protected headerBytes(): number {
    return HEADER;
  }

  protected header(_fromOrig: 0 | 1, u8: Uint8Array): number {
    if (!isHeader(u8, 0)) return BAD_HEADER;
    const data = u8[2] - MIN_LENGTH;
    return data + Math.ceil(data / BLOCK) * 2;
  }

  protected message(): number {
    return this.confirm();
  }
}

export const DNP3_TCP: Service = {
  name: 'dnp3_tcp',
  transport: 'tcp',
  first: oneOf(5),
  looksLike: (u8, offset, length) => u8[offset] === 5 && (length < 2 || u8[offset + 1] === 0x64),
  parser: (): ServiceParser => new Dnp3Parser(),
};

export const DNP3_UDP: Service = oneMessage(
  'dnp3_udp',
  oneOf(5),
  (u8, offset, length) => length >= HEADER && isHeader(u8, offset),
);
