import type { ServerResponse } from 'node:http';
import type { Topic } from './events.ts';
import type { Tick } from './shapes.ts';

/** Onlookers at once; more are turned away. */
const MAX_CLIENTS = 256;
/** Bytes that wait for a slow onlooker before it is let go of. */
const MAX_WAITING = 1 << 20;
/** So long the end of a run waits for them. */
const LAST_MS = 500;

type EventName = 'tick' | 'end' | 'skipped' | Topic;

const event = (name: EventName, data: string): Buffer => Buffer.from(`event: ${name}\ndata: ${data}\n\n`);

/** Rates, totals and what happens as server-sent events: one text for all onlookers, however many there are. */
export class Stream {
  readonly #clients = new Map<ServerResponse, ReadonlySet<Topic>>();
  /** Onlookers that were too slow. */
  dropped = 0;
  /** Told of the topics that are wanted by anybody, when they have changed. */
  onWanted: (topics: ReadonlySet<Topic>) => void = () => {};

  get clients(): number {
    return this.#clients.size;
  }

  /** Begins with the latest line, and the attacks that are known. False when there are too many. */
  add(response: ServerResponse, latest: Tick, topics: ReadonlySet<Topic>, attacks?: string): boolean {
    if (this.#clients.size >= MAX_CLIENTS) return false;
    response.writeHead(200, {
      'content-type': 'text/event-stream',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
    });
    this.#clients.set(response, topics);
    response.on('close', () => this.#remove(response));
    response.on('error', () => this.#remove(response));
    response.write(event('tick', JSON.stringify(latest)));
    if (attacks !== undefined && topics.has('attacks')) response.write(event('attacks', attacks));
    if (topics.size > 0) this.#tellWanted();
    return true;
  }

  #remove(response: ServerResponse): void {
    const topics = this.#clients.get(response);
    this.#clients.delete(response);
    if (topics !== undefined && topics.size > 0) this.#tellWanted();
  }

  #tellWanted(): void {
    const wanted = new Set<Topic>();
    for (const topics of this.#clients.values()) for (const topic of topics) wanted.add(topic);
    this.onWanted(wanted);
  }

  send(tick: Tick): void {
    if (this.#clients.size > 0) this.#write('tick', JSON.stringify(tick), () => true);
  }

  /** What has happened, to who has asked for it; `skipped`: to all who have asked for anything. */
  publish(name: Topic | 'skipped', data: string): void {
    this.#write(name, data, (topics) => (name === 'skipped' ? topics.size > 0 : topics.has(name)));
  }

  #write(name: EventName, data: string, wants: (topics: ReadonlySet<Topic>) => boolean): void {
    const text = event(name, data);
    for (const [client, topics] of this.#clients) {
      if (!wants(topics)) continue;
      if (client.writableLength > MAX_WAITING) {
        this.dropped++;
        client.destroy();
      } else client.write(text);
    }
  }

  /** The run is over: its last numbers, and no more. Resolves when they are on their way, or an onlooker takes too long. */
  async close(last: Tick): Promise<void> {
    const text = event('end', JSON.stringify(last));
    const sent = [...this.#clients.keys()].map(
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
