/** An error as the gate answers it; `code` is what to go by (docs/errors.md), `help` the next step for people. */
export class GateError extends Error {
  readonly code: string;
  readonly help: string | undefined;
  /** Of LIMIT: seconds after which it may be asked again. */
  readonly retryAfter: number | undefined;

  constructor(
    code: string,
    message: string,
    more: { help?: string; retryAfter?: number; cause?: unknown } = {},
  ) {
    super(message, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = 'GateError';
    this.code = code;
    this.help = more.help;
    this.retryAfter = more.retryAfter;
  }
}

/** The member `error` of an answer. */
export interface WireError {
  code: string;
  message: string;
  help?: string;
  retryAfter?: number;
}

export function gateError({ code, message, help, retryAfter }: WireError): GateError {
  return new GateError(code, message, {
    ...(help === undefined ? {} : { help }),
    ...(retryAfter === undefined ? {} : { retryAfter }),
  });
}
