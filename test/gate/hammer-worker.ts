import { parentPort, workerData } from 'node:worker_threads';
import { BpfProgram, setThreadAffinity } from '../../src/kernel/index.ts';
import { XDP_DROP } from './support.ts';

/** Sends frames of one direction through the gate as fast as it goes, and counts per flow what came of them. */
export interface HammerSetup {
  program: number;
  cpu: number;
  /** Move to the other CPU after so many frames; 0: stay. */
  hopEvery: number;
  cpus: number;
  frames: Uint8Array[];
  /** Per flow: frames sent, frames dropped. The last word, once set, ends it. */
  counts: SharedArrayBuffer;
}

const setup = workerData as HammerSetup;
const counts = new Int32Array(setup.counts);
const end = counts.length - 1;
const program = BpfProgram.adopt(setup.program);
let cpu = setup.cpu;
setThreadAffinity(cpu);
let sent = 0;
while (Atomics.load(counts, end) === 0) {
  for (let flow = 0; flow < setup.frames.length; flow++) {
    const { retval } = program.testRun({ data: setup.frames[flow] });
    counts[flow * 2]++;
    if (retval === XDP_DROP) counts[flow * 2 + 1]++;
    if (setup.hopEvery > 0 && ++sent % setup.hopEvery === 0) {
      cpu = (cpu + 1) % setup.cpus;
      setThreadAffinity(cpu);
    }
  }
}
program.close();
parentPort?.postMessage('done');
