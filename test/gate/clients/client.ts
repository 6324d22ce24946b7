import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { sh } from '../../support/kernel.ts';

/** A program of this directory, compiled and running: a line is a question, the next line its answer. */
export class Client {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #answers: AsyncIterator<string>;
  #said = '';

  private constructor(program: string, args: readonly string[]) {
    this.#child = spawn(program, args);
    this.#child.stderr.on('data', (text: Buffer) => (this.#said += String(text)));
    this.#answers = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  static start(name: 'suricata' | 'zeek' | 'xdpcap', ...args: string[]): Client {
    return new Client(compiled(name), args);
  }

  async ask(line: string): Promise<string> {
    this.#child.stdin.write(`${line}\n`);
    const { value, done } = await this.#answers.next();
    if (done === true) throw new Error(`the client has ended: ${this.#said}`);
    return value;
  }

  /** Numbers of an answer. */
  async counts(line: string): Promise<number[]> {
    return (await this.ask(line)).split(' ').map(Number);
  }

  [Symbol.dispose](): void {
    this.#child.stdin.end();
    this.#child.kill();
  }
}

let directory: string | undefined;
const programs = new Map<string, string>();

function compiled(name: string): string {
  const before = programs.get(name);
  if (before !== undefined) return before;
  if (directory === undefined) {
    const made = mkdtempSync(join(tmpdir(), 'sluice-clients-'));
    process.once('exit', () => rmSync(made, { recursive: true, force: true }));
    directory = made;
  }
  const program = join(directory, name);
  sh(
    'cc',
    '-O1',
    '-Wall',
    '-Wextra',
    '-Werror',
    '-o',
    program,
    join(import.meta.dirname, `${name}.c`),
    '-lbpf',
  );
  programs.set(name, program);
  return program;
}
