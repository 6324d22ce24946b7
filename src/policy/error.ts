import { SluiceError } from '../base/errors.ts';
import { lineColumn, pointed, type Span } from '../filter/problem.ts';

/** A policy whose text is not valid: the message says where, the cause shows the place. */
export class PolicyError extends SluiceError {
  readonly span: Span;

  constructor(text: string, span: Span, message: string, help?: string) {
    const { line, column } = lineColumn(text, span.start);
    const where = text.includes('\n') ? `line ${line}, column ${column}` : `column ${column}`;
    super('POLICY_INVALID', `${message} (${where})`, {
      cause: pointed(text, span),
      ...(help === undefined ? {} : { help }),
    });
    this.span = span;
  }
}
