import { parentPort } from 'node:worker_threads';
import { asSluiceError } from '../base/errors.ts';
import type { FromWorker } from './setup.ts';

/** Tells whoever started this worker thread. */
export function post(message: FromWorker, transfer: ArrayBuffer[] = []): void {
  parentPort?.postMessage(message, transfer);
}

/** Tells it that this worker cannot go on. */
export function fail(thrown: unknown): void {
  const error = asSluiceError(thrown);
  post({ kind: 'failed', code: error.code, message: error.message, help: error.help });
}
