import { connect, type Socket } from 'node:net';
import { GateError, gateError, type WireError } from './errors.ts';
import type { GateEvent } from './protocol.ts';

interface Waiting {
  resolve: (result: unknown) => void;
  reject: (error: GateError) => void;
  page: ((rows: unknown[]) => void) | undefined;
  timer: NodeJS.Timeout;
}

interface Answer {
  id: number | null;
  result?: unknown;
  page?: unknown[];
  event?: GateEvent;
  error?: WireError;
}

/** One connection: requests with ids, answers in whatever order. */
export class Connection {
  readonly #socket: Socket;
  readonly #answerMs: number;
  readonly #waiting = new Map<number, Waiting>();
  readonly #told: (event: GateEvent) => void;
  #next = 1;
  #rest = '';
  #open = true;

  private constructor(
    socket: Socket,
    answerMs: number,
    told: (event: GateEvent) => void,
    closed: () => void,
  ) {
    this.#socket = socket;
    this.#answerMs = answerMs;
    this.#told = told;
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => this.#take(text));
    socket.on('error', () => undefined);
    socket.once('close', () => {
      this.#open = false;
      const gone = new GateError('GATE_DOWN', 'the gate has closed the connection');
      for (const { timer, reject } of this.#waiting.values()) {
        clearTimeout(timer);
        reject(gone);
      }
      this.#waiting.clear();
      closed();
    });
  }

  /** @throws GateError GATE_DOWN, PRIVILEGE */
  static async open(
    path: string,
    answerMs: number,
    told: (event: GateEvent) => void,
    closed: () => void,
  ): Promise<Connection> {
    const socket = connect(path);
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', () => resolve());
      socket.once('error', (cause: NodeJS.ErrnoException) =>
        reject(
          cause.code === 'EACCES'
            ? new GateError('PRIVILEGE', `this user may not use ${path}`, { cause })
            : new GateError('GATE_DOWN', `nobody listens at ${path}`, { cause }),
        ),
      );
    });
    return new Connection(socket, answerMs, told, closed);
  }

  get open(): boolean {
    return this.#open;
  }

  /** @throws GateError as the gate answers, GATE_DOWN when it does not */
  ask(op: string, fields: object, page?: (rows: unknown[]) => void): Promise<unknown> {
    const id = this.#next++;
    return new Promise((resolve, reject) => {
      if (!this.#open) {
        reject(new GateError('GATE_DOWN', 'the gate has closed the connection'));
        return;
      }
      const timer = setTimeout(() => {
        this.#waiting.delete(id);
        reject(new GateError('GATE_DOWN', 'the gate does not answer'));
      }, this.#answerMs);
      this.#waiting.set(id, { resolve, reject, page, timer });
      this.#socket.write(`${JSON.stringify({ id, op, ...fields })}\n`);
    });
  }

  #take(text: string): void {
    const lines = (this.#rest + text).split('\n');
    this.#rest = lines.pop() ?? '';
    for (const line of lines) this.#answer(JSON.parse(line) as Answer);
  }

  #answer({ id, result, page, event, error }: Answer): void {
    if (event !== undefined) {
      this.#told(event);
      return;
    }
    // An error without an id is of the connection: for whoever waits longest.
    const key = id ?? this.#waiting.keys().next().value;
    const waiting = key === undefined ? undefined : this.#waiting.get(key);
    if (key === undefined || waiting === undefined) return;
    if (page !== undefined) {
      waiting.timer.refresh();
      waiting.page?.(page);
      return;
    }
    clearTimeout(waiting.timer);
    this.#waiting.delete(key);
    if (error === undefined) waiting.resolve(result);
    else waiting.reject(gateError(error));
  }

  close(): void {
    this.#socket.destroy();
  }
}
