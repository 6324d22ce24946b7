import type { SluiceError } from '../base/errors.ts';
import { type BatchSink, Packet, type PacketSink } from '../packet/packet.ts';
import type { StoredSource } from './source.ts';

/** The longest sleep at a time, in seconds: timers of Node.js take 31 bits of milliseconds. */
const MAX_SLEEP = 3600;

/** Another source at the speed at which it was recorded, or a multiple of it: each packet comes when it is due. */
export class PacedSource implements StoredSource {
  packets = 0;
  readonly #source: StoredSource;
  readonly #speed: number;
  readonly #clock: () => number;
  /** The packet that is next, copied: what the source shows is valid only during its call. */
  readonly #next = new Packet();
  readonly #one: readonly Packet[] = [this.#next];
  #memory = new Uint8Array(2048);
  #held = false;
  /** Time of the first packet, and of the clock when it came. */
  #first = Number.NaN;
  #begin = 0;
  #timer: NodeJS.Timeout | undefined;
  #wake: (() => void) | undefined;

  /** @param speed 1: as recorded, 2: twice as fast; @param clock seconds */
  constructor(source: StoredSource, speed: number, clock = () => performance.now() / 1000) {
    this.#source = source;
    this.#speed = speed;
    this.#clock = clock;
  }

  get name(): string {
    return this.#source.name;
  }

  get problem(): SluiceError | undefined {
    return this.#source.problem;
  }

  get readBytes(): number {
    return this.#source.readBytes;
  }

  get starved(): boolean {
    return this.#held ? this.#left() > 0 : this.#source.starved;
  }

  drain(sink: PacketSink, maxPackets: number): boolean {
    return this.drainBatches((packets) => sink(packets[0]), maxPackets);
  }

  drainBatches(sink: BatchSink, maxPackets: number): boolean {
    for (let n = 0; n < maxPackets; n++) {
      if (!this.#held) {
        const more = this.#source.drain(this.#hold, 1);
        if (!this.#held) {
          if (!more || this.#source.starved) return more;
          continue;
        }
      }
      if (this.#left() > 0) return true;
      this.#held = false;
      this.packets++;
      sink(this.#one, 1);
    }
    return true;
  }

  async wait(): Promise<void> {
    if (!this.#held) {
      await this.#source.wait();
      return;
    }
    const left = Math.min(this.#left(), MAX_SLEEP);
    if (left <= 0) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      this.#timer = setTimeout(resolve, Math.ceil(left * 1000));
    });
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#wake?.();
    this.#source.close();
  }

  /** Seconds until the next packet is due. */
  #left(): number {
    return this.#begin + (this.#next.ts - this.#first) / this.#speed - this.#clock();
  }

  readonly #hold = (packet: Packet): void => {
    // The options that came with a mirrored frame lie in front of it.
    const from = packet.optionsBytes > 0 ? packet.optionsAt : packet.offset;
    const bytes = packet.offset + packet.caplen - from;
    if (bytes > this.#memory.length) this.#memory = new Uint8Array(bytes);
    this.#memory.set(packet.u8.subarray(from, from + bytes));
    Object.assign(this.#next, packet, {
      u8: this.#memory,
      offset: packet.offset - from,
      optionsAt: packet.optionsBytes > 0 ? 0 : packet.optionsAt,
    });
    if (Number.isNaN(this.#first)) {
      this.#first = packet.ts;
      this.#begin = this.#clock();
    }
    this.#held = true;
  };
}
