import { attackOf } from '../../bench/attack-traffic.ts';
import { usualTraffic } from '../../bench/usual-traffic.ts';
import { SampleSender } from '../../src/detect/sample-sender.ts';
import { natsPlace } from '../../src/fleet/nats-place.ts';
import { SampleColumns, SampleReader } from '../../src/mitigation/index.ts';
import { Packet } from '../../src/packet/packet.ts';

export interface EdgeOptions {
  url: string;
  /** Of the usual traffic. */
  seed: number;
  /** As attackOf takes it. */
  kind: string;
  /** Packets that each sample stands for. */
  every: number;
  usualPps: number;
  attackPps: number;
  warn?: (text: string) => void;
}

const STEP_MS = 20;

/** What an edge's gate would sample of usual traffic, and of an attack for as long as it is told to; no kernel takes part. */
export class SimulatedEdge {
  readonly sender: SampleSender;
  readonly target: string;
  attacking = false;
  readonly #options: EdgeOptions;
  readonly #usual: (passOver: number) => Uint8Array;
  readonly #frames: Uint8Array[];
  readonly #columns = new SampleColumns(1);
  readonly #reader = new SampleReader();
  readonly #packet = new Packet();
  readonly #timer: NodeJS.Timeout;
  #last = performance.now();
  #usualDue = 0;
  #attackDue = 0;

  constructor(options: EdgeOptions) {
    const usual = usualTraffic(options.seed, '198.51.100');
    this.#options = options;
    this.#usual = usual.packet;
    this.target = usual.servers[0];
    const attack = attackOf(options.kind, 99, this.target);
    this.#frames = Array.from({ length: 2000 }, (_, at) => attack.packet(at / 1000));
    this.sender = new SampleSender(natsPlace(options.url), options.warn ?? (() => {}));
    this.sender.start();
    this.#timer = setInterval(() => this.#step(), STEP_MS);
  }

  #step(): void {
    const { usualPps, attackPps, every } = this.#options;
    const now = performance.now();
    // Of a pause of this process no burst is made.
    const seconds = Math.min(0.1, (now - this.#last) / 1000);
    this.#last = now;
    for (this.#usualDue += (usualPps * seconds) / every; this.#usualDue >= 1; this.#usualDue--)
      this.#take(this.#usual(every));
    if (!this.attacking) return;
    for (this.#attackDue += (attackPps * seconds) / every; this.#attackDue >= 1; this.#attackDue--)
      this.#take(this.#frames[Math.floor(Math.random() * this.#frames.length)]);
  }

  #take(frame: Uint8Array): void {
    const packet = this.#packet;
    packet.u8 = frame;
    packet.caplen = frame.length;
    packet.wirelen = frame.length;
    packet.ts = Date.now() / 1000;
    if (this.#reader.read(packet, this.#options.every, this.#columns, 0)) this.sender.take(this.#columns, 0);
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    await this.sender.close();
  }
}
