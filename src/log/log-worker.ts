import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { asSluiceError } from '../base/errors.ts';
import { LogFiles } from './log-files.ts';
import type { FromLogThread, LogLink, ToLogThread } from './log-link.ts';
import type { LogThreadOptions } from './log-thread.ts';

/** The body of the log thread: it alone touches the files. */

const control = parentPort as MessagePort;
const tell = (message: FromLogThread) => control.postMessage(message);

function serve(files: LogFiles): void {
  const links: LogLink[] = [];
  let failing: string | undefined;

  const watchDisk = () => {
    const problem = files.problem?.message;
    if ((problem === undefined) === (failing === undefined)) return;
    failing = problem;
    tell({ kind: 'disk', problem, totals: files.totals() });
  };
  const timer = setInterval(() => {
    files.tick();
    watchDisk();
  }, 1000);

  const take = (link: LogLink, message: ToLogThread) => {
    if (message.kind !== 'lines') return;
    files.append(message.log, message.bytes, message.count);
    Atomics.add(new Int32Array(link.taken), 0, message.bytes.length);
    watchDisk();
  };
  // What was sent before whoever asks for a flush heard of it is already in the queues, whichever port it came by.
  const drain = () => {
    for (const link of links) {
      for (
        let next = receiveMessageOnPort(link.port);
        next !== undefined;
        next = receiveMessageOnPort(link.port)
      ) {
        take(link, next.message as ToLogThread);
      }
    }
  };

  control.on('message', (message: ToLogThread) => {
    switch (message.kind) {
      case 'link': {
        const { link } = message;
        links.push(link);
        link.port.on('message', (lines: ToLogThread) => take(link, lines));
        link.port.on('close', () => {
          const at = links.indexOf(link);
          if (at >= 0) links.splice(at, 1);
        });
        break;
      }
      case 'flush':
        drain();
        files.flush();
        watchDisk();
        tell({ kind: 'done', id: message.id, totals: files.totals() });
        break;
      case 'close':
        drain();
        clearInterval(timer);
        tell({ kind: 'done', id: message.id, totals: files.close() });
        for (const link of links.splice(0)) link.port.close();
        control.close();
        break;
      default:
        break;
    }
  });
}

try {
  const files = new LogFiles(workerData as LogThreadOptions);
  serve(files);
  tell({ kind: 'ready', torn: files.torn });
} catch (thrown) {
  const { code, message, cause, help } = asSluiceError(thrown);
  tell({
    kind: 'unusable',
    code,
    message,
    cause: cause instanceof Error ? cause.message : '',
    help,
  });
  control.close();
}
