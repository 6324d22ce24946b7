import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { type Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { main } from '../../src/cli/main.ts';

export interface Outcome {
  code: number | null;
  signal: string | null;
  stdout: string;
  stderr: string;
}

class Collected extends Writable {
  text = '';
  isTTY = false;
  columns = 80;
  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.text += chunk.toString();
    done();
  }
}

/** Runs the command line in this process. */
export async function sluice(...args: string[]): Promise<Outcome> {
  return await sluiceOn({}, ...args);
}

/** The same, with stderr as a terminal or another environment. */
export async function sluiceOn(
  { terminal = false, env = {} }: { terminal?: boolean; env?: NodeJS.ProcessEnv },
  ...args: string[]
): Promise<Outcome> {
  const stdout = new Collected();
  const stderr = new Collected();
  stderr.isTTY = terminal;
  const code = await main(args, env, { stdout, stderr });
  return { code, signal: null, stdout: stdout.text, stderr: stderr.text };
}

export type Child = ChildProcessByStdio<Writable, Readable, Readable>;

/** Starts the command line as a process of its own; `outcome` resolves when it has ended. */
export function start(...args: string[]): { child: Child; outcome: Promise<Outcome> } {
  const child = spawn(process.execPath, [fileURLToPath(new URL('./sluice.ts', import.meta.url)), ...args], {
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  child.stdin.on('error', () => {});
  let stdout = '';
  let stderr = '';
  child.stdout.on('data', (data: Buffer) => (stdout += data.toString()));
  child.stderr.on('data', (data: Buffer) => (stderr += data.toString()));
  const outcome = new Promise<Outcome>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code, signal) => resolve({ code, signal, stdout, stderr }));
  });
  return { child, outcome };
}
