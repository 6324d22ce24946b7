import { statSync } from 'node:fs';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { SluiceError } from '../base/errors.ts';
import type { CommandIo } from '../base/io.ts';
import { FileSource } from '../capture/file.ts';
import { FollowSource } from '../capture/follow.ts';
import { MergedSource } from '../capture/merge.ts';
import { type MirrorCounts, MirroredSource } from '../capture/mirrored.ts';
import { PacedSource } from '../capture/paced.ts';
import type { StoredSource } from '../capture/source.ts';
import { isStreamUrl } from '../capture/tcp-stream.ts';
import { parseEncap } from '../packet/encap/index.ts';

const STDIN = '-';
const MAX_SPEED = 1e6;

/** How commands that read captures are told what to make of them. */
export interface ReadingOptions {
  encap?: string;
  follow?: boolean;
  /** 1: as recorded; absent: as fast as can be. */
  speed?: number;
}

/** What is read, as one source. */
export interface Reading {
  source: StoredSource;
  /** Bytes of all files together, for progress; undefined when one of them has no end that is known. */
  totalBytes: number | undefined;
  /** Files that were read. */
  files(): number;
  /** What was wrong beside the source's own problem. */
  problems(): readonly SluiceError[];
  /** With `encap`: what the recorded packets came to. */
  mirror(): MirrorCounts | undefined;
}

/** Waits for a source, for a wish to stop, or for a while: whatever comes first, with nothing left behind. */
export class SourceWait {
  readonly #source: StoredSource;
  #waiting = false;
  #wake: (() => void) | undefined;

  constructor(source: StoredSource, stop: AbortSignal) {
    this.#source = source;
    stop.addEventListener('abort', () => this.#wake?.(), { once: true });
  }

  /** The source has said that nothing more has arrived yet. */
  async until(milliseconds: number): Promise<void> {
    // One wait at a time: it goes on until the source has something.
    if (!this.#waiting) void this.#wait();
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      timer = setTimeout(resolve, milliseconds);
    });
    clearTimeout(timer);
    this.#wake = undefined;
  }

  async #wait(): Promise<void> {
    this.#waiting = true;
    await this.#source.wait();
    this.#waiting = false;
    this.#wake?.();
  }
}

function speedOf(text: string): number | undefined {
  if (text === 'full') return undefined;
  if (text === 'recorded') return 1;
  const speed = /^\d{1,7}(\.\d{1,6})?$/.test(text) ? Number(text) : 0;
  if (speed > 0 && speed <= MAX_SPEED) return speed;
  throw new InvalidArgumentError(`must be recorded, full, or a factor such as 2 or 0.5`);
}

/** Gives a command the options of `openReading`. */
export function addReadingOptions(command: Command): void {
  const group = 'Source:';
  command.addOption(
    new Option(
      '--encap <ENCAP[,OPTION…]>',
      'The files are recordings of a mirror: take the frames out of its datagrams. vxlan | geneve | geneve+vxlan | raw | skip=N; options: port=N, dlt=en10mb|raw|ppp, skip=N',
    ).helpGroup(group),
  );
  command.addOption(
    new Option(
      '--follow',
      'FILE is a directory that is being filled: read what comes, until stopped.',
    ).helpGroup(group),
  );
  command.addOption(
    new Option(
      '--speed <SPEED>',
      'recorded, full, or a factor: 2 is twice as fast as recorded. (default: full)',
    )
      .argParser(speedOf)
      .helpGroup(group),
  );
}

/** Bytes of all files together; undefined when one is a pipe. */
function totalOf(files: readonly string[]): number | undefined {
  let total = 0;
  for (const file of files) {
    const stream = file === STDIN || isStreamUrl(file);
    const stat = stream ? undefined : statSync(file, { throwIfNoEntry: false });
    if (stat?.isFile() !== true) return undefined;
    total += stat.size;
  }
  return total;
}

/** Opens what is to be read, so that a file that cannot be read is found before anything is done. Errors: those of the sources; USAGE. */
export async function openReading(
  files: readonly string[],
  { encap, follow = false, speed }: ReadingOptions,
  checksums: boolean,
  io: CommandIo,
): Promise<Reading> {
  const mirror = encap === undefined ? undefined : parseEncap(encap);
  const opened = follow ? followed(files, io) : await openAll(files, io);
  const mirrored = mirror === undefined ? undefined : new MirroredSource(opened, mirror, checksums);
  const whole = mirrored ?? opened;
  return {
    source: speed === undefined ? whole : new PacedSource(whole, speed),
    totalBytes: follow ? undefined : totalOf(files),
    files: () => (opened instanceof FollowSource ? opened.files : files.length),
    problems: () => (opened instanceof MergedSource ? opened.problems.slice(1) : []),
    mirror: () => mirrored?.counts(),
  };
}

async function openAll(files: readonly string[], io: CommandIo): Promise<FileSource | MergedSource> {
  const onListening = (url: string) => io.say(`listening on ${url}`);
  return files.length === 1
    ? FileSource.open(files[0], { onListening })
    : await MergedSource.open(files, io.stop, { onListening });
}

function followed(files: readonly string[], io: CommandIo): FollowSource {
  if (files.length !== 1)
    throw new SluiceError('USAGE', `--follow takes one directory, not ${files.length}`, {
      help: 'run one sluice read for each of them, with log directories of their own',
    });
  return new FollowSource(files[0], {
    onFile: (path, problem) => {
      if (problem === undefined) io.detail(`read: ${path}`);
      else io.warn(`notice: ${problem.message}`);
    },
  });
}
