import type { NatsConnection } from '@nats-io/transport-node';
import { connectOnce, type NatsPlace } from '../fleet/nats-place.ts';
import { Pause, pauseAfter } from '../fleet/source.ts';

/** A connection, and what ends with it. */
export class Lifeline {
  readonly connection: NatsConnection;
  readonly #waiting = new Set<() => void>();

  constructor(connection: NatsConnection) {
    this.connection = connection;
    void this.#watch();
  }

  async #watch(): Promise<void> {
    await this.connection.closed();
    for (const end of this.#waiting) end();
  }

  get ended(): boolean {
    return this.connection.isClosed();
  }

  /**
   * What the promise resolves to; undefined when the connection was closed before. Nothing stays behind, however often it is
   * called, which a race with the closing would leave.
   */
  async until<T>(promise: Promise<T>): Promise<T | undefined> {
    if (this.ended) {
      promise.catch(() => {});
      return undefined;
    }
    return await new Promise((resolve, reject) => {
      const end = (): void => resolve(undefined);
      this.#waiting.add(end);
      promise
        .then(resolve, (error: unknown) => (this.ended ? resolve(undefined) : reject(error as Error)))
        .finally(() => this.#waiting.delete(end));
    });
  }

  async pause(seconds: number): Promise<void> {
    const pause = new Pause();
    await this.until(pause.wait(seconds));
    pause.end();
  }
}

export interface ConnectedParts {
  readonly place: NatsPlace;
  /** Works until it throws, or the connection is closed. `good` says that the server does what is asked of it. */
  readonly work: (line: Lifeline, good: () => void) => Promise<void>;
  /** Told once for each time that it goes away. */
  readonly failed: (reason: string) => void;
  readonly back: () => void;
}

/** Works over a connection to a server of NATS, and makes it anew for ever, after pauses that grow and are partly chance. */
export class Connected {
  readonly #parts: ConnectedParts;
  readonly #pause = new Pause();
  #connection: NatsConnection | undefined;
  #problem: string | undefined;
  #ended = false;
  #running: Promise<void> | undefined;

  constructor(parts: ConnectedParts) {
    this.#parts = parts;
  }

  /** Why there is no connection; undefined: there is one, or none has been asked for. */
  get problem(): string | undefined {
    return this.#problem;
  }

  start(): void {
    this.#running = this.#run();
  }

  async #run(): Promise<void> {
    const { place, work, failed, back } = this.#parts;
    for (let failures = 0; !this.#ended; ) {
      try {
        this.#connection = await connectOnce(place);
        await work(new Lifeline(this.#connection), () => {
          failures = 0;
          if (this.#problem !== undefined) back();
          this.#problem = undefined;
        });
        if (!this.#ended) throw new Error('the connection was closed');
      } catch (error) {
        if (this.#ended) break;
        failures++;
        const reason = error instanceof Error ? error.message : String(error);
        if (this.#problem === undefined) failed(reason);
        this.#problem = reason;
      }
      await this.#connection?.close().catch(() => {});
      this.#connection = undefined;
      if (!this.#ended) await this.#pause.wait(pauseAfter(failures));
    }
    await this.#connection?.close().catch(() => {});
  }

  async close(): Promise<void> {
    this.#ended = true;
    this.#pause.end();
    await this.#connection?.close().catch(() => {});
    await this.#running;
  }
}
