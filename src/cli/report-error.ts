import type { SluiceError } from '../base/errors.ts';
import type { CommandIo } from '../base/io.ts';

/** Lines of a cause (a verifier log may have thousands) that are shown without --verbose. */
const CAUSE_LINES = 30;
const DEEPEST = 8;

/** What led to an error, as lines of text, outermost first. */
export function causeText(error: SluiceError): string | undefined {
  const parts: string[] = [];
  let cause: unknown = error.cause;
  for (let depth = 0; cause !== undefined && cause !== null && depth < DEEPEST; depth++) {
    const text =
      cause instanceof Error ? cause.message : typeof cause === 'string' ? cause : JSON.stringify(cause);
    // A wrapper often repeats what it wraps.
    if (text !== '' && text !== error.message && parts.at(-1) !== text) parts.push(text);
    cause = cause instanceof Error ? cause.cause : undefined;
  }
  return parts.length === 0 ? undefined : parts.join('\n');
}

export interface ErrorDocument {
  code: string;
  message: string;
  cause?: string;
  help?: string;
}

export function errorDocument(error: SluiceError): ErrorDocument {
  const cause = causeText(error);
  return {
    code: error.code,
    message: error.message,
    ...(cause === undefined ? {} : { cause }),
    ...(error.help === undefined ? {} : { help: error.help }),
  };
}

/** The error for people: on stderr, the cause indented below it, then the next step. */
export function sayError(io: CommandIo, error: SluiceError, verbose: boolean): void {
  io.warn(`${io.paint('red', `error[${error.code}]:`)} ${error.message}`);
  let cause = causeText(error)?.split('\n') ?? [];
  if (verbose && error.code === 'INTERNAL' && error.cause instanceof Error)
    cause = (error.cause.stack ?? '').split('\n');
  const hidden = verbose ? 0 : Math.max(0, cause.length - CAUSE_LINES);
  if (hidden > 0) io.warn(`  … ${hidden} lines before (--verbose shows them)`);
  for (const line of cause.slice(hidden)) io.warn(`  ${line}`);
  if (error.help !== undefined) io.warn(`${io.paint('cyan', 'help:')} ${error.help}`);
}
