import { AfPacketSource } from '../capture/afpacket.ts';
import type { LiveSource } from '../capture/source.ts';
import { Fanout, openPacketRing } from '../kernel/index.ts';
import type { SourceSetup } from './setup.ts';

/** What the worker drains. */
export function openSource(setup: SourceSetup): LiveSource {
  const ring = openPacketRing({
    interface: setup.ifindex,
    blockSize: setup.ringBlock,
    blocks: Math.max(4, Math.floor(setup.ringBytes / setup.ringBlock)),
    retireMs: setup.retireMs,
    promiscuous: true,
    ignoreOutgoing: true,
    ...(setup.fanoutId === undefined ? {} : { fanout: { id: setup.fanoutId, mode: Fanout.hash } }),
  });
  return new AfPacketSource(ring, setup.ifname);
}
