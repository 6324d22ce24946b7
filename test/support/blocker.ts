/**
 * Loaded into a process of `sluice` (NODE_OPTIONS=--import): blocks a thread for as long as there is a file with its name,
 * `main` or `worker-N`, in the directory that SLUICE_TEST_BLOCK names. While it stands still there is a file `NAME.still` too.
 */
import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { isMainThread, workerData } from 'node:worker_threads';

const directory = process.env['SLUICE_TEST_BLOCK'];
const number = (workerData as { number?: number } | null)?.number;
const name = isMainThread ? 'main' : number === undefined ? undefined : `worker-${number}`;

if (directory !== undefined && name !== undefined) {
  const file = join(directory, name);
  const never = new Int32Array(new SharedArrayBuffer(4));
  setInterval(() => {
    if (!existsSync(file)) return;
    writeFileSync(`${file}.still`, '');
    while (existsSync(file)) Atomics.wait(never, 0, 0, 10);
    rmSync(`${file}.still`, { force: true });
  }, 20).unref();
}
