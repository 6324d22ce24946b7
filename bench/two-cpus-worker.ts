import { parentPort, workerData } from 'node:worker_threads';
import { BpfProgram, setThreadAffinity } from '../src/kernel/index.ts';
import { cpuSeconds } from './measure.ts';

export interface HitterSetup {
  program: number;
  frame: Uint8Array;
  cpu: number;
  repeat: number;
  /** How many are ready; they begin when all are. */
  ready: SharedArrayBuffer;
  hitters: number;
}

const { program: fd, frame, cpu, repeat, ready, hitters } = workerData as HitterSetup;
setThreadAffinity(cpu);
const program = BpfProgram.adopt(fd);
const count = new Int32Array(ready);
Atomics.add(count, 0, 1);
while (Atomics.load(count, 0) < hitters);
const begin = cpuSeconds();
program.testRun({ data: frame, repeat });
const ns = ((cpuSeconds() - begin) * 1e9) / repeat;
program.close();
parentPort?.postMessage(ns);
