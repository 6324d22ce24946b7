import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { cpus } from 'node:os';
import { setTimeout as pause } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { SluiceError } from '../src/base/errors.ts';
import { FrameStage } from '../src/gate/frame-stage.ts';
import { bpfObjectPath } from '../src/gate/kind.ts';
import { occupy } from '../src/gate/slots.ts';
import {
  attachXdp,
  type BpfLink,
  interfaceInfo,
  PacketSender,
  setThreadAffinity,
  unshareNetns,
} from '../src/kernel/index.ts';
import { eth } from '../src/packet/build.ts';
import type { Received, ReceiverSetup } from './capture-receiver.ts';
import { type BenchIo, cpuSeconds, interleaved, median, paired, ratio, type Table } from './measure.ts';
import { GateTables } from './tables.ts';

/** As `sluice run` has it. */
const RING_BYTES = 64 << 20;
const SIZES = [128, 1400] as const;
/** Packets a second at which CPU time is compared. */
const RATE = 100_000;
const SECONDS = 0.4;
/** Frames of one send; what a virtual interface holds back is more. */
const BURST = 64;
const STEPS = 5;
/** Until what is on its way has arrived. */
const SETTLE_MS = 20;
const SETTLES = 40;

export interface CaptureCase {
  kind: 'ring' | 'afxdp';
  size: number;
}

interface Trial {
  /** Frames a second that reached ring or socket. */
  rate: number;
  /** Of these, frames for which there was no room. What a virtual interface loses before is not among them. */
  lost: number;
  /** Nanoseconds of CPU for each frame: of the thread that receives, and of the one in which gate and kernel run. */
  receiverNs: number;
  senderNs: number;
}

const reached = ({ packets, drops }: Received): number => packets + drops;

function ip(...args: string[]): void {
  const { status, stderr } = spawnSync('ip', args, { encoding: 'utf8' });
  if (status !== 0) throw new SluiceError('LAB', `ip ${args.join(' ')}: ${stderr}`);
}

/** A virtual cable with a gate, who sends into it, and who captures behind it. */
class Stand {
  readonly #gate: GateTables;
  readonly #stage: FrameStage | undefined;
  readonly #link: BpfLink;
  readonly #sender: PacketSender;
  readonly #receiver: Worker;
  readonly #frames: Uint8Array;
  readonly #offsets: Uint32Array;
  readonly #sleep = new Int32Array(new SharedArrayBuffer(4));

  private constructor({ kind, size }: CaptureCase, number: number) {
    const [a, b] = [`bc${number}a`, `bc${number}b`];
    ip('link', 'add', a, 'type', 'veth', 'peer', 'name', b);
    for (const name of [a, b]) {
      ip('link', 'set', name, 'addrgenmode', 'none');
      ip('link', 'set', name, 'up');
    }
    const { index } = interfaceInfo(a);
    this.#gate = new GateTables(bpfObjectPath('gate'), 1024, 1024);
    if (kind === 'afxdp') {
      this.#stage = new FrameStage(1, 'veth');
      occupy(this.#gate.object.map('next'), 0, this.#stage.program);
      this.#stage.attached('native');
    }
    this.#link = attachXdp({
      program: this.#gate.object.program('sluice_gate'),
      ifindex: index,
      mode: 'native',
    });
    const frame = eth()
      .ipv4({ src: '192.0.2.1', dst: '192.0.2.2' })
      .tcp({ sport: 12_345, dport: 443, flags: 'A' })
      .payload(size - 54)
      .bytes();
    this.#frames = Buffer.concat(Array.from({ length: BURST }, () => frame));
    this.#offsets = Uint32Array.from({ length: BURST + 1 }, (_, i) => i * frame.length);
    this.#sender = new PacketSender(b);
    const body = import.meta.url.endsWith('.ts') ? './capture-receiver.ts' : './capture-receiver.js';
    const setup: ReceiverSetup = {
      ifindex: index,
      cpu: 0,
      bytes: RING_BYTES,
      sockets: this.#stage?.sockets.fd,
    };
    this.#receiver = new Worker(new URL(body, import.meta.url), { workerData: setup });
  }

  static async open(one: CaptureCase, number: number): Promise<Stand> {
    const stand = new Stand(one, number);
    await once(stand.#receiver, 'message');
    return stand;
  }

  async #read(): Promise<Received> {
    this.#receiver.postMessage('read');
    const [received] = (await once(this.#receiver, 'message')) as [Received];
    return received;
  }

  /** Sends for a while at this rate, or as fast as it goes. */
  async trial(rate: number, seconds: number): Promise<Trial> {
    const before = await this.#read();
    const cpu = cpuSeconds();
    const begun = performance.now();
    const end = begun + seconds * 1000;
    let sent = 0;
    for (let now = begun; now < end; now = performance.now()) {
      if (sent > ((now - begun) * rate) / 1000) Atomics.wait(this.#sleep, 0, 0, 0.2);
      else sent += this.#sender.send(this.#frames, this.#offsets);
    }
    const taken = (performance.now() - begun) / 1000;
    const senderCpu = cpuSeconds() - cpu;
    let after = await this.#read();
    for (let i = 0; i < SETTLES && reached(after) - reached(before) < sent; i++) {
      await pause(SETTLE_MS);
      const now = await this.#read();
      if (reached(now) === reached(after) && i > 1) break;
      after = now;
    }
    const packets = after.packets - before.packets;
    return {
      rate: (reached(after) - reached(before)) / taken,
      lost: after.drops - before.drops,
      receiverNs: ((after.cpu - before.cpu) * 1e9) / Math.max(1, packets),
      senderNs: (senderCpu * 1e9) / sent,
    };
  }

  /** Frames a second at which none is lost, within a thirtieth of the most that can be sent. */
  async highest(seconds: number): Promise<number> {
    const most = await this.trial(Number.POSITIVE_INFINITY, seconds);
    if (most.lost === 0) return most.rate;
    let good = 0;
    let bad = most.rate;
    for (let step = 0; step < STEPS; step++) {
      const middle = (good + bad) / 2;
      const trial = await this.trial(middle, seconds);
      if (trial.lost === 0) good = trial.rate;
      else bad = middle;
    }
    return good;
  }

  async close(): Promise<void> {
    this.#receiver.postMessage('end');
    await once(this.#receiver, 'exit');
    this.#sender.close();
    this.#link.close();
    this.#stage?.close();
    this.#gate.close();
  }
}

/**
 * Capture behind the gate, by an AF_PACKET ring and by AF_XDP: CPU time per frame at a fixed rate, and the highest rate at which
 * nothing is lost, in trials of `seconds`. In a network namespace of this thread's own.
 */
export async function benchCapture(
  rounds: number,
  io: BenchIo,
  seconds = SECONDS,
): Promise<{ tables: Table[]; notes: string[] }> {
  if (cpus().length > 1) setThreadAffinity(1);
  unshareNetns();
  const cases = SIZES.flatMap((size) => [{ kind: 'ring', size } as const, { kind: 'afxdp', size } as const]);
  const trials = cases.map((): Trial[] => []);
  const stands: Stand[] = [];
  let highest: number[][];
  try {
    for (const [number, one] of cases.entries()) stands.push(await Stand.open(one, number));
    highest = await interleaved([...cases.keys()], rounds, io, async (at) => {
      trials[at].push(await stands[at].trial(RATE, seconds));
      return await stands[at].highest(seconds);
    });
  } finally {
    for (const stand of stands) await stand.close();
  }
  const all = (i: number): number[] => trials[i].slice(1).map((t) => t.receiverNs + t.senderNs);
  const rows = cases.map(({ kind, size }, at) => {
    // The first round is a warm-up.
    const of = (key: 'receiverNs' | 'senderNs'): number[] => trials[at].slice(1).map((trial) => trial[key]);
    const ring = at - (at % 2);
    return {
      name: kind,
      size,
      receiver: median(of('receiverNs')),
      sender: median(of('senderNs')),
      both: median(all(at)),
      share: paired(all(at), all(ring), ratio),
      highest: median(highest[at]),
      highestShare: paired(highest[at], highest[ring], ratio),
    };
  });
  return {
    tables: [
      {
        title: `capture behind the gate on a veth, ${RATE.toLocaleString('en-US')} frames/s`,
        columns: [
          { key: 'name', title: 'capture' },
          { key: 'size', title: 'bytes' },
          { key: 'receiver', title: 'worker ns' },
          { key: 'sender', title: 'sender ns' },
          { key: 'both', title: 'both ns' },
          { key: 'share', title: 'of ring', digits: 2 },
          { key: 'highest', title: 'most/s without loss' },
          { key: 'highestShare', title: 'of ring', digits: 2 },
        ],
        rows,
      },
    ],
    notes: [
      'CPU time per frame: of the thread that takes the frames (and looks at two bytes of each), and of the one that sends them, in which the gate and the kernel’s way to the ring or socket run. The sender’s own part is the same for both.',
    ],
  };
}
