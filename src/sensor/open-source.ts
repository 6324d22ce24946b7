import { AfPacketSource } from '../capture/afpacket.ts';
import { oneSidedPorts } from '../capture/balance.ts';
import { balanceProgram } from '../capture/reuseport.ts';
import type { LiveSource } from '../capture/source.ts';
import { UdpSource } from '../capture/udp.ts';
import { encodeCbpf } from '../ebpf/index.ts';
import { openPacketRing, setThreadAffinity, UdpReceiver } from '../kernel/index.ts';
import { openFrames } from './frames.ts';
import type { InterfaceSource, MirrorSource, WorkerSetup } from './setup.ts';
import { UdpStat } from './udp-books.ts';

/** What a worker drains. */
export interface OpenedSource {
  source: LiveSource;
  /** Writes what only this kind of source counts (SOURCE_STATS). */
  publish: (out: Float64Array) => void;
}

export function openSource(setup: WorkerSetup): OpenedSource {
  const { source } = setup;
  if (source.kind === 'udp') return openMirror(source, setup);
  // First: the kernel takes the memory of a ring, or of frames, from where this thread runs.
  if (source.cpu !== undefined) setThreadAffinity(source.cpu);
  return source.kind === 'afxdp' ? openFrames(source) : openInterface(source);
}

function openInterface(setup: InterfaceSource): OpenedSource {
  const ring = openPacketRing({
    interface: setup.ifindex,
    blockSize: setup.ringBlock,
    blocks: Math.max(4, Math.floor(setup.ringBytes / setup.ringBlock)),
    retireMs: setup.retireMs,
    promiscuous: true,
    ignoreOutgoing: true,
    ...(setup.fanout === undefined ? {} : { fanout: setup.fanout }),
    ...(setup.snaplen === undefined ? {} : { snaplen: setup.snaplen }),
  });
  if (setup.snap !== undefined) ring.filterBy({ fd: setup.snap.program });
  return { source: new AfPacketSource(ring, setup.ifname), publish: () => {} };
}

function openMirror(
  { name, address, bufferBytes, balancer }: MirrorSource,
  { workers, tunnelPorts }: WorkerSetup,
): OpenedSource {
  const receiver = new UdpReceiver({
    address: address.address,
    port: address.port,
    implementation: address.implementation,
    reusePort: workers > 1,
    bufferBytes,
  });
  // Each worker attaches the same program; it counts the sockets in the order in which they were opened.
  if (workers > 1)
    receiver.balance(
      balancer === undefined
        ? encodeCbpf(balanceProgram(address.encapsulation, workers, oneSidedPorts(tunnelPorts)))
        : { fd: balancer },
    );
  const source = new UdpSource(receiver, address.encapsulation, name);
  return {
    source,
    publish: (out) => {
      out[UdpStat.received] = source.datagrams;
      out[UdpStat.dropped] = receiver.drops();
      out[UdpStat.cut] = source.truncated;
      out[UdpStat.bufferBytes] = receiver.bufferBytes;
      out.set(source.reasons, UdpStat.reasons);
    },
  };
}
