/** The receiving side of `sluice bench capture`: one capture worker without anything behind it, on a CPU of its own. */
import { parentPort, workerData } from 'node:worker_threads';
import { AfPacketSource } from '../src/capture/afpacket.ts';
import { AfXdpSource } from '../src/capture/afxdp.ts';
import type { LiveSource } from '../src/capture/source.ts';
import { BpfMap, openPacketRing, setThreadAffinity, XdpSocket } from '../src/kernel/index.ts';
import type { Packet } from '../src/packet/packet.ts';
import { cpuSeconds } from './measure.ts';

export interface ReceiverSetup {
  ifindex: number;
  cpu: number;
  bytes: number;
  /** Descriptor of the map of sockets; undefined: an AF_PACKET ring. */
  sockets: number | undefined;
}

/** Totals since the start. */
export interface Received {
  packets: number;
  drops: number;
  /** CPU seconds of the thread. */
  cpu: number;
}

const BLOCK = 128 << 10;
const RETIRE_MS = 10;
const TURN = 16_384;

const { ifindex, cpu, bytes, sockets } = workerData as ReceiverSetup;

function open(): LiveSource {
  if (sockets !== undefined)
    return new AfXdpSource([XdpSocket.open({ ifindex, queue: 0, bytes })], 'afxdp', {
      map: BpfMap.adopt(sockets),
    });
  const ring = openPacketRing({
    interface: ifindex,
    blockSize: BLOCK,
    blocks: bytes / BLOCK,
    retireMs: RETIRE_MS,
  });
  return new AfPacketSource(ring, 'ring');
}

setThreadAffinity(cpu);
const source = open();
let sum = 0;
/** Looks at each frame, as whoever takes it will. */
const sink = (p: Packet): void => {
  sum = (sum + p.u8[p.offset + 23] + p.u8[p.offset + p.caplen - 1]) | 0;
};
source.onReadable(() => void source.drain(sink, TURN));
parentPort?.on('message', (message: 'read' | 'end') => {
  if (message === 'end') {
    source.close();
    parentPort?.close();
    return;
  }
  const { drops } = source.counts();
  parentPort?.postMessage({ packets: source.packets, drops, cpu: cpuSeconds() } satisfies Received);
});
parentPort?.postMessage('ready');
