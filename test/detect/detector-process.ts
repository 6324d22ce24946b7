import { existsSync, mkdtempSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { eventually } from '../gate/daemon-support.ts';
import { type Child, type Outcome, start } from '../support/command.ts';

export const PARTITIONS = 4;
/** Seconds for what takes a few when the machine is quiet. */
export const PATIENCE = 240;

export interface Line {
  event: string;
  [field: string]: unknown;
}

/** `sluice detect --from` as a process, with its mitigation.log. */
export class Detector {
  readonly logDir: string;
  readonly #child: Child;
  readonly outcome: Promise<Outcome>;

  /** @param directory where its logs are made */
  constructor(directory: string, url: string, key: string, ...more: string[]) {
    this.logDir = mkdtempSync(join(directory, 'detector-'));
    const where = ['--from', url, '--key', key, '--log-dir', this.logDir];
    const { child, outcome } = start('detect', ...where, '--partitions', String(PARTITIONS), ...more);
    this.#child = child;
    this.outcome = outcome;
  }

  lines(): Line[] {
    return this.#read('mitigation.log') as unknown as Line[];
  }

  /** Of notice.log. */
  notes(): string[] {
    return this.#read('notice.log').map(({ note }) => String(note));
  }

  #read(name: string): Record<string, unknown>[] {
    const path = join(this.logDir, name);
    if (!existsSync(path)) return [];
    // The last line may be on its way, or torn by a kill.
    const texts = readFileSync(path, 'utf8').split('\n').slice(0, -1);
    return texts.map((text) => JSON.parse(text) as Record<string, unknown>);
  }

  /** Partitions that it holds, by its own log. */
  get held(): string[] {
    const held = new Set<string>();
    for (const { event, partition } of this.lines()) {
      if (event === 'held') held.add(String(partition));
      if (event === 'lost') held.delete(String(partition));
    }
    return [...held];
  }

  async until(good: (line: Line) => boolean, what: string): Promise<Line> {
    return await eventually(async () => this.lines().find(good), `no line: ${what}`, PATIENCE);
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.kill('SIGKILL');
    await this.outcome;
  }
}

/** Until each of them holds a fair part, and all is held. */
export const shared = (detectors: readonly Detector[], seconds = PATIENCE): Promise<true> =>
  eventually(
    async () => {
      const held = detectors.map((detector) => detector.held);
      const all = held.flat().sort();
      const fair = held.every(({ length }) => length >= Math.floor((PARTITIONS + 1) / detectors.length));
      return fair && all.join() === '0,1,2,3,second' ? true : undefined;
    },
    'the partitions are not shared fairly',
    seconds,
  );
