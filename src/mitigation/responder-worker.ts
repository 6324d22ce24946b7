import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { readBaseline, restore, snapshot } from './baseline.ts';
import { SampleColumns } from './columns.ts';
import { attackDocument } from './report.ts';
import { Responder } from './responder.ts';
import { BATCH, type FromResponder, type ResponderSetup, type ToResponder } from './responder-thread.ts';
import { parseVeto } from './veto.ts';
import { warmUp } from './warm-up.ts';

/** The body of the thread that finds attacks and makes rules. */

const control = parentPort as MessagePort;
const { minPps, vetoes, seed, baseline } = workerData as ResponderSetup;
const tell = (message: FromResponder, transfer: ArrayBuffer[] = []): void =>
  control.postMessage(message, transfer);

warmUp();

const responder = new Responder(
  (record, change) => {
    const { id, kind, target, rules, judgement } = record;
    const document = attackDocument(record);
    tell({ kind: 'told', told: { change, id, kind, target, attack: judgement.attack, rules, document } });
  },
  { minPps, vetoes: vetoes.map(parseVeto), seed },
);

const known = baseline === undefined ? undefined : readBaseline(baseline, Date.now() / 1000);
if (known !== undefined) {
  restore(responder.detector, known);
  const age = Math.max(0, Math.round(Date.now() / 1000 - known.written));
  tell({ kind: 'inherited', inherited: { targets: known.targets.length, age } });
}

control.on('message', (message: ToResponder) => {
  if (message.kind === 'snapshot') {
    const { detector } = responder;
    if (detector.isLearned)
      tell({ kind: 'learned', baseline: JSON.stringify(snapshot(detector, Date.now() / 1000)) });
    return;
  }
  const { buffer, count, clock } = message;
  const columns = new SampleColumns(BATCH, buffer);
  columns.count = count;
  responder.add(columns);
  // What has not begun has no clock yet.
  if (!Number.isNaN(responder.detector.now)) responder.detector.advance(clock);
  tell({ kind: 'done', buffer }, [buffer]);
});
