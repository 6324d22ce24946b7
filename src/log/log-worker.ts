import { type MessagePort, parentPort, workerData } from 'node:worker_threads';
import { asSluiceError } from '../base/errors.ts';
import { systemText } from '../base/file-error.ts';
import { LogFiles } from './log-files.ts';
import {
  drainPort,
  type FromLogThread,
  LinkTarget,
  type LogLink,
  noteTaken,
  type ToLogThread,
} from './log-link.ts';
import type { LogThreadOptions } from './log-thread.ts';
import { type LogSink, openSink } from './sinks/index.ts';
import type { LogName, LogTotals } from './target.ts';

/** The body of the log thread: it alone touches the files, and the sinks beside them. */

interface OpenSink {
  logs: readonly LogName[];
  sink: LogSink;
}

/** Who looks on. */
interface Watcher {
  logs: readonly LogName[];
  target: LinkTarget;
}
/** Bytes under way to one who looks on. */
const MOST_WATCHED = 2 ** 20;

const control = parentPort as MessagePort;
const tell = (message: FromLogThread) => control.postMessage(message);

function serve(files: LogFiles, sinks: readonly OpenSink[]): void {
  const links: LogLink[] = [];
  const watchers = new Set<Watcher>();
  let failing: string | undefined;

  const watchDisk = () => {
    const problem = files.problem === undefined ? undefined : systemText(files.problem);
    if ((problem === undefined) === (failing === undefined)) return;
    failing = problem;
    tell({ kind: 'disk', problem, totals: files.totals() });
  };
  const timer = setInterval(() => {
    for (const moved of files.tick()) tell({ kind: 'moved', ...moved });
    watchDisk();
  }, 1000);

  const take = (link: LogLink, message: ToLogThread) => {
    if (message.kind !== 'lines') return;
    files.append(message.log, message.bytes, message.count);
    for (const { sink, logs } of sinks)
      if (logs.includes(message.log)) sink.append(message.log, message.bytes, message.count);
    for (const { target, logs } of watchers)
      if (logs.includes(message.log)) target.append(message.log, message.bytes, message.count);
    noteTaken(link, message.bytes.length);
    watchDisk();
  };
  // What was sent before whoever asks for a flush heard of it is already in the queues, whichever port it came by.
  const drain = () => {
    for (const link of links) drainPort(link.port, (message) => take(link, message));
  };

  const end = async (id: number, totals: LogTotals): Promise<void> => {
    await Promise.all(sinks.map(({ sink }) => sink.close()));
    tell({ kind: 'done', id, totals: totalsOf(totals, sinks) });
    for (const link of links.splice(0)) link.port.close();
    for (const { target } of watchers) target.close();
    control.close();
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
      case 'watch': {
        const watcher = { logs: message.logs, target: new LinkTarget(message.link, MOST_WATCHED) };
        watchers.add(watcher);
        message.link.port.on('close', () => watchers.delete(watcher));
        break;
      }
      case 'flush':
        drain();
        files.flush();
        watchDisk();
        tell({ kind: 'done', id: message.id, totals: totalsOf(files.totals(), sinks) });
        break;
      case 'close':
        drain();
        clearInterval(timer);
        void end(message.id, files.close());
        break;
      default:
        break;
    }
  });
}

const totalsOf = (totals: LogTotals, sinks: readonly OpenSink[]): LogTotals =>
  sinks.length === 0 ? totals : { ...totals, sinks: sinks.map(({ sink }) => sink.totals()) };

try {
  const options = workerData as LogThreadOptions;
  const files = new LogFiles(options);
  const told = (name: string, problem: string | undefined): void => tell({ kind: 'sink', name, problem });
  const sinks = await Promise.all(
    (options.sinks ?? []).map(async (spec) => ({ logs: spec.logs, sink: await openSink(spec, told) })),
  );
  serve(files, sinks);
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
