import { chmodSync, chownSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { asSluiceError, SluiceError } from '../base/errors.ts';
import { peerCredentials } from '../kernel/index.ts';
import {
  type ControlCounts,
  type Id,
  LIMITS,
  parseRequest,
  type Request,
  type WatchEvent,
} from './control-protocol.ts';
import { Queue } from './turns.ts';

/** Who is at the other end, as the kernel says; both undefined when it did not. */
export interface Peer {
  uid: number | undefined;
  pid: number | undefined;
}

/** What a request may do beside answering. */
export interface Conversation {
  peer: Peer;
  /** Sends a part of a long answer; resolves when there is room for the next. */
  page(rows: readonly unknown[]): Promise<void>;
  /** Events go to this client, under the id of this request; `interval` in seconds between counters, 0: none. */
  watch(interval: number): void;
  unwatch(): void;
}

export type Perform = (request: Request, conversation: Conversation) => Promise<unknown>;

export interface SocketAccess {
  uid: number;
  gid: number;
  mode: number;
}

const NEWLINE = 0x0a;

/**
 * The control socket: one JSON request a line. Everything that comes in is hostile: lines, requests per second, clients and
 * what waits for them are bounded (LIMITS), and whatever is not understood is answered by an error.
 */
export class ControlServer {
  readonly path: string;
  readonly #perform: Perform;
  readonly #server: Server;
  readonly #clients = new Set<Client>();
  /** A request may take some milliseconds: those that come together are not carried out in one go. */
  readonly #queue = new Queue();
  readonly #counts: ControlCounts = { clients: 0, clientsRefused: 0, requests: 0, limited: 0, malformed: 0 };

  private constructor(path: string, perform: Perform) {
    this.path = path;
    this.#perform = perform;
    this.#server = createServer((socket) => this.#welcome(socket));
  }

  /** Listens, after the lock of the gate has made sure that nobody else does. @throws SluiceError FILE */
  static async listen(path: string, access: SocketAccess, perform: Perform): Promise<ControlServer> {
    const control = new ControlServer(path, perform);
    // Left by a daemon that was killed.
    rmSync(path, { force: true });
    // The file must at no time be open to others, not even between its making and the chmod.
    const mask = process.umask(0o177);
    const listening = new Promise<void>((resolve, reject) => {
      control.#server.once('error', (cause) =>
        reject(new SluiceError('FILE', `cannot listen at ${path}`, { cause })),
      );
      control.#server.listen(path, resolve);
    });
    process.umask(mask);
    await listening;
    // Running out of descriptors, say: those who are connected stay.
    control.#server.on('error', () => {});
    chownSync(path, access.uid, access.gid);
    chmodSync(path, access.mode);
    return control;
  }

  #welcome(socket: Socket): void {
    const peer = peerOf(socket);
    const room = LIMITS.clients - (peer.uid === 0 ? 0 : LIMITS.reservedClients);
    const client = new Client(socket, peer, this.#queue, this.#perform, this.#counts, () =>
      this.#clients.delete(client),
    );
    if (peer.uid !== 0 && this.#connectionsOf(peer.uid) >= LIMITS.clientsPerUser) {
      this.#counts.clientsRefused++;
      client.refuse(
        new SluiceError('LIMIT', `this user has ${LIMITS.clientsPerUser} connections already`, {
          help: 'others need places too: use one connection for many requests',
        }),
      );
      return;
    }
    if (this.#clients.size >= room) {
      this.#counts.clientsRefused++;
      client.refuse(new SluiceError('LIMIT', `${this.#clients.size} clients are connected already`));
      return;
    }
    this.#clients.add(client);
  }

  #connectionsOf(uid: number | undefined): number {
    let found = 0;
    for (const { peer } of this.#clients) if (peer.uid === uid) found++;
    return found;
  }

  /** Totals since the start. */
  get counts(): ControlCounts {
    return { ...this.#counts, clients: this.#clients.size };
  }

  /** Clients that want to hear of changes. */
  get watched(): boolean {
    for (const client of this.#clients) if (client.watching) return true;
    return false;
  }

  tell(event: WatchEvent): void {
    for (const client of this.#clients) client.tell(event);
  }

  /** Watchers were not told of this many events. */
  lost(events: number): void {
    for (const client of this.#clients) client.lost(events);
  }

  /** Sends counters to those whose interval is over. */
  tellCounters(make: () => Omit<Extract<WatchEvent, { event: 'counters' }>, 'lost'>): void {
    const now = performance.now();
    let made: ReturnType<typeof make> | undefined;
    for (const client of this.#clients) {
      if (!client.countersDue(now)) continue;
      made ??= make();
      client.tell({ ...made, lost: client.takeLost() });
    }
  }

  /** Lets everyone read what was answered, closes, and removes the socket. */
  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    for (const client of this.#clients) client.end();
    await closed;
    rmSync(this.path, { force: true });
  }
}

/** Milliseconds that a client has to read the last answers. */
const GOODBYE_MS = 500;

class Client {
  readonly #socket: Socket;
  readonly peer: Peer;
  readonly #queue: Queue;
  readonly #perform: Perform;
  readonly #counts: ControlCounts;
  #rest: Buffer = Buffer.alloc(0);
  #tokens: number = LIMITS.burst;
  #refilled = performance.now();
  #pending = 0;
  #watch: { id: Id; interval: number; next: number; lost: number } | undefined;

  constructor(
    socket: Socket,
    peer: Peer,
    queue: Queue,
    perform: Perform,
    counts: ControlCounts,
    gone: () => void,
  ) {
    this.#socket = socket;
    this.peer = peer;
    this.#counts = counts;
    this.#queue = queue;
    this.#perform = perform;
    const silent = setTimeout(() => socket.destroy(), LIMITS.silentMs);
    socket.once('data', () => clearTimeout(silent));
    socket.on('data', (chunk: Buffer) => this.#take(chunk));
    socket.on('drain', () => this.#pump());
    // A client that is gone is no news.
    socket.on('error', () => {});
    socket.once('close', () => {
      clearTimeout(silent);
      this.#watch = undefined;
      gone();
    });
  }

  get watching(): boolean {
    return this.#watch !== undefined;
  }

  refuse(error: SluiceError): void {
    this.#answer(null, { error: document(error) });
    this.end();
  }

  end(): void {
    this.#socket.end();
    setTimeout(() => this.#socket.destroy(), GOODBYE_MS).unref();
  }

  #take(chunk: Buffer): void {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    this.#pump();
  }

  /** Works through whole lines, as long as there is room for more work and for its answers. */
  #pump(): void {
    const socket = this.#socket;
    let from = 0;
    while (!socket.destroyed && !socket.writableEnded) {
      if (this.#pending >= LIMITS.pending || socket.writableLength > LIMITS.backlog) break;
      const end = this.#rest.indexOf(NEWLINE, from);
      const length = (end < 0 ? this.#rest.length : end) - from;
      if (length > LIMITS.line) {
        this.refuse(new SluiceError('LIMIT', `a request has at most ${LIMITS.line} bytes`));
        break;
      }
      if (end < 0) break;
      const line = this.#rest.toString('utf8', from, end);
      from = end + 1;
      if (line.trim() !== '') this.#handle(line);
    }
    this.#rest = this.#rest.subarray(from);
    // A line that is too long is found out before it is whole; so what waits here is bounded by a line and a chunk.
    const busy = this.#pending >= LIMITS.pending || socket.writableLength > LIMITS.backlog;
    if (busy) socket.pause();
    else socket.resume();
  }

  #handle(line: string): void {
    const now = performance.now();
    const refill = ((now - this.#refilled) / 1000) * LIMITS.requestsPerSecond;
    this.#tokens = Math.min(LIMITS.burst, this.#tokens + refill);
    this.#refilled = now;
    if (this.#tokens < 1) {
      // Not even parsed: a flood costs as little as it can.
      this.#counts.limited++;
      const error = new SluiceError('LIMIT', `more than ${LIMITS.requestsPerSecond} requests per second`, {
        help: 'ask again after the seconds that `retryAfter` says, for many flows at a time',
      });
      const retryAfter = Math.ceil((1 - this.#tokens) / (LIMITS.requestsPerSecond / 1000)) / 1000;
      this.#answer(idAtStart(line), { error: { ...document(error), retryAfter } });
      return;
    }
    this.#tokens--;
    const parsed = parseRequest(line);
    if ('problem' in parsed) {
      this.#counts.malformed++;
      const error = new SluiceError('CONTROL', parsed.problem, { help: 'docs/control.md has the requests' });
      this.#answer(parsed.id, { error: document(error) });
      return;
    }
    const { request } = parsed;
    this.#counts.requests++;
    this.#pending++;
    void this.#work(request).finally(() => {
      this.#pending--;
      this.#pump();
    });
  }

  async #work(request: Request): Promise<void> {
    const { id } = request;
    await this.#queue.turn();
    try {
      const result = await this.#perform(request, {
        peer: this.peer,
        page: (rows) => this.#page(id, rows),
        watch: (interval) => (this.#watch = { id, interval, next: 0, lost: 0 }),
        unwatch: () => (this.#watch = undefined),
      });
      this.#answer(id, { result: result ?? {} });
    } catch (error) {
      this.#answer(id, { error: document(asSluiceError(error)) });
    }
  }

  #answer(id: Id, body: object): void {
    if (this.#socket.destroyed || this.#socket.writableEnded) return;
    this.#socket.write(`${JSON.stringify({ id, ...body })}\n`);
  }

  async #page(id: Id, rows: readonly unknown[]): Promise<void> {
    this.#answer(id, { page: rows });
    const socket = this.#socket;
    if (socket.writableLength <= LIMITS.backlog || socket.destroyed) return;
    await new Promise<void>((resolve) => {
      const done = (): void => {
        socket.off('drain', done);
        socket.off('close', done);
        resolve();
      };
      socket.on('drain', done);
      socket.on('close', done);
    });
  }

  tell(event: WatchEvent): void {
    const watch = this.#watch;
    if (watch === undefined) return;
    if (this.#socket.writableLength > LIMITS.backlog) watch.lost++;
    else this.#answer(watch.id, { event });
  }

  countersDue(now: number): boolean {
    const watch = this.#watch;
    if (watch === undefined || watch.interval === 0 || now < watch.next) return false;
    watch.next = now + watch.interval * 1000;
    return true;
  }

  lost(events: number): void {
    if (this.#watch !== undefined) this.#watch.lost += events;
  }

  takeLost(): number {
    const lost = this.#watch?.lost ?? 0;
    if (this.#watch !== undefined) this.#watch.lost = 0;
    return lost;
  }
}

function document(error: SluiceError): { code: string; message: string; help?: string } {
  const { code, message, help } = error;
  return { code, message, ...(help === undefined ? {} : { help }) };
}

/** The id of a request that is not parsed, where it comes first, as clients of ours write it. */
function idAtStart(line: string): Id {
  const [, number, text] =
    /^\s*\{\s*"id"\s*:\s*(?:(\d{1,15})|"([^"\\]{0,64})")/.exec(line.slice(0, 128)) ?? [];
  return number === undefined ? (text ?? null) : Number(number);
}

/** Node.js shows the descriptor of a connection only inside of its handle. */
function peerOf(socket: Socket): Peer {
  const handle = (socket as { _handle?: { fd?: unknown } })._handle;
  try {
    if (typeof handle?.fd === 'number' && handle.fd >= 0) return peerCredentials(handle.fd);
  } catch {
    // Gone already.
  }
  return { uid: undefined, pid: undefined };
}

/** Somebody who asks from within this process, and listens to no pages or events. */
export function aloneWith(peer: Peer): Conversation {
  return { peer, page: () => Promise.resolve(), watch: () => {}, unwatch: () => {} };
}

/** @throws SluiceError DENIED unless it is the superuser, or whoever this process runs as */
export function mustRule({ uid }: Peer): void {
  if (uid === 0 || (uid !== undefined && uid === process.getuid?.())) return;
  throw new SluiceError('DENIED', 'only the superuser may do this');
}
