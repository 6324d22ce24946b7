import type { RunConfig } from '../base/config.ts';
import { SluiceError } from '../base/errors.ts';
import { AfXdpSource, Order } from '../capture/afxdp.ts';
import { FrameStage } from '../gate/frame-stage.ts';
import type { Gate } from '../gate/index.ts';
import {
  BpfMap,
  type InterfaceInfo,
  interfaceInfo,
  Promiscuity,
  rxQueues,
  XdpSocket,
} from '../kernel/index.ts';
import { type FrameSource, SOURCE_STATS, Stat } from './setup.ts';

/**
 * What workers with AF_XDP sockets count beside the rest (SOURCE_STATS): their queues, those without a copy, and of each of the first
 * TOLD_QUEUES its number, frames, those with an earlier time than one before them, and the furthest back of these, seconds.
 */
export const FrameStat = { queues: 0, zeroCopy: 1, orders: 2 } as const;
const ORDER_STATS = 4;
const TOLD_QUEUES = Math.floor((SOURCE_STATS - FrameStat.orders) / ORDER_STATS);

/** In what order the frames of a queue came. */
export interface QueueOrderReport {
  queue: number;
  packets: number;
  late: number;
  seconds: number;
}

/** What a worker has published of its queues. */
export function queueOrders(stats: Float64Array): QueueOrderReport[] {
  const at = Stat.source;
  const told = Math.min(TOLD_QUEUES, stats[at + FrameStat.queues]);
  return Array.from({ length: told }, (_, i) => {
    const [queue, packets, late, seconds] = stats.subarray(at + FrameStat.orders + i * ORDER_STATS);
    return { queue, packets, late, seconds };
  });
}

/** Capture by AF_XDP on one interface: the program behind its gate, and who takes the frames of which queue. */
export class FrameCapture {
  readonly #stage: FrameStage;
  readonly #info: InterfaceInfo;
  readonly #config: RunConfig;
  readonly #queues: number;

  /**
   * Puts the program behind the gate's pass verdict. Frames go to the kernel until there are sockets.
   * @throws SluiceError USAGE when there are more workers than queues
   */
  constructor(gate: Gate, info: InterfaceInfo, config: RunConfig) {
    this.#info = info;
    this.#config = config;
    this.#queues = checkQueues(info.name, config.workers);
    this.#stage = new FrameStage(this.#queues, info.kind);
    gate.setNext(this.#stage.program);
  }

  /** What is lost to this host by it; undefined: nothing. */
  get warning(): string | undefined {
    const { name, addresses } = this.#info;
    const own = addresses.map(({ address }) => address).filter((address) => !address.startsWith('fe80:'));
    if (own.length === 0) return undefined;
    return `${name} has the address ${own.join(', ')}: with --capture afxdp this host cannot be reached over it`;
  }

  /** What the worker with this number, from 0, receives from, and the CPU that it is pinned to. */
  source(number: number, cpu: number | undefined): FrameSource {
    const queues: number[] = [];
    for (let queue = number; queue < this.#queues; queue += this.#config.workers) queues.push(queue);
    return {
      kind: 'afxdp',
      ifname: this.#info.name,
      ifindex: this.#info.index,
      ringBytes: this.#config.ringBytes,
      retireMs: this.#config.retire * 1000,
      queues,
      sockets: this.#stage.sockets.fd,
      cpu,
    };
  }

  /** Once the gate is attached. */
  attached(mode: string): void {
    this.#stage.attached(mode);
  }

  close(): void {
    this.#stage.close();
  }
}

/** Receive queues of an interface. @throws SluiceError USAGE when there are more workers than that */
export function checkQueues(name: string, workers: number): number {
  const queues = rxQueues(name);
  if (queues >= workers) return queues;
  throw new SluiceError(
    'USAGE',
    `--workers ${workers} with --capture afxdp: ${name} has ${queues} receive queue${queues === 1 ? '' : 's'}, and each worker takes at least one`,
    {
      help: `use --workers ${queues}, give it more queues (\`ethtool -L ${name} combined ${workers}\`), or capture with --capture ring`,
    },
  );
}

/** Opens the sockets of one worker, which share the memory that it is to have. */
export function openFrames(setup: FrameSource): {
  source: AfXdpSource;
  publish: (out: Float64Array) => void;
} {
  const sockets: XdpSocket[] = [];
  try {
    const bytes = Math.floor(setup.ringBytes / setup.queues.length);
    const { mtu } = interfaceInfo(setup.ifname);
    for (const queue of setup.queues)
      sockets.push(XdpSocket.open({ ifindex: setup.ifindex, queue, bytes, mtu }));
    const zeroCopy = sockets.filter((socket) => socket.zeroCopy).length;
    const source = new AfXdpSource(sockets, setup.ifname, {
      map: BpfMap.adopt(setup.sockets),
      promiscuity: new Promiscuity(setup.ifindex),
      // As long as a frame waits in a block of a ring on the average.
      lookMs: Math.max(1, Math.round(setup.retireMs / 2)),
    });
    const told = source.orders.slice(0, TOLD_QUEUES);
    return {
      source,
      publish: (out) => {
        out[FrameStat.queues] = sockets.length;
        out[FrameStat.zeroCopy] = zeroCopy;
        let at: number = FrameStat.orders;
        for (const { queue, order } of told) {
          out[at++] = queue;
          out[at++] = order[Order.frames];
          out[at++] = order[Order.late];
          out[at++] = order[Order.seconds];
        }
      },
    };
  } catch (error) {
    for (const socket of sockets) socket.close();
    throw error;
  }
}

/** How frames are taken, for people. */
export function captureText(stats: readonly Float64Array[]): string {
  let queues = 0;
  let zeroCopy = 0;
  for (const each of stats) {
    queues += each[Stat.source + FrameStat.queues];
    zeroCopy += each[Stat.source + FrameStat.zeroCopy];
  }
  if (zeroCopy === 0) return 'afxdp (copy)';
  return zeroCopy === queues ? 'afxdp (zero copy)' : `afxdp (zero copy on ${zeroCopy} of ${queues} queues)`;
}
