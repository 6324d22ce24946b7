import { Worker } from 'node:worker_threads';
import { type ErrorCode, SluiceError } from '../base/errors.ts';
import { BpfProgram } from '../kernel/index.ts';
import type { MadeProgram, MadePrograms, PlacedRule } from './make-programs.ts';
import type { RuleProgramOptions } from './program/compile-rules.ts';
import type { RuleCost } from './program/cost.ts';
import type { ProgramBytes } from './taken/program-set.ts';

/** Programs that somebody else has compiled, which readSet has found good here. */
export interface TakenSet {
  /** SHA-256 of the program before it is specialised, hexadecimal. */
  readonly hash: string;
  readonly bytes: ProgramBytes;
}

export type ToMaker =
  | {
      readonly kind: 'make';
      readonly rules: readonly PlacedRule[];
      readonly options: RuleProgramOptions;
      readonly taken: TakenSet | undefined;
    }
  /** The programs have descriptors of their own here. */
  | { readonly kind: 'taken' };

export type FromMaker =
  | {
      readonly kind: 'made';
      readonly programs: readonly { slot: number | undefined; fd: number }[];
      readonly cost: RuleCost;
      readonly taken: number;
      readonly whyNot: string | null;
    }
  | {
      readonly kind: 'failed';
      readonly code: ErrorCode;
      readonly message: string;
      readonly help: string | undefined;
      readonly cause: string | undefined;
    };

function errorOf({ code, message, help, cause }: FromMaker & { kind: 'failed' }): SluiceError {
  return new SluiceError(code, message, {
    ...(cause === undefined ? {} : { cause }),
    ...(help === undefined ? {} : { help }),
  });
}

/**
 * makePrograms in a thread of its own: thousands of rules take seconds, and the event loop, with it every lease, goes on
 * meanwhile. One set at a time. The thread begins with the first set and does not keep the process alive.
 */
export class ProgramMaker {
  #worker: Worker | undefined;

  /** Throws as makePrograms does. */
  async make(
    rules: readonly PlacedRule[],
    options: RuleProgramOptions,
    taken?: TakenSet,
  ): Promise<MadePrograms> {
    const worker = this.#start();
    const send = (message: ToMaker): void => worker.postMessage(message);
    worker.ref();
    try {
      const answer = await this.#ask(worker, { kind: 'make', rules, options, taken });
      if (answer.kind === 'failed') throw errorOf(answer);
      const programs: MadeProgram[] = [];
      try {
        for (const { slot, fd } of answer.programs) {
          programs.push({ slot, program: BpfProgram.duplicate(fd) });
        }
      } catch (error) {
        for (const { program } of programs) program.close();
        throw error;
      } finally {
        send({ kind: 'taken' });
      }
      return { programs, cost: answer.cost, taken: answer.taken, whyNot: answer.whyNot };
    } finally {
      worker.unref();
    }
  }

  #ask(worker: Worker, message: ToMaker): Promise<FromMaker> {
    return new Promise((resolve, reject) => {
      const ended = (error: Error): void => {
        this.#worker = undefined;
        quiet();
        reject(error);
      };
      const exited = (): void =>
        ended(new SluiceError('INTERNAL', 'the thread that compiles rules has ended'));
      const answered = (answer: FromMaker): void => {
        quiet();
        resolve(answer);
      };
      const quiet = (): void => {
        worker.off('message', answered).off('error', ended).off('exit', exited);
      };
      worker.on('message', answered).on('error', ended).on('exit', exited);
      worker.postMessage(message);
    });
  }

  #start(): Worker {
    if (this.#worker !== undefined) return this.#worker;
    // Compiled, this file and the worker's are .js; run from source, Node strips the types of both.
    const kind = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
    const worker = new Worker(new URL(`./make-programs-worker.${kind}`, import.meta.url), {
      name: 'sluice-rules',
    });
    this.#worker = worker;
    return worker;
  }

  async close(): Promise<void> {
    await this.#worker?.terminate();
  }
}
