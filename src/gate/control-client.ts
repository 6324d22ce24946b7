import { connect, type Socket } from 'node:net';
import { ERROR_CODES, type ErrorCode, SluiceError } from '../base/errors.ts';
import type { Place } from './control-places.ts';
import { type Op, PROTOCOL_VERSION, type RequestOf, type WatchEvent } from './control-protocol.ts';

/** Milliseconds for the daemon to answer; a hung one does not hang whoever asks. */
const ANSWER_MS = 10_000;
/** The same for what copies whole tables. */
const LONG_MS = 120_000;

interface Answer {
  id: number | null;
  result?: unknown;
  page?: unknown[];
  event?: WatchEvent;
  error?: { code: string; message: string; help?: string };
}

interface Waiting {
  resolve: (result: unknown) => void;
  reject: (error: SluiceError) => void;
  page: ((rows: unknown[]) => void) | undefined;
  event: ((event: WatchEvent) => void) | undefined;
  timer: NodeJS.Timeout;
}

type Wish<O extends Op> = Partial<RequestOf<O>> | object;

/** The other end of the control socket. */
export class ControlClient {
  readonly #socket: Socket;
  readonly #waiting = new Map<number, Waiting>();
  /** Settles when the daemon has closed the connection. */
  readonly closed: Promise<void>;
  #watcher: ((event: WatchEvent) => void) | undefined;
  #next = 1;
  #rest = '';

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding('utf8');
    socket.on('data', (chunk: string) => this.#take(chunk));
    socket.on('error', () => {});
    this.closed = new Promise((resolve) => {
      socket.once('close', () => {
        for (const each of this.#waiting.values())
          each.reject(new SluiceError('GATE_DOWN', 'the daemon of the gate has closed the connection'));
        this.#waiting.clear();
        resolve();
      });
    });
  }

  /** Connects and makes sure that both speak one version. @throws SluiceError GATE_DOWN, PRIVILEGE, CONTROL */
  static async connect(place: Place): Promise<ControlClient> {
    const socket = await new Promise<Socket>((resolve, reject) => {
      const made = connect(place.socket);
      made.once('connect', () => {
        made.removeAllListeners('error');
        resolve(made);
      });
      made.once('error', (cause: NodeJS.ErrnoException) => reject(connectError(place, cause)));
    });
    const client = new ControlClient(socket);
    try {
      await client.ask('hello', { version: PROTOCOL_VERSION });
    } catch (error) {
      client.close();
      throw error;
    }
    return client;
  }

  /** @throws SluiceError as the daemon answered, GATE_DOWN when it does not */
  async ask<T>(op: Op, wish: Wish<typeof op> = {}, page?: (rows: unknown[]) => void): Promise<T> {
    if (this.#socket.destroyed)
      throw new SluiceError('GATE_DOWN', 'the daemon of the gate has closed the connection');
    const id = this.#next++;
    return (await new Promise<unknown>((resolve, reject) => {
      const timer = setTimeout(
        () => {
          this.#waiting.delete(id);
          reject(
            new SluiceError('GATE_DOWN', 'the daemon of the gate does not answer', {
              help: 'its process hangs or is stopped; once it has ended, `sluice gate up` takes its gate over',
            }),
          );
        },
        op === 'resize' || op.startsWith('rule.') ? LONG_MS : ANSWER_MS,
      );
      this.#waiting.set(id, { resolve, reject, page, event: undefined, timer });
      this.#socket.write(`${JSON.stringify({ id, op, ...wish })}\n`);
    })) as T;
  }

  /** Events go to `told` until the connection ends. */
  async watch(interval: number, told: (event: WatchEvent) => void): Promise<void> {
    this.#watcher = told;
    await this.ask('watch', { interval });
  }

  #take(chunk: string): void {
    const lines = (this.#rest + chunk).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#answer(JSON.parse(line) as Answer);
  }

  #answer({ id, result, page, event, error }: Answer): void {
    if (event !== undefined) {
      this.#watcher?.(event);
      return;
    }
    // An answer to nothing that was asked is an error of the connection: it is for whoever waits longest.
    const key = id ?? this.#waiting.keys().next().value;
    const waiting = key === undefined ? undefined : this.#waiting.get(key);
    if (waiting === undefined || key === undefined) return;
    waiting.timer.refresh();
    if (page !== undefined) {
      waiting.page?.(page);
      return;
    }
    clearTimeout(waiting.timer);
    this.#waiting.delete(key);
    if (error === undefined) waiting.resolve(result);
    else waiting.reject(answerError(error));
  }

  close(): void {
    for (const { timer } of this.#waiting.values()) clearTimeout(timer);
    this.#socket.destroy();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** An error as it came over the socket. */
export function answerError({ code, message, help }: NonNullable<Answer['error']>): SluiceError {
  const known = Object.hasOwn(ERROR_CODES, code) ? (code as ErrorCode) : 'CONTROL';
  return new SluiceError(known, message, help === undefined ? {} : { help });
}

function connectError(place: Place, cause: NodeJS.ErrnoException): SluiceError {
  if (cause.code === 'EACCES') {
    return new SluiceError('PRIVILEGE', `this user may not speak with the gate on ${place.ifname}`, {
      help: '`sluice gate up --pin-group GROUP` lets a group do so',
    });
  }
  return new SluiceError('GATE_DOWN', `the gate on ${place.ifname} has no daemon`, {
    cause,
    help: `its daemon has ended, and entries lapse; \`sluice gate up -i ${place.ifname}\` takes the gate over`,
  });
}
