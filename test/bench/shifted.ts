import type { Mix } from '../../bench/tls-mix.ts';

/** Where IPv4 addresses begin in a frame. */
const SOURCE = 14 + 12;
const TARGET = SOURCE + 4;
const TURNS = 512;

/** What the bench's program makes of a frame of a mix in this turn: the client's address is the turn's, checksums stay right. */
export function shifted({ frames, offsets }: Mix, turn: number, i: number): Uint8Array {
  const frame = frames.slice(offsets[i], offsets[i + 1]);
  const view = new DataView(frame.buffer);
  const client = (1 + (turn % TURNS)) * 16;
  // Clients have 10 in front, servers 198.
  const [c, s] = frame[SOURCE] === 10 ? [SOURCE, TARGET] : [TARGET, SOURCE];
  view.setUint16(c + 2, client);
  view.setUint16(s + 2, (0x6400 - client) & 0xffff);
  return frame;
}
