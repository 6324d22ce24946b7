import { SampleSender, type SenderStatus } from '../detect/sample-sender.ts';
import type { NatsAccess } from '../fleet/nats-access.ts';
import { natsPlace } from '../fleet/nats-place.ts';
import { SampleColumns } from '../mitigation/index.ts';
import type { Gate } from './gate.ts';
import { SAMPLE_BYTES, SampleRows } from './sample-rows.ts';
import type { GateSampler } from './sampling.ts';

export interface SamplesOptions {
  /** As natsPlace reads it. */
  to: string;
  nats: NatsAccess;
  /** Samples a second. */
  budget: number;
}

const POLL_MS = 50;

/** Samples the gate for the detectors of a fleet. */
export class SamplesKeeper {
  readonly #sampler: GateSampler;
  readonly #sender: SampleSender;
  readonly #timer: NodeJS.Timeout;

  /** @throws SluiceError as Gate.sample and natsPlace */
  constructor({ to, nats, budget }: SamplesOptions, gate: Gate, warn: (text: string) => void) {
    const sender = new SampleSender(natsPlace(to, nats), warn);
    const rows = new SampleRows();
    const columns = new SampleColumns(1);
    this.#sender = sender;
    this.#sampler = gate.sample({ every: 100, size: SAMPLE_BYTES, budget }, (sample) => {
      if (rows.read(sample, columns, 0)) sender.take(columns, 0);
    });
    sender.start();
    this.#timer = setInterval(() => this.#sampler.poll(), POLL_MS);
  }

  status(): SenderStatus {
    return this.#sender.status();
  }

  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#sampler.close();
    await this.#sender.close();
  }
}
