import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { warmUp } from '../mitigation/index.ts';
import type { FromDetect, ToDetect } from './detect-thread.ts';
import { PartitionDetector, type PartitionOptions } from './partition-detector.ts';

/** The body of the thread that looks at the samples of all partitions that a process holds. */

const TICK_MS = 100;
const HAND_ON_MS = 10_000;

const control = parentPort as MessagePort;
const options = workerData as PartitionOptions;
warmUp();
const tell = (message: FromDetect): void => control.postMessage(message);
const live = new Map<string, PartitionDetector>();
/** Let go of, and kept in case that nobody else takes them. */
const resting = new Map<string, PartitionDetector>();

function begin(name: string): PartitionDetector {
  return new PartitionDetector(name, options, {
    told: (told) => tell({ kind: 'told', name, told }),
    over: (rule) => tell({ kind: 'over', name, rule }),
    summary: (bytes) => tell({ kind: 'summary', bytes }),
  });
}

control.on('message', (message: ToDetect) => {
  switch (message.kind) {
    case 'begin': {
      const { name, resumed, carried, baseline } = message;
      const rested = resting.get(name);
      resting.delete(name);
      const detector = resumed && rested !== undefined ? rested : begin(name);
      if (detector !== rested) {
        rested?.close();
        detector.carry(carried);
        if (baseline !== undefined) detector.inherit(baseline, Date.now());
      }
      live.set(name, detector);
      return;
    }
    case 'end': {
      const detector = live.get(message.name);
      if (detector === undefined) return;
      live.delete(message.name);
      resting.set(message.name, detector);
      return;
    }
    case 'uncarry':
      live.get(message.name)?.uncarry(message.rule);
      return;
    case 'batch':
      live.get(message.name)?.batch(message.bytes, message.now);
      tell({ kind: 'done' });
      return;
    case 'status':
      tell({
        kind: 'status',
        partitions: Object.fromEntries([...live].map(([name, detector]) => [name, detector.status()])),
      });
  }
});

setInterval(() => {
  const now = Date.now();
  for (const detector of live.values()) detector.tick(now);
}, TICK_MS);

setInterval(() => {
  const now = Date.now();
  for (const [name, detector] of live) {
    const baseline = detector.learned(now);
    if (baseline !== undefined) tell({ kind: 'learned', name, baseline });
  }
}, HAND_ON_MS);
