import { Worker } from 'node:worker_threads';
import { SluiceError } from '../base/errors.ts';
import type { LogFilesOptions, MovedLog } from './log-files.ts';
import { type FromLogThread, type LogLink, newLink, type ToLogThread } from './log-link.ts';
import { type LineListener, LogWatch } from './log-watch.ts';
import type { SinkListener, SinkSpec } from './sinks/index.ts';
import type { LogName, LogTotals, TornLine } from './target.ts';

/** What can be sent to a thread of LogFilesOptions. */
export type LogThreadOptions = Omit<LogFilesOptions, 'disk' | 'now'> & {
  /** Where lines go beside the files; they are JSON then. */
  sinks?: readonly SinkSpec[];
};

/** Told of a log that somebody has moved away. */
export type MovedListener = (moved: MovedLog) => void;

/** Told when the disk begins to fail, and (with undefined) when it takes lines again. */
export type DiskListener = (problem: string | undefined, totals: LogTotals) => void;

/**
 * A thread that owns the log files. Capture workers reach it over links of their own, so that neither a blocked main
 * thread nor a slow disk holds up a capture.
 */
export class LogThread {
  /** Torn lines that opening the logs cut off. */
  readonly torn: readonly TornLine[];
  readonly #worker: Worker;
  readonly #waiting = new Map<
    number,
    { resolve: (totals: LogTotals) => void; reject: (error: Error) => void }
  >();
  readonly #exited: Promise<void>;
  #failure: SluiceError | undefined;
  #closing: Promise<LogTotals> | undefined;
  #nextId = 1;

  private constructor(
    worker: Worker,
    torn: readonly TornLine[],
    onDisk: DiskListener | undefined,
    onSink: SinkListener | undefined,
    onMoved: MovedListener | undefined,
  ) {
    this.#worker = worker;
    this.torn = torn;
    worker.on('message', (message: FromLogThread) => {
      if (message.kind === 'disk') onDisk?.(message.problem, message.totals);
      if (message.kind === 'sink') onSink?.(message.name, message.problem);
      if (message.kind === 'moved') onMoved?.({ path: message.path, lost: message.lost });
      if (message.kind !== 'done') return;
      this.#waiting.get(message.id)?.resolve(message.totals);
      this.#waiting.delete(message.id);
    });
    worker.on('error', (cause) => this.#fail(cause));
    this.#exited = new Promise((resolve) => {
      worker.on('exit', () => {
        this.#fail(undefined);
        resolve();
      });
    });
  }

  /** Starts the thread and opens the logs. @throws SluiceError FILE when they cannot be opened */
  static async start(
    options: LogThreadOptions,
    onDisk?: DiskListener,
    onSink?: SinkListener,
    onMoved?: MovedListener,
  ): Promise<LogThread> {
    // Compiled, this file and the worker's are .js; run from source, Node strips the types of both.
    const body = new URL(
      import.meta.url.endsWith('.ts') ? './log-worker.ts' : './log-worker.js',
      import.meta.url,
    );
    const worker = new Worker(body, { name: 'sluice-log', workerData: options });
    const first = await new Promise<FromLogThread>((resolve, reject) => {
      worker.once('message', resolve);
      worker.once('error', reject);
    });
    if (first.kind === 'unusable') {
      await worker.terminate();
      throw new SluiceError(first.code, first.message, {
        cause: first.cause,
        ...(first.help === undefined ? {} : { help: first.help }),
      });
    }
    return new LogThread(worker, first.kind === 'ready' ? first.torn : [], onDisk, onSink, onMoved);
  }

  /** A way in for one writer; give it to `new LinkTarget`, here or in a worker. */
  link(): LogLink {
    const { ours, theirs } = newLink();
    this.#send({ kind: 'link', link: theirs }, [theirs.port]);
    return ours;
  }

  /** Lines of these logs as they go to the files; whoever takes them slowly misses some. */
  watch(logs: readonly LogName[], seen: LineListener): LogWatch {
    const { ours, theirs } = newLink();
    this.#send({ kind: 'watch', link: theirs, logs }, [theirs.port]);
    return new LogWatch(ours, seen);
  }

  /** Resolves when everything sent before over any link is in the files (or waits for a failing disk). */
  flush(): Promise<LogTotals> {
    return this.#ask('flush');
  }

  /** Writes what was sent, closes the files, ends the thread. */
  close(): Promise<LogTotals> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  async #end(): Promise<LogTotals> {
    const totals = await this.#ask('close');
    await this.#exited;
    return totals;
  }

  #ask(kind: 'flush' | 'close'): Promise<LogTotals> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#send({ kind, id });
    });
  }

  #send(message: ToLogThread, transfer: Parameters<Worker['postMessage']>[1] = []): void {
    this.#worker.postMessage(message, transfer);
  }

  #fail(cause: unknown): void {
    this.#failure ??=
      cause === undefined
        ? new SluiceError('CLOSED', 'the log thread has ended', { help: 'start a new one' })
        : new SluiceError('INTERNAL', 'the log thread has failed', { cause });
    for (const { reject } of this.#waiting.values()) reject(this.#failure);
    this.#waiting.clear();
  }
}
