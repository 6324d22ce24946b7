import { Worker } from 'node:worker_threads';
import type { Told } from '../mitigation/index.ts';
import type { CarriedRule } from './carried-rule.ts';
import type { PartitionCounts, PartitionOptions } from './partition-detector.ts';

export type ToDetect =
  | {
      readonly kind: 'begin';
      name: string;
      resumed: boolean;
      carried: readonly CarriedRule[];
      /** What who held it before has learned, as text. */
      baseline: string | undefined;
    }
  | { readonly kind: 'end'; name: string }
  | { readonly kind: 'uncarry'; name: string; rule: string }
  | { readonly kind: 'batch'; name: string; bytes: Uint8Array; now: number }
  | { readonly kind: 'status' };

export type FromDetect =
  | { readonly kind: 'told'; name: string; told: Told }
  | { readonly kind: 'over'; name: string; rule: string }
  | { readonly kind: 'summary'; bytes: Uint8Array }
  | { readonly kind: 'learned'; name: string; baseline: string }
  | { readonly kind: 'done' }
  | { readonly kind: 'status'; partitions: Record<string, PartitionCounts> };

export interface DetectThreadEvents {
  readonly told: (name: string, told: Told) => void;
  readonly over: (name: string, rule: string) => void;
  readonly summary: (bytes: Uint8Array) => void;
  /** What is usual in a partition, from time to time. */
  readonly learned: (name: string, baseline: string) => void;
  /** The thread has ended by itself. */
  readonly failed: (error: Error) => void;
}

/** Batches that may wait for the thread; what is beyond is left out, and counted. */
const MAX_PENDING = 1024;

/** The partitions that a process holds, in a thread of their own: rules are made of thousands of samples, and leases do not wait. */
export class DetectThread {
  readonly #worker: Worker;
  #pending = 0;
  #closed = false;
  #answer: ((partitions: Record<string, PartitionCounts>) => void) | undefined;
  /** Batches that the thread was too slow for. */
  dropped = 0;

  constructor(options: PartitionOptions, events: DetectThreadEvents) {
    // Compiled, this file and the worker's are .js; run from source, Node strips the types of both.
    const kind = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    this.#worker = new Worker(new URL(`./detect-worker.${kind}`, import.meta.url), {
      name: 'sluice-detect',
      workerData: options,
    });
    let cause: Error | undefined;
    this.#worker
      .on('message', (message: FromDetect) => {
        if (this.#closed) return;
        if (message.kind === 'done') this.#pending--;
        else if (message.kind === 'summary') events.summary(message.bytes);
        else if (message.kind === 'told') events.told(message.name, message.told);
        else if (message.kind === 'learned') events.learned(message.name, message.baseline);
        else if (message.kind === 'over') events.over(message.name, message.rule);
        else this.#answer?.(message.partitions);
      })
      .on('error', (error) => {
        cause = error instanceof Error ? error : new Error(String(error));
      })
      .on('exit', () => {
        if (!this.#closed) events.failed(cause ?? new Error('the thread that finds attacks has ended'));
        this.#closed = true;
      });
  }

  send(message: ToDetect): void {
    if (!this.#closed) this.#worker.postMessage(message);
  }

  /** A batch that has just come. */
  batch(name: string, bytes: Uint8Array): void {
    if (this.#pending >= MAX_PENDING) {
      this.dropped++;
      return;
    }
    this.#pending++;
    // A copy: what came is a part of a larger buffer.
    this.send({ kind: 'batch', name, bytes: bytes.slice(), now: Date.now() });
  }

  /** What each partition has counted. */
  async status(): Promise<Record<string, PartitionCounts>> {
    if (this.#closed) return {};
    return await new Promise((resolve) => {
      this.#answer = resolve;
      this.send({ kind: 'status' });
    });
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#worker.terminate();
  }
}
