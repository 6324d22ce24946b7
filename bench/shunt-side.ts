/** One of the two that `sluice bench shunt` compares: who listens on a stand of its own, and what that costs. */
import { setTimeout as pause } from 'node:timers/promises';
import { parseBytes } from '../src/base/units.ts';
import type { BpfLink } from '../src/kernel/index.ts';
import type { LiveSender } from './live-sender.ts';
import { type Highest, highestRate } from './rate-search.ts';
import type { Stand } from './shunt-stand.ts';
import { cpuOf, type Listener, type Peer, PeerListener, Sluice } from './shunt-tools.ts';

const SENSOR_CPU = 1;
/** By then a listener has taken what is in its buffer. */
const DRAINED_MS = 150;
/** Triggers by the policy that has them. */
const TRIGGERS: Readonly<Record<string, string>> = { tls: 'TLS_ESTABLISHED', bulk: 'BULK' };
/** Of the warm-up: the rate against that of a measurement, seconds between two looks, how much longer it may get. */
const WARM_RATE = 2;
const LOOK_SECONDS = 5;
const WARM_LONGEST = 3;

export interface Case {
  name: string;
  policy: string;
  /** Of our sensor; undefined: it does not run. */
  flags?: readonly string[];
  peer?: Peer;
}

/** Nobody listens, and all is dropped: what is left is what the cable itself costs. */
export const CABLE: Case = { name: 'the cable', policy: 'none' };

const NOBODY: Listener = { pid: 0, lost: async () => 0, stop: async () => {} };

/** Nanoseconds of CPU for each packet that was offered: of the listener, of the kernel's receiving thread with the gate. */
export interface Cost {
  own: number;
  kernel: number;
}

/** The size of `bulk` in a list of policies. */
export function bulkOf(policy: string): number | undefined {
  const size = /\bbulk=(\w+)/.exec(policy)?.[1];
  return size === undefined ? undefined : parseBytes(size);
}

/** What must have begun often enough, so that its code is compiled. */
function triggersOf(policy: string): string[] {
  return policy
    .split(',')
    .map((item) => TRIGGERS[item.split('=')[0]])
    .filter((trigger) => trigger !== undefined);
}

export class Side {
  readonly #stand: Stand;
  readonly #case: Case;
  /** In the order in which they began; costs are those of the last. */
  readonly #listeners: Listener[] = [];
  #link: BpfLink | undefined;
  #receiver: number | undefined;

  private constructor(one: Case, stand: Stand) {
    this.#case = one;
    this.#stand = stand;
  }

  static async start(one: Case, stand: Stand): Promise<Side> {
    const side = new Side(one, stand);
    try {
      await side.#start();
    } catch (error) {
      await side.stop();
      throw error;
    }
    return side;
  }

  async #start(): Promise<void> {
    const { flags, peer } = this.#case;
    if (flags === undefined) this.#link = peer === undefined ? this.#stand.dropAll() : this.#stand.passAll();
    else this.#listeners.push(await Sluice.start(this.#stand.tap, SENSOR_CPU, flags));
    if (peer !== undefined) this.#listeners.push(await PeerListener.start(peer, this.#stand.tap, SENSOR_CPU));
    this.#receiver = this.#stand.receiver(SENSOR_CPU);
  }

  get listener(): Listener {
    return this.#listeners.at(-1) ?? NOBODY;
  }

  get #sensor(): Sluice | undefined {
    return this.#listeners.find((each) => each instanceof Sluice);
  }

  /** Shunts that our sensor has begun, as text. */
  get shunts(): string {
    return [...(this.#sensor?.shunts() ?? [])]
      .map(([trigger, count]) => `${trigger} ${count.toLocaleString('en-US')}`)
      .join(', ');
  }

  /**
   * Code that has just begun to run is not compiled yet, and what runs once for a connection has not run often after a minute
   * of few: `busy` is sent for so many seconds, and on until each kind of shunt has begun `shunts` times. From then on `main` is sent.
   */
  async warm(
    busy: LiveSender,
    main: LiveSender,
    { rate, warm, shunts }: { rate: number; warm: number; shunts: number },
    stop: AbortSignal,
  ): Promise<void> {
    if (this.#sensor !== undefined) {
      this.#stand.change(busy);
      const wanted = triggersOf(this.#case.policy);
      const lacks = (): boolean => {
        const counts = this.#sensor?.shunts();
        return wanted.some((trigger) => (counts?.get(trigger) ?? 0) < shunts);
      };
      const step = Math.min(LOOK_SECONDS, warm);
      for (let s = 0; s < warm || (s < warm * WARM_LONGEST && lacks()); s += step) {
        if (stop.aborted) return;
        this.#stand.send(rate * WARM_RATE, step);
        await pause(DRAINED_MS);
      }
    }
    this.#stand.change(main);
  }

  /** What a packet costs that is sent at this rate for a while. */
  async cost(rate: number, seconds: number): Promise<Cost> {
    const cpu = () => [this.listener.pid, this.#receiver].map((pid) => (pid === undefined ? 0 : cpuOf(pid)));
    const before = cpu();
    const { packets } = this.#stand.send(rate, seconds);
    await pause(DRAINED_MS);
    const [own, kernel] = cpu().map((now, i) => ((now - before[i]) * 1e9) / packets);
    return { own, kernel };
  }

  /** Undefined where the tool does not say what it loses. */
  async highest(most: number, steps: number, seconds: number): Promise<Highest | undefined> {
    let before = await this.listener.lost();
    if (before === undefined) return undefined;
    let dropped = this.#stand.dropped;
    const offer = async (rate: number) => {
      const { packets, seconds: taken } = this.#stand.send(rate, seconds);
      await pause(DRAINED_MS);
      const now = (await this.listener.lost()) ?? 0;
      const offered = {
        rate: packets / taken,
        packets,
        cable: this.#stand.dropped - dropped,
        listener: now - (before ?? 0),
      };
      before = now;
      dropped += offered.cable;
      return offered;
    };
    return await highestRate(offer, most, steps);
  }

  async stop(): Promise<void> {
    this.#link?.close();
    for (const each of this.#listeners.toReversed()) await each.stop();
  }
}
