/** A virtual cable for `sluice bench shunt`, and who sends a mix into it at set rates. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { SluiceError } from '../src/base/errors.ts';
import {
  attachXdp,
  type BpfLink,
  interfaceCounters,
  interfaceInfo,
  KernelError,
  loadInstructions,
  PacketSender,
  ProgramType,
} from '../src/kernel/index.ts';
import { type Mix, shiftAddresses } from './tls-mix.ts';

/** Frames of one send. */
const BURST = 32;
const XDP_DROP = 1;
const XDP_PASS = 2;

export interface Sent {
  packets: number;
  seconds: number;
}

function commandOf(pid: string): string {
  try {
    return readFileSync(`/proc/${pid}/comm`, 'utf8');
  } catch {
    return '';
  }
}

function ip(...args: string[]): void {
  const { status, stderr } = spawnSync('ip', args, { encoding: 'utf8' });
  if (status !== 0) throw new SluiceError('LAB', `ip ${args.join(' ')}: ${stderr}`);
}

/** In the network namespace of this thread. */
export class Stand {
  readonly tap = 'bst0';
  readonly #far = 'bst1';
  readonly #sender: PacketSender;
  #mix: Mix;
  readonly #sleep = new Int32Array(new SharedArrayBuffer(4));
  #turn = 0;
  #at = 0;

  constructor(mix: Mix) {
    this.#mix = mix;
    ip('link', 'add', this.tap, 'type', 'veth', 'peer', 'name', this.#far);
    for (const name of [this.tap, this.#far]) {
      ip('link', 'set', name, 'addrgenmode', 'none');
      ip('link', 'set', name, 'up');
    }
    this.#sender = new PacketSender(this.#far);
  }

  /** Sends this from now on, from its beginning. */
  change(mix: Mix): void {
    this.#mix = mix;
    this.#at = 0;
    this.#turn++;
  }

  /** Frames for which the cable itself had no room: the receiving side did not come to them. */
  get dropped(): number {
    const [a, b] = [interfaceCounters(this.tap), interfaceCounters(this.#far)];
    return a.rxDropped + a.txDropped + b.rxDropped + b.txDropped;
  }

  /** Lets everything pass in XDP, so that what arrives takes the same way as with a gate. */
  passAll(): BpfLink {
    return this.#bare(XDP_PASS);
  }

  /** Drops everything: what is left is what the cable itself costs. */
  dropAll(): BpfLink {
    return this.#bare(XDP_DROP);
  }

  #bare(verdict: number): BpfLink {
    // mov r0, verdict; exit
    const code = Uint8Array.of(0xb7, 0, 0, 0, verdict, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0);
    const program = loadInstructions(code, { type: ProgramType.xdp, name: 'bare' });
    const link = attachXdp({ program, ifindex: interfaceInfo(this.tap).index, mode: 'native' });
    program.close();
    return link;
  }

  /**
   * What arrives is taken in by a thread of the kernel's own in place of whoever sends: pinned to `cpu`, and first there, as
   * an interrupt would be. Undefined where the kernel has none; it ends with the XDP program.
   */
  receiver(cpu: number): number | undefined {
    // /sys shows the interfaces of the namespace in which it was mounted.
    const threaded = `mount -t sysfs sysfs /sys && echo 1 > /sys/class/net/${this.tap}/threaded`;
    spawnSync('unshare', ['-m', 'sh', '-c', threaded], { stdio: 'ignore' });
    const pid = readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .find((name) => commandOf(name).startsWith(`napi/${this.tap}-`));
    if (pid === undefined) return undefined;
    spawnSync('taskset', ['-p', '-c', String(cpu), pid], { stdio: 'ignore' });
    spawnSync('chrt', ['-f', '-p', '50', pid], { stdio: 'ignore' });
    return Number(pid);
  }

  /** Sends for a while at this rate, or as fast as it goes; blocks meanwhile. `each` is called every `step` seconds. */
  send(
    rate: number,
    seconds: number,
    step = Number.POSITIVE_INFINITY,
    each?: (packets: number) => void,
  ): Sent {
    const begun = performance.now();
    const end = begun + seconds * 1000;
    let next = begun + step * 1000;
    let packets = 0;
    let told = 0;
    for (let now = begun; now < end; now = performance.now()) {
      if (now >= next) {
        each?.(packets - told);
        told = packets;
        next += step * 1000;
      }
      if (packets > ((now - begun) * rate) / 1000) Atomics.wait(this.#sleep, 0, 0, 0.2);
      else packets += this.#burst();
    }
    return { packets, seconds: (performance.now() - begun) / 1000 };
  }

  #burst(): number {
    const { frames, offsets, packets } = this.#mix;
    const count = Math.min(BURST, packets - this.#at);
    shiftAddresses(this.#mix, this.#turn, this.#at, this.#at + count);
    const sent = this.#offer(frames, offsets, count);
    this.#at += sent;
    if (this.#at === packets) {
      this.#at = 0;
      this.#turn++;
    }
    return sent;
  }

  /** How many were taken; of those for which the cable has no room the interface counts one as dropped. */
  #offer(frames: Uint8Array, offsets: Uint32Array, count: number): number {
    try {
      return this.#sender.send(frames, offsets, this.#at, count);
    } catch (error) {
      if (error instanceof KernelError && error.errnoName === 'ENOBUFS') return 0;
      throw error;
    }
  }

  close(): void {
    this.#sender.close();
    ip('link', 'del', this.tap);
  }
}
