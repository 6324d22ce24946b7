import { createSocket, type Socket } from 'node:dgram';
import { isIPv6 } from 'node:net';
import type { LogName } from '../target.ts';
import { framesOf } from './frame.ts';
import { RecordQueue } from './queue.ts';
import { LAST_CHANCE_MS, type LogSink, type SinkListener, type SinkTotals } from './sink.ts';
import type { SinkSpec } from './url.ts';

/** Datagrams under way at once. */
const UNDER_WAY = 64;
/** The longest that a datagram holds; a longer record is lost, and counted. */
const LONGEST = 65_000;

/** Syslog over UDP (RFC 5426): one record, one datagram. What the network loses nobody knows. */
export class DatagramSink implements LogSink {
  readonly #spec: SinkSpec;
  readonly #told: SinkListener;
  readonly #queue: RecordQueue;
  readonly #socket: Socket;
  #underWay = 0;
  #sent = 0;
  #tooLong = 0;
  #refused = 0;
  #failures = 0;
  #failing = false;
  #closing: (() => void) | undefined;

  constructor(spec: SinkSpec, told: SinkListener) {
    this.#spec = spec;
    this.#told = told;
    this.#queue = new RecordQueue(spec.queueBytes);
    this.#socket = createSocket(isIPv6(spec.host) ? 'udp6' : 'udp4');
    this.#socket.on('error', (error) => this.#told(spec.name, error.message));
  }

  append(log: LogName, lines: Uint8Array, records: number): void {
    for (const message of framesOf(this.#spec.kind, log, lines, records)) {
      if (message.bytes.length > LONGEST) this.#tooLong++;
      else this.#queue.push(message);
    }
    this.#pump();
  }

  totals(): SinkTotals {
    return {
      name: this.#spec.name,
      sent: this.#sent,
      lost: this.#queue.lost + this.#tooLong + this.#refused,
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
    this.#queue.giveUp();
    await new Promise<void>((resolve) => this.#socket.close(() => resolve()));
  }

  #finishIfDone(): void {
    if (this.#closing !== undefined && this.#queue.isEmpty && this.#underWay === 0) this.#closing();
  }

  #pump(): void {
    const { host, port, name } = this.#spec;
    while (this.#underWay < UNDER_WAY) {
      const message = this.#queue.shift();
      if (message === undefined) break;
      this.#underWay++;
      this.#socket.send(message.bytes, port, host, (error) => {
        this.#underWay--;
        if (error === null) this.#sent++;
        else {
          this.#refused++;
          this.#failures++;
        }
        if ((error !== null) !== this.#failing) this.#told(name, error?.message);
        this.#failing = error !== null;
        this.#finishIfDone();
        this.#pump();
      });
    }
  }
}
