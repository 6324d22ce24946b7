import {
  chmodSync,
  chownSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  renameSync,
  rmdirSync,
  rmSync,
  statSync,
  unlinkSync,
} from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '../base/errors.ts';
import { ensureBpffs, type FileLock, lockFile } from '../kernel/index.ts';
import { gateName, RUN_DIRECTORY } from './control-places.ts';
import { removeDeadPins } from './dead-pins.ts';
import { LAYOUT_VERSION } from './layout.ts';
import { isPrivatePin } from './pin-names.ts';

/** Who may open the pins. `mode` as of files; who may read may look into the tables, who may write may change them. */
export interface PinAccess {
  uid: number;
  gid: number;
  mode: number;
}

/** What a name ends with while its pin is being exchanged. */
export const FRESH = '-new';

/** Where the tables of a gate of this layout are pinned. */
export function pinPath(name: string): string {
  return join('/sys/fs/bpf', 'sluice', name, `v${LAYOUT_VERSION}`);
}

/**
 * Where the tables of an interface are pinned: sluice/<netns inode>-<ifindex>/v<layout>/ in bpffs (interface
 * indices repeat across namespaces, names may hold dots, which bpffs refuses). The lock makes sure that an
 * interface has at most one daemon; it goes away with the process.
 */
export class PinDirectory {
  readonly path: string;
  /** `<netns inode>-<ifindex>` of the interface that it bears the name of. */
  readonly name: string;
  readonly #parent: string;
  readonly #lock: FileLock;

  private constructor(name: string, parent: string, path: string, lock: FileLock) {
    this.name = name;
    this.#parent = parent;
    this.path = path;
    this.#lock = lock;
  }

  /** Throws INTERFACE_BUSY when another Sluice holds the interface. */
  static claim(ifindex: number, ifname: string): PinDirectory {
    const name = gateName(ifindex);
    makeDirectory(RUN_DIRECTORY, 0o755);
    const lock = lockFile(join(RUN_DIRECTORY, `${name}.lock`));
    if (lock === undefined) {
      throw new SluiceError('INTERFACE_BUSY', `another Sluice holds ${ifname}`, {
        help: `an interface has at most one daemon; \`sluice gate status -i ${ifname}\` tells of a gate, \`sluice gate down -i ${ifname}\` takes it down`,
      });
    }
    try {
      const root = join(ensureBpffs(), 'sluice');
      makeDirectory(root, 0o711);
      checkOwn(root);
      removeDeadPins(root, RUN_DIRECTORY);
      const parent = join(root, name);
      for (const path of [parent, join(parent, `v${LAYOUT_VERSION}`)]) if (isThere(path)) checkOwn(path);
      return new PinDirectory(name, parent, join(parent, `v${LAYOUT_VERSION}`), lock);
    } catch (error) {
      lock.remove();
      throw error;
    }
  }

  /** True when something of our layout is pinned here: left behind, as we hold the lock. */
  get occupied(): boolean {
    return existsSync(this.path);
  }

  /** What is pinned here. */
  names(): string[] {
    return this.occupied ? readdirSync(this.path) : [];
  }

  at(name: string): string {
    return join(this.path, name);
  }

  make(): void {
    makeDirectory(this.path, 0o700);
  }

  /** Gives what is pinned here to a user and a group; directories can be entered by who can read a pin. */
  share({ uid, gid, mode }: PinAccess): void {
    const enter = (mode & 0o444) >> 2;
    if ((mode & 0o077) !== 0) letThrough(join(this.#parent, '..', '..'));
    for (const path of [join(this.#parent, '..'), this.#parent]) chmodSync(path, 0o711);
    for (const name of this.names()) {
      if (isPrivatePin(name)) continue;
      chownSync(this.at(name), uid, gid);
      chmodSync(this.at(name), mode);
    }
    // It stays ours: who may open the pins may not put others in their place.
    chownSync(this.path, process.getuid?.() ?? 0, gid);
    chmodSync(this.path, 0o701 | (mode & 0o444) | enter);
  }

  /** Pins something under a name, in one step in place of what may be there. */
  put(name: string, thing: { pin(path: string): void }): void {
    const fresh = this.at(name + FRESH);
    rmSync(fresh, { force: true });
    thing.pin(fresh);
    renameSync(fresh, this.at(name));
  }

  /** Removes all but these. */
  prune(names: ReadonlySet<string>): void {
    for (const name of this.names())
      if (!names.has(name) && lstatSync(this.at(name)).isFile()) this.unpin(name);
  }

  /** Removes one pin. */
  unpin(name: string): void {
    rmSync(this.at(name), { force: true });
  }

  /** Removes the pins of our own layout; what another layout left is not touched. */
  clear(): void {
    for (const name of this.names()) {
      // What somebody else has put beside ours, directories for instance, is not ours to remove.
      if (lstatSync(this.at(name)).isFile()) unlinkSync(this.at(name));
    }
    if (existsSync(this.path) && readdirSync(this.path).length === 0) rmdirSync(this.path);
    if (existsSync(this.#parent) && readdirSync(this.#parent).length === 0) rmdirSync(this.#parent);
  }

  /** The lock file stays where pins do: by it a later run finds them. */
  release(): void {
    if (existsSync(this.#parent)) this.#lock.release();
    else this.#lock.remove();
  }
}

/** systemd mounts bpffs for root alone: others who may open pins have to get there. What else is pinned there has modes of its own. */
export function letThrough(bpffs: string): void {
  const { mode, uid } = statSync(bpffs);
  if (uid === process.getuid?.() && (mode & 0o011) !== 0o011) chmodSync(bpffs, (mode & 0o7777) | 0o011);
}

function isThere(path: string): boolean {
  return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
}

/**
 * bpffs is often mounted so that anyone may make directories and links in it: what is not a directory of this user's
 * own could lead us, who may do everything, to remove or give away files elsewhere.
 */
export function checkOwn(path: string): void {
  const found = lstatSync(path);
  if (found.isDirectory() && found.uid === (process.getuid?.() ?? 0) && (found.mode & 0o022) === 0) return;
  throw new SluiceError('PIN_FOREIGN', `${path} was not made by this user`, {
    help: `see who made it (ls -ld ${path}), and remove it if it is not needed`,
  });
}

export function makeDirectory(path: string, mode: number): void {
  try {
    mkdirSync(path, { recursive: true, mode });
  } catch (cause) {
    throw new SluiceError('PRIVILEGE', `cannot make the directory ${path}`, {
      cause,
      help: 'run as root: locks lie in /run/sluice, pins in /sys/fs/bpf',
    });
  }
}
