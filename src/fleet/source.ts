/** A line of a source, and where in it: `rules.jsonl:3`, a key of a bucket. */
export interface SourceLine {
  readonly where: string;
  readonly text: string;
}

/** Whom a source tells. */
export interface SourceSink {
  /** Lines that are new to it. Resolves when they have been looked at. */
  lines: (lines: readonly SourceLine[]) => Promise<void>;
  /** The source is there, and what it says is known. */
  heard: () => void;
  /** It cannot be asked; it is asked again. */
  failed: (reason: string) => void;
}

/** Where signed rules come from. */
export interface RuleSource {
  /** Without what is secret. */
  readonly name: string;
  start: (sink: SourceSink) => void;
  /** What became of the rules here, JSON; only where somebody can be told. */
  report?: (text: string) => void;
  close: () => Promise<void>;
}

/** Seconds: doubled with each failure in a row up to half a minute, half of it by chance, so that a fleet does not come back at once. */
export function pauseAfter(failures: number, random: () => number = Math.random): number {
  const whole = Math.min(30, 0.5 * 2 ** Math.min(failures, 10));
  return whole * (0.5 + 0.5 * random());
}

/** A pause that can be ended. */
export class Pause {
  #end: () => void = () => {};

  async wait(seconds: number): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, seconds * 1000);
      this.#end = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  end(): void {
    this.#end();
  }
}
