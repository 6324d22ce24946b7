import { AfPacketSource } from '../src/capture/afpacket.ts';
import { FanoutGroup, type FanoutWish } from '../src/capture/fanout.ts';
import { interfaceInfo, openPacketRing, PacketSender } from '../src/kernel/index.ts';
import type { Packet } from '../src/packet/packet.ts';

/** Frames in one go: few enough that the queue of a virtual interface holds them. */
const BURST = 64;

export const FLOWS_WHOLE: FanoutWish = {
  mode: 'ebpf',
  key: 'flow',
  inner: false,
  vlanKey: false,
  rollover: false,
};

export interface RingSizes {
  blocks?: number;
  blockSize?: number;
  retireMs?: number;
}

/** The rings of a fanout group on an interface, all in this thread. */
export class Rings {
  readonly sources: readonly AfPacketSource[];
  readonly group: FanoutGroup | undefined;

  constructor(
    ifname: string,
    rings: number,
    wish: FanoutWish,
    { blocks = 16, blockSize = 1 << 16, retireMs = 1 }: RingSizes = {},
  ) {
    const { index } = interfaceInfo(ifname);
    const group = rings > 1 ? FanoutGroup.make(index, rings, wish) : undefined;
    this.group = group;
    const sources: AfPacketSource[] = [];
    this.sources = sources;
    try {
      for (let i = 0; i < rings; i++) {
        const ring = openPacketRing({
          interface: index,
          blocks,
          blockSize,
          retireMs,
          ...(group === undefined ? {} : { fanout: group.ticket }),
        });
        sources.push(new AfPacketSource(ring, ifname));
      }
      group?.settle();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  drain(sink: (packet: Packet, ring: number) => void): void {
    for (const [ring, source] of this.sources.entries())
      source.drain((packet) => sink(packet, ring), Number.MAX_SAFE_INTEGER);
  }

  /** Packets that the rings took or dropped, dropped ones, and how often one was full. */
  counts(): { packets: number; drops: number; freezes: number } {
    const sum = { packets: 0, drops: 0, freezes: 0 };
    for (const source of this.sources) {
      const { packets, drops, freezes } = source.counts();
      sum.packets += packets;
      sum.drops += drops;
      sum.freezes += freezes;
    }
    return sum;
  }

  get received(): number {
    return this.sources.reduce((sum, { packets }) => sum + packets, 0);
  }

  close(): void {
    this.group?.settle();
    for (const source of this.sources) source.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Sends all of these frames, a few at a time; `between` runs between. They come in on the CPU that sends, and `byCpu` on its
 * queue, as from a card that knows no flows.
 */
export function sendAll(
  ifname: string,
  frames: readonly Uint8Array[],
  { between = () => {}, byCpu = false }: { between?: (sent: number) => void; byCpu?: boolean } = {},
): void {
  using sender = new PacketSender(ifname, { qdiscBypass: byCpu });
  for (let at = 0; at < frames.length; ) {
    between(at);
    const part = frames.slice(at, at + BURST);
    const offsets = new Uint32Array(part.length + 1);
    for (const [i, frame] of part.entries()) offsets[i + 1] = offsets[i] + frame.length;
    at += sender.send(Buffer.concat(part), offsets);
  }
}
