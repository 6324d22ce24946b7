import { Worker } from 'node:worker_threads';
import { SampleColumns } from './columns.ts';
import type { Change } from './responder.ts';
import type { ProposedRule } from './synthesis.ts';

/** What the thread is begun with. */
export interface ResponderSetup {
  readonly minPps: number;
  /** As parseVeto reads them. */
  readonly vetoes: readonly string[];
  readonly seed: number;
  /** What another one has learned, as `snapshot` answers; undefined: it learns anew. */
  readonly baseline?: string | undefined;
}

/** What has become of an attack. */
export interface Told {
  readonly change: Change;
  readonly id: string;
  readonly kind: string;
  readonly target: string;
  /** False: a surprise, which needs no rule. */
  readonly attack: boolean;
  readonly rules: readonly ProposedRule[];
  /** As attackDocument makes it. */
  readonly document: object;
}

/** What it goes on from: of so many targets, written so many seconds ago. */
export interface Inherited {
  readonly targets: number;
  readonly age: number;
}

export type ToResponder =
  /** Rows to look at, and how far the clock has come (nanoseconds since the epoch); the buffer comes back. */
  | { readonly kind: 'rows'; readonly buffer: ArrayBuffer; readonly count: number; readonly clock: number }
  | { readonly kind: 'snapshot' };

export type FromResponder =
  | { readonly kind: 'told'; readonly told: Told }
  | { readonly kind: 'learned'; readonly baseline: string }
  | { readonly kind: 'inherited'; readonly inherited: Inherited }
  | { readonly kind: 'done'; readonly buffer: ArrayBuffer };

/** Buffers that are kept to be filled again: more come from who fills columns of his own. */
const MOST_FREE = 64;

/** Rows of a batch. */
export const BATCH = 1024;

/**
 * A Responder in a thread of its own: rules are made of thousands of samples, which takes longer than an event loop may
 * stand still. The thread does not keep the process alive.
 */
export class ResponderThread {
  readonly #worker: Worker;
  readonly #free: ArrayBuffer[] = [];
  #columns = new SampleColumns(BATCH);
  #pending = 0;
  #closed = false;
  #learned: ((baseline: string) => void) | undefined;

  /**
   * `failed` is called once, when the thread has ended by itself; `inherited` when the baseline of the setup is good, before
   * anything else.
   */
  constructor(
    setup: ResponderSetup,
    told: (told: Told) => void,
    failed: (error: Error) => void,
    inherited: (what: Inherited) => void = () => {},
  ) {
    // Compiled, this file and the worker's are .js; run from source, Node strips the types of both.
    const kind = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    this.#worker = new Worker(new URL(`./responder-worker.${kind}`, import.meta.url), {
      name: 'sluice-attacks',
      workerData: setup,
    });
    let cause: Error | undefined;
    this.#worker
      .on('message', (message: FromResponder) => {
        if (this.#closed) return;
        if (message.kind === 'told') told(message.told);
        else if (message.kind === 'inherited') inherited(message.inherited);
        else if (message.kind === 'learned') this.#learned?.(message.baseline);
        else {
          this.#pending--;
          if (this.#free.length < MOST_FREE) this.#free.push(message.buffer);
        }
      })
      .on('error', (error) => {
        cause = error instanceof Error ? error : new Error(String(error));
      })
      .on('exit', () => {
        if (!this.#closed) failed(cause ?? new Error('the thread that finds attacks has ended'));
        this.#closed = true;
      });
    this.#worker.unref();
  }

  /** To be filled, up to its capacity; `send` takes it. */
  get columns(): SampleColumns {
    return this.#columns;
  }

  /** Batches that are still to be looked at. */
  get pending(): number {
    return this.#pending;
  }

  /** Hands over what is in `columns`, which is another one then. */
  send(clock: number): void {
    const { buffer, count } = this.#columns;
    if (this.#closed) {
      this.#columns.count = 0;
      return;
    }
    this.pass(buffer, count, clock);
    this.#columns = new SampleColumns(BATCH, this.#free.pop());
  }

  /** Hands over the buffer of columns of the capacity BATCH that somebody else has filled. */
  pass(buffer: ArrayBuffer, count: number, clock: number): void {
    if (this.#closed) return;
    const message: ToResponder = { kind: 'rows', buffer, count, clock };
    this.#worker.postMessage(message, [buffer]);
    this.#pending++;
  }

  /** Has what it has learned so far, as text, told to `learned`, once it is at it; nothing while it learns the first of it. */
  snapshot(learned: (baseline: string) => void): void {
    this.#learned = learned;
    const message: ToResponder = { kind: 'snapshot' };
    if (!this.#closed) this.#worker.postMessage(message);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#worker.terminate();
  }
}
