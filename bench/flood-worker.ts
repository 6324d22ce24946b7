import { parentPort, workerData } from 'node:worker_threads';
import { BpfProgram, setThreadAffinity } from '../src/kernel/index.ts';
import { cpuSeconds } from './measure.ts';

export interface FloodSetup {
  /** bench_spread, over the gate: each packet has another source port. */
  program: number;
  /** Of the flood, IPv4. */
  frame: Uint8Array;
  cpu: number;
  /** Packets of one source address. */
  repeat: number;
  /** Two words: when it is to end, and how many source addresses it has had. */
  control: SharedArrayBuffer;
}

/** Of the source address in an untagged frame. */
const SOURCE = 26;

const { program: fd, frame, cpu, repeat, control } = workerData as FloodSetup;
setThreadAffinity(cpu);
const program = BpfProgram.adopt(fd);
const words = new Int32Array(control);
const data = Uint8Array.from(frame);
const view = new DataView(data.buffer);
const begin = cpuSeconds();
for (let runs = 0; Atomics.load(words, 0) === 0; ) {
  view.setUint32(SOURCE, view.getUint32(SOURCE) + 1);
  program.testRun({ data, repeat });
  Atomics.store(words, 1, ++runs);
  Atomics.notify(words, 1);
}
const ns = ((cpuSeconds() - begin) * 1e9) / (repeat * Atomics.load(words, 1));
program.close();
parentPort?.postMessage(ns);
