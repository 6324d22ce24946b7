import { SluiceError } from '../base/errors.ts';
import type { CbpfProgram } from './cbpf/instruction.ts';
import { validateCbpf } from './cbpf/validate.ts';
import type { CompileOptions, EbpfProgram } from './options.ts';

/**
 * Compiles a classic BPF program for Ethernet into an XDP program. FILTER_INVALID when the program is not valid,
 * FILTER_UNSUPPORTED when it asks for what XDP does not know.
 */
export function compile(program: CbpfProgram, options: CompileOptions = {}): EbpfProgram {
  validateCbpf(program);
  throw new SluiceError('FILTER_UNSUPPORTED', `not built yet: ${JSON.stringify(options)}`);
}
