import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { SampleColumns } from './columns.ts';
import { attackDocument } from './report.ts';
import { Responder } from './responder.ts';
import { BATCH, type FromResponder, type ResponderSetup, type ToResponder } from './responder-thread.ts';
import { parseVeto } from './veto.ts';

/** The body of the thread that finds attacks and makes rules. */

const control = parentPort as MessagePort;
const { minPps, vetoes, seed } = workerData as ResponderSetup;
const tell = (message: FromResponder, transfer: ArrayBuffer[] = []): void =>
  control.postMessage(message, transfer);

const responder = new Responder(
  (record, change) => {
    const { id, kind, target, rules, judgement } = record;
    const document = attackDocument(record);
    tell({ kind: 'told', told: { change, id, kind, target, attack: judgement.attack, rules, document } });
  },
  { minPps, vetoes: vetoes.map(parseVeto), seed },
);

control.on('message', ({ buffer, count, clock }: ToResponder) => {
  const columns = new SampleColumns(BATCH, buffer);
  columns.count = count;
  responder.add(columns);
  // What has not begun has no clock yet.
  if (!Number.isNaN(responder.detector.now)) responder.detector.advance(clock);
  tell({ kind: 'done', buffer }, [buffer]);
});
