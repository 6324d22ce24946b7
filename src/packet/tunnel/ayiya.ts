import { LinkType } from '../link/types.ts';
import { Inside, type TunnelPayload } from './payload.ts';

const HEADER = 8;
const FORWARD = 1;

/** AYIYA (draft-massar-v6ops-ayiya-02): header, identity and signature, then what the next-header field says. */
export function ayiya(u8: Uint8Array, at: number, end: number, out: TunnelPayload): Inside {
  if (at + HEADER > end) return Inside.violation;
  const here = at + HEADER + (1 << (u8[at] >>> 4)) + (u8[at + 1] >>> 4) * 4;
  if (here > end) return Inside.violation;
  if ((u8[at + 2] & 15) !== FORWARD) return Inside.nothing;
  out.confirmed = true;
  const next = u8[at + 3];
  return next === 4 || next === 41 ? out.set(here, end, LinkType.raw) : Inside.nothing;
}

/** An identity of four bytes, a SHA-1 signature, and IPv6 forwarded: what every known client sends. */
export function looksLikeAyiya(u8: Uint8Array, at: number, end: number): boolean {
  return at + 3 <= end && u8[at + 1] === 0x52 && u8[at + 2] === 0x11;
}
