/** A virtual cable for `sluice bench shunt`, and what is sent into it. */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import {
  attachXdp,
  type BpfLink,
  interfaceCounters,
  interfaceInfo,
  loadInstructions,
  ProgramType,
  XdpAction,
} from '../src/kernel/index.ts';
import { ip } from './cable.ts';
import { type LiveSender, type Place, STREAMS } from './live-sender.ts';

/** Of 512 that there are (bpf/bench_send.bpf.c), the addresses that a stream has before it takes those of the next one. */
const TURNS = 512 / STREAMS;

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

/** In the network namespace of this thread. */
export class Stand {
  readonly tap: string;
  readonly #far: number;
  /** The most that one stream sends in a second. */
  readonly #each: number;
  #streams: readonly Place[] = [];
  #sender: LiveSender;
  #sent = 0;

  /**
   * `name`: of four letters at most, as the kernel's thread has it in its name of fifteen. `each`: packets a second beyond which
   * there are more connections at a time, not faster ones.
   */
  constructor(name: string, sender: LiveSender, each = Number.POSITIVE_INFINITY) {
    this.tap = `${name}0`;
    const far = `${name}1`;
    ip('link', 'add', this.tap, 'type', 'veth', 'peer', 'name', far);
    for (const end of [this.tap, far]) {
      ip('link', 'set', end, 'addrgenmode', 'none');
      ip('link', 'set', end, 'up');
    }
    this.#far = interfaceInfo(far).index;
    this.#each = each;
    this.#sender = sender;
    this.change(sender);
  }

  /** What this one has is sent from now on, from its beginning. */
  change(sender: LiveSender): void {
    this.#sender = sender;
    // Streams are at different places of the mix, so that its large connections are not all at the same time.
    this.#streams = Array.from({ length: STREAMS }, (_, i) => ({
      next: Math.floor((sender.packets * i) / STREAMS),
      turn: (this.#streams[i]?.turn ?? i * TURNS - 1) + 1,
    }));
  }

  /** Frames that have not arrived since the stand was made, as the cable had no room for them; a moment after they were sent. */
  get dropped(): number {
    return this.#sent - interfaceCounters(this.tap).rxPackets;
  }

  /** Lets everything pass in XDP, so that what arrives takes the same way as with a gate. */
  passAll(): BpfLink {
    return this.#bare(XdpAction.pass);
  }

  /** Drops everything: what is left is what the cable itself costs. */
  dropAll(): BpfLink {
    return this.#bare(XdpAction.drop);
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

  /** Sends for a while at this rate, or as fast as it goes if that is slower; blocks meanwhile. `each` is called every `step` seconds. */
  send(rate: number, seconds: number, step = seconds, each?: (packets: number) => void): Sent {
    const begun = performance.now();
    const count = Math.round(rate * step);
    const streams = this.#streams.slice(0, Math.min(STREAMS, Math.ceil(rate / this.#each) || 1));
    const steps = Math.round(seconds / step);
    for (let i = 0; i < steps; i++) {
      this.#sender.send(this.#far, streams, count, rate);
      this.#sent += count;
      each?.(count);
    }
    return { packets: count * steps, seconds: (performance.now() - begun) / 1000 };
  }

  close(): void {
    ip('link', 'del', this.tap);
  }
}
