import { Worker } from 'node:worker_threads';
import { SluiceError } from '../../src/base/errors.ts';
import type { EdgeGroup, EdgePlace, EdgeState, Landing } from './edge.ts';
import type { FromSimulated, SimulatedOptions, ToSimulated } from './simulated.ts';

/** Simulated edges in a thread, in the network namespace of the thread that makes them. */
export class SimulatedEdges implements EdgeGroup {
  readonly edges: readonly EdgePlace[];
  readonly #worker: Worker;
  readonly #landings: Landing[] = [];
  #waiting: { resolve: (states: EdgeState[]) => void; reject: (error: Error) => void }[] = [];
  #ended: SluiceError | undefined;
  readonly #exit: Promise<void>;

  constructor(options: SimulatedOptions) {
    this.edges = options.edges;
    const kind = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    this.#worker = new Worker(new URL(`./simulated.${kind}`, import.meta.url), { workerData: options });
    this.#worker.on('message', (message: FromSimulated) => {
      if (message.kind === 'landed') for (const landing of message.landings) this.#landings.push(landing);
      else if (message.kind === 'states') this.#waiting.shift()?.resolve(message.states);
    });
    this.#worker.once('error', (cause) => this.#end(cause));
    this.#exit = new Promise((resolve) => {
      this.#worker.once('exit', () => {
        this.#end(undefined);
        resolve();
      });
    });
  }

  #end(cause: unknown): void {
    this.#ended ??= new SluiceError('LAB', 'a thread of simulated edges has ended', { cause });
    for (const { reject } of this.#waiting) reject(this.#ended);
    this.#waiting = [];
  }

  states(): Promise<EdgeState[]> {
    return new Promise((resolve, reject) => {
      if (this.#ended !== undefined) {
        reject(this.#ended);
        return;
      }
      this.#waiting.push({ resolve, reject });
      this.#worker.postMessage({ kind: 'states' } satisfies ToSimulated);
    });
  }

  landings(): readonly Landing[] {
    return this.#landings;
  }

  async close(): Promise<void> {
    this.#worker.postMessage({ kind: 'close' } satisfies ToSimulated);
    await this.#exit;
  }
}
