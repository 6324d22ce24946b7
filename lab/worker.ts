import type { ChildProcess } from 'node:child_process';
import { ERROR_CODES, type ErrorCode, SluiceError } from '../src/base/errors.ts';
import type { Namespace } from './namespace.ts';
import { ended, programPath } from './process.ts';

/** A message with the number of the request that it belongs to. */
interface Numbered {
  id: number;
  error?: string;
  code?: string;
  value?: unknown;
  /** Not the answer yet. */
  progress?: unknown;
}

/** One of the lab's own programs, run by Node.js inside a namespace and spoken to by numbered messages. */
export class Worker {
  readonly #child: ChildProcess;
  readonly #name: string;
  readonly #waiting = new Map<
    number,
    {
      resolve: (value: unknown) => void;
      reject: (error: SluiceError) => void;
      progress: ((value: unknown) => void) | undefined;
    }
  >();
  #next = 1;
  #said = '';

  constructor(namespace: Namespace, program: string, args: readonly string[] = []) {
    this.#name = program;
    this.#child = namespace.spawn([process.execPath, programPath(program), ...args], {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      // What debugs or instruments this process is not meant for its helpers.
      env: { NODE_OPTIONS: '' },
    });
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      this.#said = (this.#said + chunk.toString('utf8')).slice(-4000);
    });
    this.#child.on('message', (message) => this.#receive(message as Numbered));
    void ended(this.#child).then(() => this.#fail());
  }

  /** Sends a request and waits for its answer. @throws SluiceError LAB */
  request<T>(message: object, progress?: (value: unknown) => void): Promise<T> {
    const id = this.#next++;
    return new Promise<T>((resolve, reject) => {
      this.#waiting.set(id, { resolve: resolve as (value: unknown) => void, reject, progress });
      if (!this.#child.connected) this.#fail();
      else this.#child.send({ ...message, id }, (error) => error !== null && this.#fail());
    });
  }

  /** Ends the program and waits until it has ended. */
  async close(): Promise<void> {
    this.#child.kill('SIGKILL');
    await ended(this.#child);
  }

  #receive(message: Numbered): void {
    const entry = this.#waiting.get(message.id);
    if (message.progress !== undefined) {
      entry?.progress?.(message.progress);
      return;
    }
    this.#waiting.delete(message.id);
    if (message.error === undefined) entry?.resolve(message.value);
    else {
      const code = Object.hasOwn(ERROR_CODES, message.code ?? '') ? (message.code as ErrorCode) : 'LAB';
      entry?.reject(new SluiceError(code, `lab ${this.#name}: ${message.error}`));
    }
  }

  #fail(): void {
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject } of waiting) {
      reject(
        new SluiceError('LAB', `the lab's ${this.#name} process ended`, {
          cause: this.#said.trim() || undefined,
        }),
      );
    }
  }
}
