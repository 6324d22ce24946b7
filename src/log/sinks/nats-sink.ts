import type { NatsConnection } from '@nats-io/transport-node';
import { natsConnect } from '../../fleet/nats-access.ts';
import type { LogName } from '../target.ts';
import { framesOf } from './frame.ts';
import { RecordQueue } from './queue.ts';
import { LAST_CHANCE_MS, type LogSink, pauseAfter, type SinkListener, type SinkTotals } from './sink.ts';
import type { SinkSpec } from './url.ts';

/** Messages published before the server is asked whether it has them. */
const BETWEEN_FLUSHES = 1000;

interface Message {
  bytes: Buffer;
  records: number;
  log: LogName;
}

/** Publishes each record at SUBJECT.LOG; a message counts as sent once the server has answered behind it. */
export class NatsSink implements LogSink {
  readonly #spec: SinkSpec;
  readonly #told: SinkListener;
  readonly #queue: RecordQueue;
  #connection: NatsConnection | undefined;
  #wake: () => void = () => {};
  #sent = 0;
  #failures = 0;
  #failing = false;
  #underWay = 0;
  #ended = false;
  #closing: (() => void) | undefined;
  #endPause: () => void = () => {};
  readonly #work: Promise<void>;

  constructor(spec: SinkSpec, told: SinkListener) {
    this.#spec = spec;
    this.#told = told;
    this.#queue = new RecordQueue(spec.queueBytes);
    this.#work = this.#run();
  }

  append(log: LogName, lines: Uint8Array, records: number): void {
    for (const message of framesOf('nats', log, lines, records)) {
      const named: Message = { ...message, log };
      this.#queue.push(named);
    }
    this.#wake();
  }

  totals(): SinkTotals {
    return {
      name: this.#spec.name,
      sent: this.#sent,
      lost: this.#queue.lost,
      waiting: this.#queue.records + this.#underWay,
      failures: this.#failures,
    };
  }

  async close(): Promise<void> {
    const late = setTimeout(() => this.#closing?.(), LAST_CHANCE_MS);
    await new Promise<void>((resolve) => {
      this.#closing = resolve;
      this.#finishIfDone();
    });
    clearTimeout(late);
    this.#ended = true;
    this.#wake();
    this.#endPause();
    await this.#connection?.close().catch(() => {});
    await this.#work;
    this.#queue.giveUp();
  }

  #finishIfDone(): void {
    if (this.#closing !== undefined && this.#queue.isEmpty && this.#underWay === 0) this.#closing();
  }

  async #run(): Promise<void> {
    for (let inRow = 0; !this.#ended; ) {
      try {
        // One that breaks is made anew here, where what waits is counted.
        this.#connection = await natsConnect(this.#spec, this.#spec.access);
        inRow = 0;
        if (this.#failing) this.#told(this.#spec.name, undefined);
        this.#failing = false;
        await this.#publish(this.#connection);
      } catch (error) {
        if (this.#ended) break;
        this.#failures++;
        inRow++;
        if (!this.#failing)
          this.#told(this.#spec.name, error instanceof Error ? error.message : String(error));
        this.#failing = true;
        await this.#connection?.close().catch(() => {});
        this.#connection = undefined;
        await this.#pause(pauseAfter(inRow) * 1000);
      }
    }
  }

  async #publish(connection: NatsConnection): Promise<void> {
    let broken: Error | undefined;
    // What was asked of a connection that breaks may stay without an answer.
    const end = connection.closed().then((error) => {
      broken = error instanceof Error ? error : new Error('the connection was closed');
      this.#wake();
      return broken;
    });
    while (!this.#ended) {
      const taken: Message[] = [];
      while (taken.length < BETWEEN_FLUSHES) {
        const message = this.#queue.shift() as Message | undefined;
        if (message === undefined) break;
        taken.push(message);
      }
      this.#underWay = taken.length;
      try {
        for (const { log, bytes } of taken) connection.publish(`${this.#spec.path}.${log}`, bytes);
        if (taken.length > 0) await Promise.race([connection.flush(), end]);
        if (broken !== undefined) throw broken;
      } catch (error) {
        this.#queue.unshift(taken);
        this.#underWay = 0;
        throw error;
      }
      this.#sent += taken.length;
      this.#underWay = 0;
      this.#finishIfDone();
      if (taken.length === 0) await this.#sleep(1000);
    }
  }

  /** So long, whatever comes; the end of the sink ends it. */
  async #pause(ms: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#endPause = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** Until something comes, or so long. */
  async #sleep(ms: number): Promise<void> {
    if (this.#ended) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.#wake = () => {};
  }
}
