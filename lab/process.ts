import { type ChildProcess, type SpawnOptions, spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { dirname, extname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SluiceError } from '../src/base/errors.ts';

/** What a finished command left. */
export interface CommandResult {
  /** Exit status; -1 when a signal ended it. */
  code: number;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  /** Text for standard input; without it the command reads nothing. */
  input?: string;
  /** Milliseconds until the command is killed (default 120,000). */
  timeoutMs?: number;
  /** Limit of each output stream in bytes (default 16 MiB); what is beyond it is dropped. */
  maxBytes?: number;
  /** A status other than 0 is an error (default true). */
  check?: boolean;
  env?: Record<string, string>;
  signal?: AbortSignal;
}

/** A PATH in which the system tools are found on Debian, also for users whose PATH lacks sbin. */
const toolPath = `${process.env['PATH'] ?? ''}:/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin`;

/** The command line that lets a command die with the process that started it, SIGKILL included. */
export const diesWithParent = (argv: readonly string[]): string[] => [
  'setpriv',
  '--pdeathsig',
  'KILL',
  '--',
  ...argv,
];

/**
 * Starts a command that dies with this process, in a session of its own: Ctrl-C on the terminal asks this process alone,
 * which then ends what it has started in order. Errors of the start itself come as the child's 'error' event.
 */
export function startBound(argv: readonly string[], options: SpawnOptions): ChildProcess {
  const [program, ...args] = diesWithParent(argv) as [string, ...string[]];
  return spawn(program, args, {
    detached: true,
    ...options,
    env: { ...process.env, ...options.env, PATH: toolPath },
  });
}

/** Resolves when the child has ended and its streams are closed. Never rejects. */
export function ended(child: ChildProcess): Promise<number> {
  return new Promise((resolve) => {
    if (child.exitCode !== null || child.signalCode !== null) resolve(child.exitCode ?? -1);
    else {
      child.once('close', (code) => resolve(code ?? -1));
      child.once('error', () => resolve(-1));
    }
  });
}

/** Runs a command to its end. @throws SluiceError LAB when it is missing, fails (unless `check` is false) or takes too long. */
export async function run(argv: readonly string[], options: RunOptions = {}): Promise<CommandResult> {
  const limit = options.maxBytes ?? 16 << 20;
  const child = startBound(argv, {
    stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
    ...(options.env === undefined ? {} : { env: options.env }),
  });
  const collected = [collect(child.stdout, limit), collect(child.stderr, limit)] as const;
  let why = '';
  const stop = (reason: string) => {
    why = reason;
    child.kill('SIGKILL');
  };
  const timer = setTimeout(() => stop('took too long'), options.timeoutMs ?? 120_000);
  const onAbort = () => stop('was cancelled');
  options.signal?.addEventListener('abort', onAbort, { once: true });
  if (options.signal?.aborted === true) onAbort();
  child.once('error', (error) => {
    why = error.message;
  });
  if (options.input !== undefined) {
    // A command that ends before it has read everything is judged by its status.
    child.stdin?.on('error', () => undefined);
    child.stdin?.end(options.input);
  }
  const code = await ended(child);
  clearTimeout(timer);
  options.signal?.removeEventListener('abort', onAbort);
  const result = { code, stdout: collected[0](), stderr: collected[1]() };
  if (why !== '' || (code !== 0 && options.check !== false)) {
    throw new SluiceError('LAB', `\`${argv.join(' ')}\` ${why === '' ? `failed (${code})` : why}`, {
      cause: result.stderr.trim() || result.stdout.trim() || undefined,
      help:
        code === 127 || why.includes('ENOENT')
          ? 'a tool is missing: `bash scripts/setup.sh` installs what the lab needs'
          : 'the line above is what the command itself said',
    });
  }
  return result;
}

function collect(stream: NodeJS.ReadableStream | null, limit: number): () => string {
  const chunks: Buffer[] = [];
  let size = 0;
  stream?.on('data', (chunk: Buffer) => {
    if (size < limit) chunks.push(chunk.subarray(0, limit - size));
    size += chunk.length;
  });
  return () => Buffer.concat(chunks).toString('utf8');
}

/** Path of one of the lab's own programs, in the form (source or built) that this module has. */
export function programPath(name: string): string {
  const here = fileURLToPath(import.meta.url);
  return join(dirname(here), name + extname(here));
}

/** The first CPU that this process may run on. */
export function firstAllowedCpu(): number {
  const line = /^Cpus_allowed_list:\s*(\d+)/m.exec(readFileSync('/proc/self/status', 'utf8'));
  return line === null ? 0 : Number(line[1]);
}
