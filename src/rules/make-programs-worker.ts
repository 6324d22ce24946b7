import { type MessagePort, parentPort } from 'node:worker_threads';
import { asSluiceError } from '../base/errors.ts';
import { VerifierError } from '../kernel/index.ts';
import { type MadePrograms, makePrograms } from './make-programs.ts';
import type { FromMaker, TakenSet, ToMaker } from './program-maker.ts';
import { type ProgramSet, readSet } from './taken/program-set.ts';

/** The body of the thread that makes the programs of sets of rules, one set after the other. */

const control = parentPort as MessagePort;
const tell = (message: FromMaker): void => control.postMessage(message);

/** The causes of an error as text: a verifier's log with every line of it. */
function causeText(error: unknown): string | undefined {
  if (!(error instanceof Error)) return typeof error === 'string' ? error : undefined;
  const log = error instanceof VerifierError ? error.log : [];
  const { cause } = error;
  const inner = cause instanceof Error ? [cause.message, causeText(cause)] : [causeText(cause)];
  const lines = [...log, ...inner].filter((line) => line !== undefined);
  return lines.length === 0 ? undefined : lines.join('\n');
}

/** The last set that was taken, read: it is the same for one change after the other. */
let known: { hash: string; set: ProgramSet | undefined } | undefined;

function setOf({ hash, bytes }: TakenSet, frameLength: number): ProgramSet | undefined {
  if (known?.hash !== hash) {
    const set = readSet(bytes, frameLength);
    known = { hash, set: typeof set === 'string' ? undefined : set };
  }
  return known.set;
}

let made: MadePrograms['programs'] = [];

control.on('message', (message: ToMaker) => {
  if (message.kind === 'taken') {
    for (const { program } of made) program.close();
    made = [];
    return;
  }
  try {
    const { rules, options, taken: offered } = message;
    const set = offered === undefined ? undefined : setOf(offered, options.frameLength);
    const { programs, cost, taken, whyNot } = makePrograms(rules, options, set);
    made = programs;
    const sent = programs.map(({ slot, program }) => ({ slot, fd: program.fd }));
    tell({ kind: 'made', programs: sent, cost, taken, whyNot });
  } catch (error) {
    const { code, message, help } = asSluiceError(error);
    tell({ kind: 'failed', code, message, help, cause: causeText(error) });
  }
});
