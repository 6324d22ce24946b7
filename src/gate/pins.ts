import { existsSync, mkdirSync, readdirSync, rmdirSync, unlinkSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '../base/errors.ts';
import { ensureBpffs, type FileLock, lockFile, netnsInode } from '../kernel/index.ts';
import { removeDeadPins } from './dead-pins.ts';
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
    makeDirectory(LOCKS, 0o755);
    const lock = lockFile(join(LOCKS, `${name}.lock`));
    if (lock === undefined) {
      throw new SluiceError('INTERFACE_BUSY', `another Sluice holds ${ifname}`, {
        help: 'stop it first; an interface has at most one daemon',
      });
    }
    try {
      const root = join(ensureBpffs(), 'sluice');
      removeDeadPins(root, LOCKS);
      const parent = join(root, name);
      return new PinDirectory(parent, join(parent, `v${LAYOUT_VERSION}`), lock);
    } catch (error) {
      lock.remove();
      throw error;
    }
  }

  /** True when something of our layout is pinned here: left behind, as we hold the lock. */
  get occupied(): boolean {
    return existsSync(this.path);
  }

  at(name: string): string {
    return join(this.path, name);
  }

  make(): void {
    makeDirectory(this.path, 0o700);
  }

  /** Removes the pins of our own layout; what another layout left is not touched. */
  clear(): void {
    if (existsSync(this.path)) {
      for (const name of readdirSync(this.path)) unlinkSync(join(this.path, name));
      rmdirSync(this.path);
    }
    if (existsSync(this.#parent) && readdirSync(this.#parent).length === 0) rmdirSync(this.#parent);
  }

  /** The lock file stays where pins do: by it a later run finds them. */
  release(): void {
    if (existsSync(this.#parent)) this.#lock.release();
    else this.#lock.remove();
  }
}

function makeDirectory(path: string, mode: number): void {
  try {
    mkdirSync(path, { recursive: true, mode });
  } catch (cause) {
    throw new SluiceError('PRIVILEGE', `cannot make the directory ${path}`, {
      cause,
      help: 'run as root: locks lie in /run/sluice, pins in /sys/fs/bpf',
    });
  }
}
