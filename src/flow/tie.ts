import type { Tunnel } from './tunnels.ts';

/**
 * A number for the tunnels around a packet, the outermost first, the same as in the gate (bpf/inner.h): of each tunnel its
 * words are mixed in, which are the key of its flow, or both addresses where it has none. 0: no tunnel.
 */
export function tieOf(stack: readonly Tunnel[]): number {
  let tie = 0;
  for (const { words } of stack) {
    for (let i = 0; i < words.length; i++) {
      tie = Math.imul(tie ^ words[i], 0x9e37_79b1);
      tie ^= tie >>> 15;
    }
    if (tie === 0) tie = 1;
  }
  return tie >>> 0;
}

/** Two addresses as they stand in a key, the lower one first; `from` and `to` in network order. */
export function addressWords(from: Uint8Array, to: Uint8Array): Int32Array {
  const inOrder = Buffer.compare(from, to) <= 0;
  const bytes = Buffer.concat(inOrder ? [from, to] : [to, from]);
  const words = new Int32Array(bytes.length / 4);
  for (let i = 0; i < words.length; i++) words[i] = bytes.readInt32LE(4 * i);
  return words;
}
