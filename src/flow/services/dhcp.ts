import { oneOf } from './choice.ts';
import { oneMessage } from './datagram.ts';

/** RFC 2131, section 2. */
const COOKIE_AT = 236;
const MAX_HARDWARE = 16;

function isDhcp(u8: Uint8Array, offset: number, length: number): boolean {
  if (length < COOKIE_AT + 4) return false;
  const op = u8[offset];
  if ((op !== 1 && op !== 2) || u8[offset + 1] === 0 || u8[offset + 2] > MAX_HARDWARE) return false;
  const at = offset + COOKIE_AT;
  return u8[at] === 0x63 && u8[at + 1] === 0x82 && u8[at + 2] === 0x53 && u8[at + 3] === 0x63;
}

/** DHCP: BOOTP with the magic cookie. */
export const DHCP = oneMessage('dhcp', oneOf(1, 2), isDhcp);
