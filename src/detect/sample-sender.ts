import { randomBytes } from 'node:crypto';
import { Kvm } from '@nats-io/kv';
import type { NatsPlace } from '../fleet/nats-place.ts';
import { monotonicNs, realtimeOffset } from '../kernel/index.ts';
import type { SampleColumns } from '../mitigation/index.ts';
import { BATCH_ROWS, BatchWriter } from './batch.ts';
import { Connected, type Lifeline } from './connected.ts';
import { partitionOf, subjects } from './partition.ts';
import { readSettings } from './settings.ts';

/** Seconds between messages for a partition that has few samples. */
const EVERY = 0.2;
/** Milliseconds for which, and how often, it is said of a partition that nothing comes any more: silence alone could be a cut. */
const SAY_EMPTY = 20_000;
const EMPTY_EVERY = 1000;
/** Seconds until it is asked again whether there are detectors. */
const ASK_EVERY = 2;
/** Bytes that wait for the server; what is beyond is lost, the oldest first. */
const MAX_QUEUE = 4 << 20;
/** Bytes handed to the client before the server has confirmed them. */
const MAX_FLIGHT = 256 << 10;
/** Milliseconds: older samples would be judged too late. */
const MAX_WAIT = 1000;

export interface SenderStatus {
  /** Where to, without what is secret. */
  to: string;
  connected: boolean;
  /** Why not, while it cannot be reached or has no detectors. */
  problem: string | null;
  /** Null: nobody has said yet. */
  partitions: number | null;
  /** Samples and bytes that went out; samples lost here, because nobody took them or not fast enough. */
  sent: number;
  sentBytes: number;
  lost: number;
}

interface Partition {
  readonly subject: string;
  readonly writer: BatchWriter;
  sequence: number;
  lost: number;
  /** Milliseconds of the steady clock: when there were rows, and when something was said. */
  filled: number;
  told: number;
}

interface Message {
  readonly partition: Partition;
  readonly bytes: Uint8Array;
  readonly rows: number;
  readonly at: number;
}

/** Sends samples to the detectors of a fleet. Never waits for anybody: what the server does not take is lost, and counted. */
export class SampleSender {
  readonly #place: NatsPlace;
  readonly #link: Connected;
  readonly #streamHigh = randomBytes(4).readUInt32LE();
  readonly #streamLow = randomBytes(4).readUInt32LE();
  #partitions: Partition[] = [];
  #queue: Message[] = [];
  #queued = 0;
  #online = false;
  #sent = 0;
  #sentBytes = 0;
  #lost = 0;

  constructor(place: NatsPlace, warn: (text: string) => void) {
    this.#place = place;
    this.#link = new Connected({
      place,
      work: (line, good) => this.#work(line, good),
      failed: (reason) => warn(`no samples go to ${place.name}: ${reason}`),
      back: () => warn(`samples go to ${place.name} again`),
    });
  }

  start(): void {
    this.#link.start();
  }

  /** Takes a copy of a row. */
  take(columns: SampleColumns, row: number): void {
    const { length } = this.#partitions;
    if (length === 0) {
      this.#lost++;
      return;
    }
    const partition = this.#partitions[partitionOf(columns, row, length)];
    if (!this.#online) {
      this.#lose(partition, 1);
      return;
    }
    partition.writer.add(columns, row, columns.weight[row]);
    if (partition.writer.rows === BATCH_ROWS) this.#enqueue(partition);
  }

  #lose(partition: Partition, rows: number): void {
    partition.lost += rows;
    this.#lost += rows;
  }

  #enqueue(partition: Partition): void {
    const { writer } = partition;
    const { rows } = writer;
    partition.told = performance.now();
    if (rows > 0) partition.filled = partition.told;
    const bytes = writer.take({
      streamHigh: this.#streamHigh,
      streamLow: this.#streamLow,
      sequence: ++partition.sequence,
      lost: partition.lost >>> 0,
      // The clock that times of samples are made with.
      clock: 1000 * (Number(monotonicNs()) / 1e9 + realtimeOffset()),
    });
    this.#queue.push({ partition, bytes, rows, at: partition.told });
    this.#queued += bytes.length;
    while (this.#queued > MAX_QUEUE) this.#drop();
  }

  #shift(): Message {
    const message = this.#queue.shift() as Message;
    this.#queued -= message.bytes.length;
    return message;
  }

  #drop(): void {
    const { partition, rows } = this.#shift();
    this.#lose(partition, rows);
  }

  async #work(line: Lifeline, good: () => void): Promise<void> {
    const settings = await this.#settings(line);
    if (settings === undefined) return;
    this.#agree(settings.partitions);
    good();
    this.#online = true;
    try {
      while (!line.ended) {
        this.#enqueueAll();
        await this.#send(line);
        await line.pause(EVERY);
      }
    } finally {
      this.#online = false;
      this.#enqueueAll();
      while (this.#queue.length > 0) this.#drop();
    }
  }

  async #settings(line: Lifeline) {
    const bucket = await new Kvm(line.connection).open(subjects(this.#place.bucket).detectors);
    while (!line.ended) {
      const settings = await readSettings(bucket);
      if (settings !== undefined) return settings;
      await line.pause(ASK_EVERY);
    }
    return undefined;
  }

  #agree(partitions: number): void {
    if (this.#partitions.length === partitions) return;
    const { samples } = subjects(this.#place.bucket);
    this.#partitions = Array.from({ length: partitions }, (_, at) => ({
      subject: samples(at),
      writer: new BatchWriter(),
      sequence: 0,
      lost: 0,
      filled: Number.NEGATIVE_INFINITY,
      told: 0,
    }));
  }

  #enqueueAll(): void {
    const now = performance.now();
    for (const partition of this.#partitions) {
      const ended = now - partition.filled < SAY_EMPTY && now - partition.told >= EMPTY_EVERY;
      if (partition.writer.rows > 0 || ended) this.#enqueue(partition);
    }
  }

  /** Hands over what waits, some at a time, each time until the server has it. */
  async #send(line: Lifeline): Promise<void> {
    while (this.#queue.length > 0 && !line.ended) {
      for (let flight = 0; flight < MAX_FLIGHT && this.#queue.length > 0; ) {
        if (performance.now() - this.#queue[0].at > MAX_WAIT) {
          this.#drop();
          continue;
        }
        const { partition, bytes, rows } = this.#shift();
        line.connection.publish(partition.subject, bytes);
        flight += bytes.length;
        this.#sent += rows;
        this.#sentBytes += bytes.length;
      }
      await line.until(line.connection.flush());
    }
  }

  status(): SenderStatus {
    return {
      to: this.#place.name,
      connected: this.#online,
      problem: this.#online ? null : (this.#link.problem ?? 'no detector has been there yet'),
      partitions: this.#partitions.length === 0 ? null : this.#partitions.length,
      sent: this.#sent,
      sentBytes: this.#sentBytes,
      lost: this.#lost,
    };
  }

  async close(): Promise<void> {
    await this.#link.close();
  }
}
