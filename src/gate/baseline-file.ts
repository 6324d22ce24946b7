import { readFileSync, statSync } from 'node:fs';
import { rename, writeFile } from 'node:fs/promises';

/** Bytes that a file of it may have. */
const MOST = 4 << 20;

/** What a detector has learned, on disk, for whoever comes after it. */
export class BaselineFile {
  readonly #path: string;
  readonly #warn: (text: string) => void;
  #writing: Promise<void> | undefined;

  constructor(path: string, warn: (text: string) => void) {
    this.#path = path;
    this.#warn = warn;
  }

  /** As text, whatever it is; undefined when there is none, or more than anybody has written. */
  read(): string | undefined {
    try {
      return statSync(this.#path).size > MOST ? undefined : readFileSync(this.#path, 'utf8');
    } catch {
      return undefined;
    }
  }

  /** In one step: a reader finds the old or the new one. What comes while one is being written is left out. */
  write(text: string): void {
    this.#writing ??= this.#write(text)
      .catch((error: Error) => this.#warn(`what is usual cannot be kept: ${error.message}`))
      .finally(() => {
        this.#writing = undefined;
      });
  }

  async #write(text: string): Promise<void> {
    const fresh = `${this.#path}.new`;
    await writeFile(fresh, text, { mode: 0o600 });
    await rename(fresh, this.#path);
  }

  /** Nothing is under way any more. */
  async settled(): Promise<void> {
    await this.#writing;
  }
}
