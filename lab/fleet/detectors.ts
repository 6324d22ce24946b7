import { spawn } from 'node:child_process';
import { createWriteStream, existsSync, readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { packageRoot } from '../../src/kernel/index.ts';
import { diesWithParent, ended } from '../process.ts';

const PARTITIONS = 4;

/** A detector of the fleet, as `sluice detect --from` starts it, in the network namespace of the calling thread. */
export class Detector {
  readonly #directory: string;
  readonly #child;

  private constructor(directory: string, url: string, key: string) {
    const program = [process.execPath, join(packageRoot(), 'bin', 'sluice.js')];
    const options = ['--from', url, '--key', key, '--log-dir', directory, '--partitions', `${PARTITIONS}`];
    const [command = '', ...args] = diesWithParent([...program, 'detect', ...options]);
    this.#directory = directory;
    this.#child = spawn(command, args, { stdio: ['ignore', 'ignore', 'pipe'], detached: true });
    this.#child.stderr?.pipe(createWriteStream(join(directory, 'stderr')));
  }

  static async start(directory: string, url: string, key: string): Promise<Detector> {
    await mkdir(directory);
    return new Detector(directory, url, key);
  }

  #lines(): { event: string; partition?: string | number }[] {
    const path = join(this.#directory, 'mitigation.log');
    if (!existsSync(path)) return [];
    const lines = readFileSync(path, 'utf8').split('\n');
    return lines.filter((line) => line.endsWith('}')).map((line) => JSON.parse(line) as { event: string });
  }

  /** Partitions that it holds, by its own log. */
  get held(): ReadonlySet<string> {
    const held = new Set<string>();
    for (const { event, partition } of this.#lines()) {
      if (event === 'held') held.add(String(partition));
      if (event === 'lost') held.delete(String(partition));
    }
    return held;
  }

  /** Lines about rules in its log. */
  get decided(): number {
    return this.#lines().filter(({ event }) => event === 'live' || event === 'renewed').length;
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await ended(this.#child);
  }
}

/** Partitions of the lab's fleet, the second stage among them. */
export const LEASES = PARTITIONS + 1;
