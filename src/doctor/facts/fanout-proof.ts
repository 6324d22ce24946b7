import { closeSync, openSync } from 'node:fs';
import {
  bringUp,
  enterNetns,
  Fanout,
  interfaceInfo,
  openPacketRing,
  type PacketRing,
  PacketSender,
  unshareNetns,
} from '../../kernel/index.ts';
import { eth } from '../../packet/build.ts';
import type { FanoutFacts } from '../machine.ts';
import { addressText, reversed, sampleTuples, type Tuple } from '../toeplitz.ts';

const RINGS = 4;
const CONNECTIONS = 96;
const GROUP = 0x51ce;
/** Looks at the counters of a ring until a frame is there. */
const PATIENCE_MS = 3000;

function frameOf(tuple: Tuple, udp: boolean): Uint8Array {
  const ports = { sport: tuple.sourcePort, dport: tuple.destinationPort };
  const addresses = { src: addressText(tuple.source), dst: addressText(tuple.destination) };
  const layer = tuple.source.length === 4 ? eth().ipv4(addresses) : eth().ipv6(addresses);
  return (udp ? layer.udp(ports) : layer.tcp({ ...ports, flags: 'A' })).payload(8).bytes();
}

/** The ring that took a frame; undefined when none did. */
function ringOf(rings: readonly PacketRing[], sender: PacketSender, frame: Uint8Array): number | undefined {
  const before = rings.map((ring) => ring.stats().packets);
  sender.send(frame, Uint32Array.of(0, frame.length));
  const end = performance.now() + PATIENCE_MS;
  do {
    const ring = rings.findIndex((each, i) => each.stats().packets > before[i]);
    if (ring >= 0) return ring;
  } while (performance.now() < end);
  return undefined;
}

function prove(): FanoutFacts['proof'] {
  bringUp(interfaceInfo('lo').index);
  const rings: PacketRing[] = [];
  try {
    for (let i = 0; i < RINGS; i++)
      rings.push(
        openPacketRing({
          interface: 'lo',
          blockSize: 1 << 16,
          blocks: 2,
          promiscuous: false,
          fanout: { id: GROUP, mode: Fanout.hash },
        }),
      );
    using sender = new PacketSender('lo');
    const used = new Set<number>();
    let split = 0;
    const tuples = [...sampleTuples(CONNECTIONS / 2, 4), ...sampleTuples(CONNECTIONS / 2, 6)];
    for (const [i, tuple] of tuples.entries()) {
      const there = ringOf(rings, sender, frameOf(tuple, i % 2 === 0));
      const back = ringOf(rings, sender, frameOf(reversed(tuple), i % 2 === 0));
      if (there === undefined || back === undefined) return { failed: 'a frame did not come back' };
      used.add(there);
      if (there !== back) split++;
    }
    return { connections: CONNECTIONS, split, used: used.size };
  } finally {
    for (const ring of rings) ring.close();
  }
}

/**
 * Sends both directions of sample connections through a fanout group of this kernel's own hash, on the loopback of a network
 * namespace that exists only for that. The thread is back in its own namespace afterwards.
 */
export function proveFanout(): FanoutFacts['proof'] {
  let home: number;
  try {
    home = openSync('/proc/thread-self/ns/net', 'r');
  } catch (error) {
    return { failed: (error as Error).message };
  }
  try {
    unshareNetns();
  } catch (error) {
    closeSync(home);
    return { failed: (error as Error).message };
  }
  try {
    return prove();
  } catch (error) {
    return { failed: (error as Error).message };
  } finally {
    enterNetns(`/proc/self/fd/${home}`);
    closeSync(home);
  }
}
