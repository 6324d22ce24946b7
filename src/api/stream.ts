import type { ServerResponse } from 'node:http';
import type { Tick } from './shapes.ts';

/** Onlookers at once; more are turned away. */
const MAX_CLIENTS = 256;
/** Bytes that wait for a slow onlooker before it is let go of. */
const MAX_WAITING = 1 << 20;
/** So long the end of a run waits for them. */
const LAST_MS = 500;

const event = (name: 'tick' | 'end', tick: Tick): string =>
  `event: ${name}\ndata: ${JSON.stringify(tick)}\n\n`;

/** Rates and totals as server-sent events: one text for all onlookers, however many there are. */
export class Stream {
  readonly #clients = new Set<ServerResponse>();
  /** Onlookers that were too slow. */
  dropped = 0;

  get clients(): number {
    return this.#clients.size;
  }

  /** Begins with the latest line. False when there are too many. */
  add(response: ServerResponse, latest: Tick): boolean {
    if (this.#clients.size >= MAX_CLIENTS) return false;
    response.writeHead(200, {
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    });
    this.#clients.add(response);
    response.on('close', () => this.#clients.delete(response));
    response.on('error', () => this.#clients.delete(response));
    response.write(event('tick', latest));
    return true;
  }

  send(tick: Tick): void {
    if (this.#clients.size === 0) return;
    const text = event('tick', tick);
    for (const client of this.#clients) {
      if (client.writableLength > MAX_WAITING) {
        this.dropped++;
        client.destroy();
      } else client.write(text);
    }
  }

  /** The run is over: its last numbers, and no more. Resolves when they are on their way, or an onlooker takes too long. */
  async close(last: Tick): Promise<void> {
    const text = event('end', last);
    const sent = [...this.#clients].map(
      async (client) =>
        await new Promise<void>((resolve) => {
          client.once('close', resolve);
          client.end(text, resolve);
        }),
    );
    this.#clients.clear();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, LAST_MS);
    });
    await Promise.race([Promise.all(sent), late]);
    clearTimeout(timer);
  }
}
