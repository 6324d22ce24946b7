import type { Command } from 'commander';
import type { OutputConfig } from '../base/config.ts';
import type { SluiceError } from '../base/errors.ts';
import type { CommandIo } from '../base/io.ts';

/**
 * A command's work. Throwing fails it. Resolving to an error fails it too, but says that the result was printed and has the
 * error in it (`--json` stays one document).
 */
export type CommandBody = (io: CommandIo) => Promise<SluiceError | undefined>;

/** What commands are built with. */
export interface CommandHost {
  /** Runs the body of a command with signals wired to `io.stop`. */
  run(config: OutputConfig, body: CommandBody): Promise<void>;
}

export type Register = (program: Command, host: CommandHost) => void;
