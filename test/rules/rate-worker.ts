import { parentPort, workerData } from 'node:worker_threads';
import { BpfProgram, setThreadAffinity } from '../../src/kernel/index.ts';

/** Sends one frame through the gate as fast as it goes, from a CPU of its own. */
export interface RateSetup {
  program: number;
  cpu: number;
  frame: Uint8Array;
  times: number;
}

const { program: fd, cpu, frame, times } = workerData as RateSetup;
const program = BpfProgram.adopt(fd);
setThreadAffinity(cpu);
program.testRun({ data: frame, repeat: times });
program.close();
parentPort?.postMessage('done');
