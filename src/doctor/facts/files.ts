import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, readSync } from 'node:fs';
import { join } from 'node:path';

/** Reads sysfs and procfs, or a copy of them below `root`. What is not there, or may not be read, is undefined. */
export class Files {
  readonly #root: string;

  constructor(root = '/') {
    this.#root = root;
  }

  text(path: string): string | undefined {
    try {
      return readFileSync(join(this.#root, path), 'utf8').trim();
    } catch {
      return undefined;
    }
  }

  number(path: string): number | undefined {
    const text = this.text(path);
    return text === undefined || !/^-?\d+$/.test(text) ? undefined : Number(text);
  }

  bytes(path: string): Uint8Array | undefined {
    try {
      return readFileSync(join(this.#root, path));
    } catch {
      return undefined;
    }
  }

  /** `length` bytes from `at` on, of a device too. */
  part(path: string, at: number, length: number): Uint8Array | undefined {
    let fd: number;
    try {
      fd = openSync(join(this.#root, path), 'r');
    } catch {
      return undefined;
    }
    try {
      const bytes = new Uint8Array(length);
      return readSync(fd, bytes, 0, length, at === 0 ? null : at) === length ? bytes : undefined;
    } catch {
      return undefined;
    } finally {
      closeSync(fd);
    }
  }

  list(path: string): string[] {
    try {
      return readdirSync(join(this.#root, path));
    } catch {
      return [];
    }
  }

  link(path: string): string | undefined {
    try {
      return readlinkSync(join(this.#root, path));
    } catch {
      return undefined;
    }
  }
}
