import { existsSync, mkdirSync, readdirSync, rmdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '../base/errors.ts';
import { ensureBpffs, type FileLock, lockFile, netnsInode } from '../kernel/index.ts';
import { LAYOUT_VERSION } from './layout.ts';

const LOCKS = '/run/sluice';

/**
 * Where the tables of an interface are pinned: sluice/<netns inode>-<ifindex>/v<layout>/ in bpffs (interface
 * indices repeat across namespaces, names may hold dots, which bpffs refuses). The lock makes sure that an
 * interface has at most one daemon; it goes away with the process.
 */
export class PinDirectory {
  readonly path: string;
  readonly #parent: string;
  readonly #lock: FileLock;

  private constructor(parent: string, path: string, lock: FileLock) {
    this.#parent = parent;
    this.path = path;
    this.#lock = lock;
  }

  /** Throws INTERFACE_BUSY when another Sluice holds the interface. */
  static claim(ifindex: number, ifname: string): PinDirectory {
    const name = `${netnsInode()}-${ifindex}`;
    mkdirSync(LOCKS, { recursive: true, mode: 0o755 });
    const lock = lockFile(join(LOCKS, `${name}.lock`));
    if (lock === undefined) {
      throw new SluiceError('INTERFACE_BUSY', `another Sluice holds ${ifname}`, {
        help: 'stop it first; an interface has at most one daemon',
      });
    }
    const root = join(ensureBpffs(), 'sluice');
    const parent = join(root, name);
    return new PinDirectory(parent, join(parent, `v${LAYOUT_VERSION}`), lock);
  }

  /** True when something of our layout is pinned here: left behind, as we hold the lock. */
  get occupied(): boolean {
    return existsSync(this.path);
  }

  at(name: string): string {
    return join(this.path, name);
  }

  make(): void {
    mkdirSync(this.path, { recursive: true, mode: 0o700 });
  }

  /** Removes the pins of our own layout; what another layout left is not touched. */
  clear(): void {
    if (existsSync(this.path)) {
      for (const name of readdirSync(this.path)) unlinkSync(join(this.path, name));
      rmdirSync(this.path);
    }
    if (existsSync(this.#parent) && readdirSync(this.#parent).length === 0) rmdirSync(this.#parent);
  }

  release(): void {
    this.#lock.release();
  }
}
