import { connect, type Socket } from 'node:net';
import type { LogName } from '../target.ts';
import { framesOf } from './frame.ts';
import { type Batch, RecordQueue } from './queue.ts';
import { LAST_CHANCE_MS, type LogSink, pauseAfter, type SinkListener, type SinkTotals } from './sink.ts';
import type { SinkSpec } from './url.ts';

/** Bytes in a socket of ours before we wait until it has sent some. */
const HIGH_WATER = 256 * 1024;
const CONNECT_MS = 10_000;

/**
 * JSON lines or syslog over a connection (TCP or Unix), made again whenever it breaks. A batch that was not wholly taken by
 * the kernel then is sent again from its beginning: the receiver of the broken connection may have seen a part of it.
 */
export class StreamSink implements LogSink {
  readonly #spec: SinkSpec;
  readonly #told: SinkListener;
  readonly #queue: RecordQueue;
  readonly #onWay: Batch[] = [];
  #socket: Socket | undefined;
  #connected = false;
  #retry: NodeJS.Timeout | undefined;
  #inRow = 0;
  #sent = 0;
  #failures = 0;
  #failing = false;
  #closing: (() => void) | undefined;
  #ended = false;

  constructor(spec: SinkSpec, told: SinkListener) {
    this.#spec = spec;
    this.#told = told;
    this.#queue = new RecordQueue(spec.queueBytes);
    this.#connect();
  }

  append(log: LogName, lines: Uint8Array, records: number): void {
    for (const batch of framesOf(this.#spec.kind, log, lines, records)) this.#queue.push(batch);
    this.#pump();
  }

  totals(): SinkTotals {
    const onWay = this.#onWay.reduce((sum, { records }) => sum + records, 0);
    return {
      name: this.#spec.name,
      sent: this.#sent,
      lost: this.#queue.lost,
      waiting: this.#queue.records + onWay,
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
    clearTimeout(this.#retry);
    this.#queue.unshift(this.#onWay.splice(0));
    this.#queue.giveUp();
    this.#socket?.destroy();
  }

  #finishIfDone(): void {
    if (this.#closing !== undefined && this.#queue.isEmpty && this.#onWay.length === 0) this.#closing();
  }

  #connect(): void {
    const { kind, path, host, port } = this.#spec;
    const socket = connect(kind === 'unix' ? { path } : { host, port });
    this.#socket = socket;
    const late = setTimeout(() => socket.destroy(new Error('no answer')), CONNECT_MS);
    let problem = 'the connection was closed';
    socket.on('connect', () => {
      clearTimeout(late);
      socket.setKeepAlive(true, 30_000);
      this.#connected = true;
      this.#inRow = 0;
      if (this.#failing) this.#told(this.#spec.name, undefined);
      this.#failing = false;
      this.#pump();
    });
    // Nothing is expected to come; what comes is not kept.
    socket.on('data', () => {});
    socket.on('drain', () => this.#pump());
    socket.on('error', (error) => {
      problem = error.message;
    });
    socket.on('close', () => {
      clearTimeout(late);
      this.#broken(problem);
    });
  }

  #broken(problem: string): void {
    this.#connected = false;
    this.#socket = undefined;
    if (this.#ended) return;
    this.#queue.unshift(this.#onWay.splice(0));
    this.#failures++;
    this.#inRow++;
    if (!this.#failing) this.#told(this.#spec.name, problem);
    this.#failing = true;
    this.#retry = setTimeout(() => this.#connect(), pauseAfter(this.#inRow) * 1000);
  }

  #pump(): void {
    const socket = this.#socket;
    if (socket === undefined || !this.#connected) return;
    while (socket.writableLength < HIGH_WATER) {
      const batch = this.#queue.shift();
      if (batch === undefined) break;
      this.#onWay.push(batch);
      socket.write(batch.bytes, (error) => {
        // In order: the first that is on its way has arrived in the kernel.
        if (error || this.#socket !== socket) return;
        this.#onWay.shift();
        this.#sent += batch.records;
        this.#finishIfDone();
      });
    }
  }
}
