import { u16be } from './bytes.ts';
import { between } from './choice.ts';
import { oneMessage } from './datagram.ts';

/** RFC 2865, sections 3 and 5; codes up to 45: RFC 5176. */
const HEADER = 20;
const MAX_CODE = 45;
const MAX_LENGTH = 4096;
const PORTS = new Set([1645, 1646, 1812, 1813, 3799]);

function isRadius(u8: Uint8Array, offset: number, length: number, respPort: number): boolean {
  if (!PORTS.has(respPort) || length < HEADER) return false;
  const code = u8[offset];
  const size = u16be(u8, offset + 2);
  if (code === 0 || code > MAX_CODE || size < HEADER || size > MAX_LENGTH || size > length) return false;
  let at = HEADER;
  while (at + 2 <= size && u8[offset + at + 1] >= 2) at += u8[offset + at + 1];
  return at === size;
}

/** RADIUS on one of its ports: the attributes fill the message. */
export const RADIUS = oneMessage('radius', between(1, MAX_CODE), isRadius);
