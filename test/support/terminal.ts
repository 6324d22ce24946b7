import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';

/** How a command has left its terminal. */
export interface Left {
  code: number;
  /** What is typed shows, and is read by lines. */
  echo: boolean;
  canonical: boolean;
}

/** What is missing for a terminal; undefined: nothing. */
export function lacksTerminal(): string | undefined {
  // os.login_tty is there from 3.11 on.
  const { status } = spawnSync('python3', ['-c', 'import os; os.login_tty']);
  return status === 0 ? undefined : 'python3 3.11 or newer is missing';
}

/** A command in a terminal, with somebody who types and looks. */
export class Terminal implements AsyncDisposable {
  /** Everything that was written, escape sequences and all. */
  text = '';
  readonly #process: ChildProcess;
  readonly #left: Promise<Left>;

  constructor(columns: number, rows: number, command: readonly string[]) {
    const helper = fileURLToPath(new URL('./terminal.py', import.meta.url));
    this.#process = spawn('python3', [helper, String(columns), String(rows), ...command], {
      env: { ...process.env, TERM: 'xterm-256color' },
    });
    let said = '';
    this.#process.stdin?.on('error', () => {});
    this.#process.stdout?.on('data', (data: Buffer) => (this.text += data.toString()));
    this.#process.stderr?.on('data', (data: Buffer) => (said += data.toString()));
    this.#left = new Promise((resolve, reject) => {
      this.#process.once('error', reject);
      this.#process.once('close', () => {
        try {
          resolve(JSON.parse(said) as Left);
        } catch {
          reject(new Error(`the terminal has failed: ${said}`));
        }
      });
    });
    this.#left.catch(() => {});
  }

  type(keys: string): void {
    this.#process.stdin?.write(`${JSON.stringify(keys)}\n`);
  }

  resize(columns: number, rows: number): void {
    this.#process.stdin?.write(`${JSON.stringify([columns, rows])}\n`);
  }

  /** The lines of the last whole frame that was drawn from the corner on, without colours. */
  get screen(): string[] {
    const end = this.text.lastIndexOf('\x1b[J');
    const begin = this.text.lastIndexOf('\x1b[H', end);
    if (end < 0 || begin < 0) return [];
    return stripVTControlCharacters(this.text.slice(begin + 3, end)).split(/\r*\n/);
  }

  /** Resolves when the command has ended by itself. */
  async end(): Promise<Left> {
    return await this.#left;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#process.stdin?.end();
    await this.#left.catch(() => {});
  }
}
