import type { RunConfig } from '../base/config.ts';
import { SluiceError } from '../base/errors.ts';
import type { CommandIo } from '../base/io.ts';

/** The main job in a test network of its own. Resolves to an error when the printed result has it in it. */
export async function runInLab(_config: RunConfig, _io: CommandIo): Promise<SluiceError | undefined> {
  throw new SluiceError('INTERNAL', 'the lab is not there yet');
}
