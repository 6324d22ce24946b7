import { Session } from 'node:inspector';

interface Range {
  startOffset: number;
  count: number;
}

interface Taken {
  result: { url: string; functions: { ranges: Range[] }[] }[];
}

/** What ran since the last look. */
export interface Look {
  /** Blocks that had never run before. */
  fresh: Set<string>;
  /** How often the block ran that ran most: a measure of work that no clock disturbs. */
  most: number;
  /** Which block that was. */
  where: string;
}

/** What is fuzzed; and what is fuzzed to try the fuzzer. */
const OURS = /\/(src\/[^?]*|test\/long\/fuzz\/planted\.ts)$/;

/** Block coverage of this project's own sources, from V8 itself. */
export class Coverage {
  readonly #ours: RegExp;
  readonly #session = new Session();
  readonly #seen = new Set<string>();

  /** `ours`: the files that are looked at; their names are its first group. */
  constructor(ours = OURS) {
    this.#ours = ours;
    this.#session.connect();
    this.#post('Profiler.enable');
    this.#post('Profiler.startPreciseCoverage', { callCount: true, detailed: true });
  }

  look(): Look {
    const look: Look = { fresh: new Set(), most: 0, where: '' };
    for (const [block, count] of this.#take()) {
      if (count > look.most) {
        look.most = count;
        look.where = block;
      }
      if (this.#seen.has(block)) continue;
      this.#seen.add(block);
      look.fresh.add(block);
    }
    return look;
  }

  /** Those of `wanted` that have run since the last look. */
  which(wanted: ReadonlySet<string>): string[] {
    const ran: string[] = [];
    for (const [block] of this.#take()) if (wanted.has(block)) ran.push(block);
    return ran;
  }

  /** Blocks that have run, by file. */
  blocks(): Record<string, number> {
    const blocks: Record<string, number> = {};
    for (const block of this.#seen) {
      const file = block.slice(0, block.indexOf(':'));
      blocks[file] = (blocks[file] ?? 0) + 1;
    }
    return blocks;
  }

  close(): void {
    this.#session.disconnect();
  }

  /** Names of blocks, and how often each ran. They end where what is inside of them begins, which changes: only begins count. */
  *#take(): Generator<[string, number]> {
    const { result } = this.#post('Profiler.takePreciseCoverage') as Taken;
    for (const { url, functions } of result) {
      const file = this.#ours.exec(url)?.[1];
      if (file === undefined) continue;
      for (const { ranges } of functions)
        for (const { startOffset, count } of ranges) if (count > 0) yield [`${file}:${startOffset}`, count];
    }
  }

  /** Commands of the profiler are answered before `post` returns. */
  #post(method: string, params: object = {}): unknown {
    let answer: unknown;
    this.#session.post(method, params, (error, result) => {
      if (error !== null) throw new Error(`${method}: ${JSON.stringify(error)}`);
      answer = result;
    });
    return answer;
  }
}
