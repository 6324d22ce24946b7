import { parentPort, workerData } from 'node:worker_threads';
import { CaptureWorker } from './capture-worker.ts';
import type { ToWorker, WorkerSetup } from './setup.ts';
import { warmUp } from './warm-up.ts';
import { fail, post } from './worker-post.ts';

async function follow(worker: CaptureWorker, message: ToWorker): Promise<void> {
  const step = message.kind;
  try {
    if (step === 'filter') {
      worker.filterBy(message.program);
      post({ kind: 'filtered' });
      return;
    }
    if (step === 'orders') {
      post({ kind: 'orders', id: message.id, answers: worker.carryOut(message.orders) });
      return;
    }
    if (step === 'policies') {
      worker.setPolicies(message.policies);
      return;
    }
    if (step === 'go') {
      worker.go();
      post({ kind: 'going' });
      return;
    }
    let delays: Float64Array = new Float64Array(0);
    if (step === 'settle') await worker.settle();
    else if (step === 'deafen') worker.deafen();
    else delays = await worker.stop();
    post({ kind: 'reached', step, delays });
    if (step === 'stop') parentPort?.close();
  } catch (error) {
    fail(error);
  }
}

try {
  warmUp();
  const worker = new CaptureWorker(workerData as WorkerSetup);
  parentPort?.on('message', (message: ToWorker) => {
    void follow(worker, message);
  });
  post({ kind: 'ready' });
} catch (error) {
  fail(error);
}
