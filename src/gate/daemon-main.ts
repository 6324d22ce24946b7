/** The process behind `sluice gate up`: started by daemon-start.ts, which sends the options and hears how it went. */
import { asSluiceError, type ErrorCode } from '../base/errors.ts';
import { GateDaemon } from './daemon.ts';
import type { DaemonOptions, UpReport } from './daemon-options.ts';

export type FromDaemon =
  | { kind: 'ready'; report: UpReport; warnings: string[] }
  | { kind: 'failed'; code: ErrorCode; message: string; help: string | undefined; cause: string | undefined };

process.once('message', (options: DaemonOptions) => void main(options));

async function main(options: DaemonOptions): Promise<void> {
  const warnings: string[] = [];
  const warn = (text: string): void => {
    warnings.push(text);
    process.stderr.write(`${new Date().toISOString()} ${text}\n`);
  };
  const stop = new AbortController();
  // Whoever started it has gone without waiting.
  process.once('disconnect', () => stop.abort());
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, () => stop.abort());
  try {
    const daemon = await GateDaemon.start(options, warn);
    const ready: FromDaemon = { kind: 'ready', report: daemon.report, warnings };
    process.removeAllListeners('disconnect');
    await new Promise((resolve) => process.send?.(ready, resolve));
    process.disconnect?.();
    const stopped = new Promise<undefined>((resolve) => {
      stop.signal.addEventListener('abort', () => resolve(undefined), { once: true });
      if (stop.signal.aborted) resolve(undefined);
    });
    const problem = await Promise.race([daemon.ended, stopped]);
    if (problem !== undefined) warn(problem.message);
    await daemon.close();
    process.exitCode = problem?.exit ?? 0;
  } catch (thrown) {
    const { code, message, help, cause } = asSluiceError(thrown);
    process.stderr.write(`${new Date().toISOString()} error[${code}]: ${message}\n`);
    const text = cause instanceof Error ? cause.message : typeof cause === 'string' ? cause : undefined;
    process.send?.({ kind: 'failed', code, message, help, cause: text } satisfies FromDaemon);
    process.disconnect?.();
    process.exitCode = 1;
  }
}
