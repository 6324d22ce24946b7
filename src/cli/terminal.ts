import type { Writable } from 'node:stream';
import { stripVTControlCharacters } from 'node:util';
import type { OutputConfig } from '../base/config.ts';
import { SluiceError } from '../base/errors.ts';
import type { CommandIo } from '../base/io.ts';

export interface Streams {
  stdout: Writable;
  stderr: Writable & { isTTY?: boolean; columns?: number };
}

const STYLES = { bold: 1, dim: 2, red: 31, green: 32, yellow: 33, cyan: 36 } as const;
/** Milliseconds between two lines of progress where it cannot replace itself. */
const PROGRESS_LINE_MS = 5000;

/** The first `columns` visible characters of a line; colours do not count. */
function clipped(line: string, columns: number): string {
  const bare = stripVTControlCharacters(line);
  return bare.length <= columns ? line : bare.slice(0, columns);
}

/** stdout, stderr and signals, as a command sees them. */
export class Terminal implements CommandIo {
  readonly terminal: boolean;
  readonly stop: AbortSignal;
  readonly #streams: Streams;
  readonly #env: NodeJS.ProcessEnv;
  readonly #stopping = new AbortController();
  #quiet = false;
  #verbose = false;
  #color: boolean;
  #broken = false;
  #stdoutError: Error | undefined;
  #shown: string[] = [];
  #nextLine = 0;

  constructor(streams: Streams, env: NodeJS.ProcessEnv) {
    this.#streams = streams;
    this.#env = env;
    this.terminal = streams.stderr.isTTY === true && env.TERM !== 'dumb';
    this.#color = this.#colorful(true);
    this.stop = this.#stopping.signal;
    streams.stdout.on('error', (error: NodeJS.ErrnoException) => {
      this.#broken = true;
      // A reader that has seen enough (head) is no failure.
      if (error.code !== 'EPIPE') this.#stdoutError ??= error;
    });
    // Nobody is left to be told.
    streams.stderr.on('error', () => {});
  }

  get columns(): number {
    return this.#streams.stderr.columns ?? 80;
  }

  configure(config: OutputConfig): void {
    this.#quiet = config.quiet;
    this.#verbose = config.verbose;
    this.#color = this.#colorful(config.color);
  }

  #colorful(wanted: boolean): boolean {
    return wanted && this.terminal && (this.#env.NO_COLOR ?? '') === '';
  }

  out(text: string): void {
    if (this.#broken) return;
    this.#hide();
    this.#streams.stdout.write(text);
    this.#show();
  }

  say(line: string): void {
    if (!this.#quiet) this.warn(line);
  }

  detail(line: string): void {
    if (this.#verbose) this.warn(line);
  }

  warn(line: string): void {
    this.#hide();
    this.#streams.stderr.write(`${line}\n`);
    this.#show();
  }

  progress(text: string): void {
    if (this.#quiet) return;
    if (this.terminal) {
      this.#hide();
      this.#shown = text.split('\n').map((line) => clipped(line, this.columns - 1));
      this.#show();
      return;
    }
    const now = performance.now();
    // The first report is due after a while, not at once: short work stays silent.
    if (this.#nextLine === 0) this.#nextLine = now + PROGRESS_LINE_MS;
    if (now < this.#nextLine) return;
    this.#nextLine = now + PROGRESS_LINE_MS;
    this.#streams.stderr.write(`${stripVTControlCharacters(text).replaceAll('\n', ' · ')}\n`);
  }

  progressDone(): void {
    this.#hide();
    this.#shown = [];
    this.#nextLine = 0;
  }

  paint(style: keyof typeof STYLES, text: string): string {
    return this.#color ? `\x1b[${STYLES[style]}m${text}\x1b[0m` : text;
  }

  #hide(): void {
    const lines = this.#shown.length;
    if (lines === 0) return;
    this.#streams.stderr.write(`${lines > 1 ? `\x1b[${lines - 1}A` : ''}\r\x1b[J`);
  }

  #show(): void {
    if (this.#shown.length > 0) this.#streams.stderr.write(this.#shown.join('\n'));
  }

  /** Asks the command to stop; true when it had been asked before. */
  requestStop(signal: NodeJS.Signals): boolean {
    const again = this.stop.aborted;
    if (!again) this.#stopping.abort(signal);
    return again;
  }

  /** Waits until stdout has taken everything. @throws SluiceError FILE when it did not */
  async finish(): Promise<void> {
    this.progressDone();
    if (!this.#broken) await new Promise<void>((resolve) => this.#streams.stdout.write('', () => resolve()));
    if (this.#stdoutError !== undefined) {
      throw new SluiceError('FILE', 'the output could not be written', {
        cause: this.#stdoutError,
        help: 'check where stdout goes to',
      });
    }
  }
}
