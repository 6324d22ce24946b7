import { Worker } from 'node:worker_threads';
import { ERROR_CODES, type ErrorCode, SluiceError } from '../base/errors.ts';
import { monotonicSeconds } from '../gate/clock.ts';
import type { OrderNews, Orders } from './client-orders.ts';
import type { PairRequest } from './pair-shunts.ts';
import type { PlacedPlan } from './policy-book.ts';
import type { EndStep, FromWorker, ToWorker, WorkerSetup } from './setup.ts';
import type { TallyNews } from './tallies.ts';

/** A worker that does not end by then is given up: its lease lapses, and the process goes on with the end. */
const STOP_SECONDS = 15;
/** So long a worker may take to do what a client wants. */
const ORDER_SECONDS = 5;

interface CrewMember {
  thread: Worker;
  stats: Float64Array;
  ready: PromiseWithResolvers<void>;
  going: PromiseWithResolvers<void>;
  filtered: PromiseWithResolvers<void>;
  reached: Record<EndStep, PromiseWithResolvers<Float64Array>>;
}

export interface CrewEvents {
  /** One of them cannot go on. */
  failed(error: SluiceError): void;
  /** A policy says to shunt all between two addresses. */
  pair?(pair: PairRequest): void;
  /** What has become of the orders of clients. */
  news?(news: OrderNews): void;
  /** Packets that a worker has sampled, see FromWorker. */
  samples?(buffer: ArrayBuffer, count: number): void;
  /** What it has counted of its connections. */
  tallied(news: TallyNews): void;
  /** What the source is fed by may have changed. */
  link(): void;
}

/** The capture workers of one source: started, listened to, and ended step by step. */
export class Crew {
  readonly #events: CrewEvents;
  readonly #members: CrewMember[] = [];
  readonly #orders = new Map<number, { answers: number[][]; done: (answers: number[][]) => void }>();
  #nextOrder = 1;

  constructor(events: CrewEvents) {
    this.#events = events;
  }

  /** Starts one of them. */
  start(name: string, setup: WorkerSetup): void {
    const body = new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js', import.meta.url);
    const thread = new Worker(body, { name, workerData: setup, transferList: [setup.log.port] });
    this.#follow(thread, new Float64Array(setup.stats));
  }

  /**
   * Resolves once all of them handle packets, which none does before all have opened what they receive with, and `allThere`
   * has been called.
   * @throws SluiceError what the first one that failed says
   */
  async go(allThere: () => void = () => {}): Promise<void> {
    await Promise.all(this.#members.map(({ ready }) => ready.promise));
    allThere();
    for (const { thread } of this.#members) thread.postMessage({ kind: 'go' } satisfies ToWorker);
    await Promise.all(this.#members.map(({ going }) => going.promise));
  }

  /**
   * Resolves once the program is on the sockets of all of them.
   * @throws SluiceError what the first one that failed says
   */
  async filterBy({ fd }: { readonly fd: number }): Promise<void> {
    for (const { thread } of this.#members)
      thread.postMessage({ kind: 'filter', program: fd } satisfies ToWorker);
    await Promise.all(this.#members.map(({ filtered }) => filtered.promise));
  }

  /** Listens to whatever a worker has to say. */
  #follow(thread: Worker, stats: Float64Array): void {
    const ready = Promise.withResolvers<void>();
    const going = Promise.withResolvers<void>();
    const filtered = Promise.withResolvers<void>();
    const reached = { settle: step(), deafen: step(), stop: step() };
    this.#members.push({ thread, stats, ready, going, filtered, reached });
    // Whoever waits for them is told; when the start has failed already nobody does.
    for (const { promise } of [ready, going, filtered]) promise.catch(() => {});
    const failed = (error: SluiceError): void => {
      for (const one of Object.values(reached)) one.resolve(new Float64Array(0));
      ready.reject(error);
      going.reject(error);
      filtered.reject(error);
      this.#events.failed(error);
    };
    thread.on('message', (message: FromWorker) => {
      if (message.kind === 'ready') ready.resolve();
      else if (message.kind === 'going') going.resolve();
      else if (message.kind === 'filtered') filtered.resolve();
      else if (message.kind === 'link') this.#events.link();
      else if (message.kind === 'pair') this.#events.pair?.(message.pair);
      else if (message.kind === 'orders') this.#answered(message.id, message.answers);
      else if (message.kind === 'order-news') this.#events.news?.(message.news);
      else if (message.kind === 'samples') this.#events.samples?.(message.buffer, message.count);
      else if (message.kind === 'tallies') this.#events.tallied(message.news);
      else if (message.kind === 'reached') reached[message.step].resolve(message.delays);
      else failed(fromWorker(message));
    });
    thread.on('error', (cause) =>
      failed(new SluiceError('INTERNAL', 'a capture worker has failed', { cause })),
    );
    thread.on('exit', () => failed(new SluiceError('INTERNAL', 'a capture worker has ended')));
  }

  /** The counters of each worker, see Stat. */
  get stats(): readonly Float64Array[] {
    return this.#members.map(({ stats }) => stats);
  }

  setPolicies(policies: PlacedPlan): void {
    for (const { thread } of this.#members)
      thread.postMessage({ kind: 'policies', policies } satisfies ToWorker);
  }

  /**
   * What clients want, of all workers; the answers of each.
   * @throws SluiceError INTERNAL when one of them does not answer
   */
  async order(orders: Orders): Promise<number[][]> {
    const id = this.#nextOrder++;
    const { promise, resolve } = Promise.withResolvers<number[][]>();
    this.#orders.set(id, { answers: [], done: resolve });
    for (const { thread } of this.#members)
      thread.postMessage({ kind: 'orders', id, orders } satisfies ToWorker);
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new SluiceError('INTERNAL', 'a capture worker does not answer')),
        ORDER_SECONDS * 1000,
      );
    });
    try {
      return await Promise.race([promise, late]);
    } finally {
      clearTimeout(timer);
      this.#orders.delete(id);
    }
  }

  #answered(id: number, answers: number[]): void {
    const order = this.#orders.get(id);
    if (order === undefined) return;
    order.answers.push(answers);
    if (order.answers.length === this.#members.length) order.done(order.answers);
  }

  /** Tells all workers to take a step of the end. */
  tell(kind: EndStep): void {
    for (const { thread } of this.#members) {
      thread.removeAllListeners('exit');
      thread.postMessage({ kind } satisfies ToWorker);
    }
  }

  /** Resolves when all have taken it, or have had their time; what they say then, see FromWorker. */
  async reached(kind: EndStep): Promise<Float64Array[]> {
    const until = monotonicSeconds() + STOP_SECONDS;
    const said: Float64Array[] = [];
    for (const { reached } of this.#members)
      said.push(await within(reached[kind].promise, until - monotonicSeconds()));
    return said;
  }

  /** Ends them in whatever state they are; the second time does nothing. */
  async close(): Promise<void> {
    for (const { thread } of this.#members.splice(0)) {
      thread.removeAllListeners();
      await thread.terminate();
    }
  }
}

const step = (): PromiseWithResolvers<Float64Array> => Promise.withResolvers<Float64Array>();

async function within(promise: Promise<Float64Array>, seconds: number): Promise<Float64Array> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<Float64Array>((resolve) => {
    timer = setTimeout(() => resolve(new Float64Array(0)), Math.max(0, seconds) * 1000);
  });
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

function fromWorker(message: FromWorker & { kind: 'failed' }): SluiceError {
  const code: ErrorCode = message.code in ERROR_CODES ? (message.code as ErrorCode) : 'INTERNAL';
  return new SluiceError(code, message.message, message.help === undefined ? {} : { help: message.help });
}
