import type { ServerResponse } from 'node:http';
import { type Status, tickOf } from './shapes.ts';

const TICK_MS = 1000;
/** Onlookers at once; more are turned away. */
const MAX_CLIENTS = 256;
/** Bytes that wait for a slow onlooker before it is let go of. */
const MAX_WAITING = 1 << 20;

/** Rates and totals once a second as server-sent events: one text for all onlookers, however many there are. */
export class Stream {
  readonly #status: () => Status;
  readonly #clients = new Set<ServerResponse>();
  #timer: NodeJS.Timeout | undefined;
  #last: Status | undefined;
  /** Onlookers that were too slow. */
  dropped = 0;

  constructor(status: () => Status) {
    this.#status = status;
  }

  get clients(): number {
    return this.#clients.size;
  }

  /** False when there are too many. */
  add(response: ServerResponse): boolean {
    if (this.#clients.size >= MAX_CLIENTS) return false;
    response.writeHead(200, {
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    });
    this.#clients.add(response);
    response.on('close', () => this.#remove(response));
    response.on('error', () => this.#remove(response));
    this.#last ??= this.#status();
    response.write(this.#event());
    this.#timer ??= setInterval(() => this.#tick(), TICK_MS).unref();
    return true;
  }

  #event(): string {
    const now = this.#status();
    const tick = tickOf(this.#last ?? now, now);
    this.#last = now;
    return `event: tick\ndata: ${JSON.stringify(tick)}\n\n`;
  }

  #tick(): void {
    const text = this.#event();
    for (const client of this.#clients) {
      if (client.writableLength > MAX_WAITING) {
        this.dropped++;
        client.destroy();
      } else client.write(text);
    }
  }

  #remove(client: ServerResponse): void {
    this.#clients.delete(client);
    if (this.#clients.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#last = undefined;
  }

  close(): void {
    for (const client of this.#clients) client.destroy();
    this.#clients.clear();
    clearInterval(this.#timer);
    this.#timer = undefined;
  }
}
