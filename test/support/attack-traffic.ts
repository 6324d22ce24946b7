import { type Attacking, attackOf } from '../../bench/attack-traffic.ts';
import { usualTraffic } from '../../bench/usual-traffic.ts';
import type { StatusReport } from '../../src/gate/control-protocol.ts';
import { PacketSender } from '../../src/kernel/index.ts';
import { eventually } from '../gate/daemon-support.ts';
import { sluice } from './command.ts';

/** Packets a second of what is usual. */
const USUAL_PPS = 500;
/** Seconds for what takes some when the machine is quiet. */
const PATIENCE = 240;

/** Sends usual traffic at a rate, and an attack beside it for as long as it is told to. */
export class AttackTraffic {
  readonly #sender: PacketSender;
  readonly #makesUsual = usualTraffic(5, '198.51.100');
  readonly #attack: Attacking;
  readonly #timer: NodeJS.Timeout;
  /** Frames of the attack, made once. */
  readonly #frames: Uint8Array[];
  attacking = false;
  /** Packets of what is usual. */
  usual = 0;
  #last = performance.now();

  constructor(peer: string, kind: string, seed: number) {
    this.#sender = new PacketSender(peer);
    this.#attack = attackOf(kind, seed, this.server);
    this.#frames = Array.from({ length: 4000 }, (_, i) => this.#attack.packet(i));
    this.#timer = setInterval(() => this.#send(), 10);
  }

  get server(): string {
    return this.#makesUsual.servers[0];
  }

  #send(): void {
    const now = performance.now();
    const seconds = Math.min(0.1, (now - this.#last) / 1000);
    this.#last = now;
    const frames = Array.from({ length: Math.ceil(USUAL_PPS * seconds) }, () => this.#makesUsual.packet(0));
    this.usual += frames.length;
    if (this.attacking)
      for (let i = Math.ceil(20_000 * seconds); i > 0; i--)
        frames.push(this.#frames[Math.floor(Math.random() * this.#frames.length)]);
    const offsets = new Uint32Array(frames.length + 1);
    for (const [at, frame] of frames.entries()) offsets[at + 1] = offsets[at] + frame.length;
    this.#sender.send(Buffer.concat(frames), offsets);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
    this.#sender.close();
  }
}

/**
 * Until what is usual has been learned for long enough: samples of more packets than come in the time that learning takes,
 * or in twice that, were looked at.
 */
export async function learned(ifname: string, traffic: AttackTraffic): Promise<void> {
  await eventually(
    async () => {
      const { stdout } = await sluice('gate', 'status', '-i', ifname, '--json');
      const { sampled } = JSON.parse(stdout) as StatusReport;
      // One sample in so many at the least, and each says that its time has come.
      return traffic.usual > USUAL_PPS * 12 && sampled.pkts > 20 ? true : undefined;
    },
    'nothing usual was sampled',
    PATIENCE,
  );
}
