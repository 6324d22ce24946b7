import type { ChildProcess, SpawnOptions } from 'node:child_process';
import { readdirSync, readlinkSync } from 'node:fs';
import { SluiceError } from '../src/base/errors.ts';
import { type CommandResult, ended, type RunOptions, run, startBound } from './process.ts';

/**
 * An anonymous network namespace, held by a child process that ends with this process: by a signal of the kernel
 * (also after SIGKILL), and by the end of its standard input should this process be gone before that signal is armed.
 */
export class Namespace {
  readonly name: string;
  readonly pid: number;
  /** What `nsenter --net=` and setns(2) take. */
  readonly path: string;
  readonly inode: number;
  readonly #holder: ChildProcess;
  readonly #children = new Set<ChildProcess>();

  private constructor(name: string, holder: ChildProcess, pid: number, inode: number) {
    this.name = name;
    this.#holder = holder;
    this.pid = pid;
    this.path = `/proc/${pid}/ns/net`;
    this.inode = inode;
  }

  /** @throws SluiceError PRIVILEGE when the process may not make namespaces. */
  static async create(name: string): Promise<Namespace> {
    const holder = startBound(['unshare', '-n', 'sh', '-c', 'echo ready; exec cat >/dev/null'], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    holder.stdin?.on('error', () => undefined);
    let said = '';
    holder.once('error', (error) => {
      said = error.message;
    });
    const ready = await new Promise<boolean>((resolve) => {
      holder.stdout?.once('data', () => resolve(true));
      holder.stderr?.on('data', (chunk: Buffer) => {
        said += chunk.toString('utf8');
      });
      void ended(holder).then(() => resolve(false));
    });
    const inode = ready && holder.pid !== undefined ? namespaceInode(holder.pid) : undefined;
    if (holder.pid === undefined || inode === undefined) {
      throw new SluiceError('PRIVILEGE', 'cannot make a network namespace', {
        cause: said.trim() || 'the process that was to hold it ended',
        help: 'the lab needs CAP_SYS_ADMIN and CAP_NET_ADMIN: run it as root; `bash scripts/setup.sh` installs its tools',
      });
    }
    // What keeps this process alive is its own business, not the holder's pipes.
    for (const stream of holder.stdio) (stream as { unref?: () => void } | null)?.unref?.();
    holder.unref();
    return new Namespace(name, holder, holder.pid, inode);
  }

  /** The command line that enters this namespace (not the mount namespace) for a command. */
  enter(argv: readonly string[]): string[] {
    return ['nsenter', `--net=${this.path}`, '--', ...argv];
  }

  /** Runs a command inside, to its end. */
  exec(argv: readonly string[], options: RunOptions = {}): Promise<CommandResult> {
    return run(this.enter(argv), options);
  }

  /** Runs lines of ip(8) in one go. */
  async ip(lines: readonly string[]): Promise<void> {
    await this.exec(['ip', '-batch', '-'], { input: `${lines.join('\n')}\n` });
  }

  /** Starts a command inside; it dies with this process, and with the namespace. */
  spawn(argv: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const child = startBound(this.enter(argv), options);
    this.#children.add(child);
    void ended(child).then(() => this.#children.delete(child));
    return child;
  }

  /** Ends what was started inside, then the holder. */
  async close(): Promise<void> {
    const children = [...this.#children];
    this.#holder.ref();
    for (const child of children) child.kill('SIGKILL');
    this.#holder.kill('SIGKILL');
    await Promise.all([...children, this.#holder].map(ended));
  }
}

/** Inode of the network namespace that a process is in, or undefined when there is no such process. */
export function namespaceInode(pid: number | 'self'): number | undefined {
  try {
    return Number(/\d+/.exec(readlinkSync(`/proc/${pid}/ns/net`))?.[0]);
  } catch {
    return undefined;
  }
}

/** Processes that are in one of these namespaces. */
export function processesIn(inodes: ReadonlySet<number>): number[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((pid) => inodes.has(namespaceInode(pid) ?? -1));
}
