import { PacketSampler } from '../mitigation/packet-sampler.ts';
import { BATCH } from '../mitigation/responder-thread.ts';
import type { Packet } from '../packet/packet.ts';
import type { FromWorker } from './setup.ts';

/** Samples of what the flow engine of a worker gets, on their way to who finds attacks in them. */
export class SampleFeed {
  readonly #sampler: PacketSampler;
  readonly #post: (message: FromWorker, transfer: ArrayBuffer[]) => void;

  /** `budget`: samples a turn. */
  constructor(budget: number, worker: number, post: (message: FromWorker, transfer: ArrayBuffer[]) => void) {
    this.#sampler = new PacketSampler(budget, BATCH, worker + 1);
    this.#post = post;
  }

  /** The sink, which looks at each packet as well. */
  beside(sink: (packet: Packet) => void): (packet: Packet) => void {
    const sampler = this.#sampler;
    return (packet) => {
      sink(packet);
      if (sampler.look(packet)) this.#send();
    };
  }

  /** To be called at equal intervals. */
  turn(): void {
    this.#sampler.turn();
    this.#send();
  }

  #send(): void {
    const columns = this.#sampler.take();
    if (columns === undefined) return;
    const { buffer, count } = columns;
    this.#post({ kind: 'samples', buffer, count }, [buffer]);
  }
}
