import { addon } from './addon.ts';
import { KernelError } from './errors.ts';

/**
 * Runs the kernel's own classic filter (SO_ATTACH_FILTER on a Unix datagram socket, no privilege wanted) on packets of
 * 1 to 65,536 bytes. For each, the bytes that it let through: 0 for no match, else what it returns, at most all of them.
 */
export function runSocketFilter(filter: Uint8Array, packets: readonly Uint8Array[]): number[] {
  const frames = new Uint32Array(packets.length * 2);
  const memory = new Uint8Array(packets.reduce((sum, { length }) => sum + length, 0));
  let offset = 0;
  for (const [index, packet] of packets.entries()) {
    memory.set(packet, offset);
    frames.set([offset, packet.length], index * 2);
    offset += packet.length;
  }
  const kept = new Uint32Array(packets.length);
  const result = addon().runSocketFilter(
    filter,
    memory,
    new Uint8Array(frames.buffer),
    new Uint8Array(kept.buffer),
  );
  if (result < 0) throw new KernelError('program.run', -result, 'run a classic filter on a socket');
  return [...kept];
}
