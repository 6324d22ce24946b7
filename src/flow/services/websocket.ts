import { type PayloadSink, ServiceNews } from './service.ts';

/** RFC 6455, section 5.2. */
const CONTINUATION = 0;
const TEXT = 1;
const BINARY = 2;
const CLOSE = 8;
const PONG = 10;
const RSV = 0x70;

const PIECE = 4096;
/** Where masked payload is put in the clear, one piece after the other. */
const clear = new Uint8Array(PIECE);

class Side {
  /** Bytes of the frame header so far; at most 14. */
  readonly header = new Uint8Array(14);
  have = 0;
  need = 2;
  /** Payload of the frame that is still to come, and how much has come. */
  left = 0;
  passed = 0;
  data = false;
}

/** Takes the payload of data frames out of a websocket. Compressed frames (RFC 7692) and damaged ones end it. */
export class WebSocketFrames {
  readonly #sides: readonly [Side, Side] = [new Side(), new Side()];
  #over = false;

  unwrap(fromOrig: 0 | 1, u8: Uint8Array, offset: number, length: number, sink: PayloadSink): number {
    const side = this.#sides[fromOrig];
    const end = offset + length;
    let at = offset;
    while (at < end && !this.#over) {
      if (side.have < side.need) {
        side.header[side.have++] = u8[at++];
        if (side.have === side.need) this.#header(side);
        continue;
      }
      const size = Math.min(end - at, side.left, PIECE);
      if (side.data) payload(side, fromOrig, u8, at, size, sink);
      at += size;
      side.left -= size;
      side.passed += size;
      if (side.left === 0) begin(side);
    }
    return this.#over ? ServiceNews.done : 0;
  }

  #header(side: Side): void {
    const header = side.header;
    const opcode = header[0] & 15;
    const short = header[1] & 127;
    const lengthBytes = short === 126 ? 2 : short === 127 ? 8 : 0;
    if (side.have === 2) {
      const known = opcode <= BINARY || (opcode >= CLOSE && opcode <= PONG);
      if (!known || opcode === CLOSE || (header[0] & RSV) !== 0) this.#over = true;
      side.need = 2 + lengthBytes + (header[1] >= 128 ? 4 : 0);
      if (side.need > 2) return;
    }
    let size = short;
    if (lengthBytes > 0) {
      size = 0;
      for (let i = 0; i < lengthBytes; i++) size = size * 256 + header[2 + i];
    }
    if (size > Number.MAX_SAFE_INTEGER) this.#over = true;
    side.left = size;
    side.passed = 0;
    side.data = opcode === CONTINUATION || opcode === TEXT || opcode === BINARY;
    if (size === 0) begin(side);
  }
}

function begin(side: Side): void {
  side.have = 0;
  side.need = 2;
}

function payload(
  side: Side,
  fromOrig: 0 | 1,
  u8: Uint8Array,
  at: number,
  size: number,
  sink: PayloadSink,
): void {
  if (side.header[1] < 128) {
    sink(fromOrig, u8, at, size);
    return;
  }
  const mask = side.need - 4;
  for (let i = 0; i < size; i++) clear[i] = u8[at + i] ^ side.header[mask + ((side.passed + i) & 3)];
  sink(fromOrig, clear, 0, size);
}
