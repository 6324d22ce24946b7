import { fork } from 'node:child_process';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '../base/errors.ts';
import type { FromDaemon } from './daemon-main.ts';
import type { DaemonOptions, UpReport } from './daemon-options.ts';

const READY_SECONDS = 60;

/**
 * Starts the daemon of a gate as a process of its own, which goes on after this one, and waits until the gate is attached
 * and the socket is open. What the daemon has to say later is in gate.log of its log directory.
 * @throws SluiceError as GateDaemon.start
 */
export async function startDaemon(
  options: DaemonOptions,
): Promise<{ report: UpReport; warnings: string[]; pid: number }> {
  let log: number;
  try {
    mkdirSync(options.logDir, { recursive: true });
    log = openSync(join(options.logDir, 'gate.log'), 'a', 0o640);
  } catch (cause) {
    throw new SluiceError('FILE', `cannot write logs in ${options.logDir}`, {
      cause,
      help: 'name another --log-dir',
    });
  }
  const body = new URL(
    import.meta.url.endsWith('.ts') ? './daemon-main.ts' : './daemon-main.js',
    import.meta.url,
  );
  const child = fork(body, [], {
    cwd: '/',
    detached: true,
    execArgv: [],
    stdio: ['ignore', log, log, 'ipc'],
  });
  closeSync(log);
  try {
    const said = await new Promise<FromDaemon>((resolve, reject) => {
      const failed = (what: string): void =>
        reject(
          new SluiceError('INTERNAL', `the daemon of the gate ${what}`, {
            help: `${join(options.logDir, 'gate.log')} may say why`,
          }),
        );
      const timer = setTimeout(() => {
        child.kill('SIGTERM');
        failed(`was not ready after ${READY_SECONDS} s`);
      }, READY_SECONDS * 1000);
      child.once('message', (message: FromDaemon) => {
        clearTimeout(timer);
        resolve(message);
      });
      child.once('error', (error) => failed(`could not be started: ${error.message}`));
      child.once('exit', (code) => {
        clearTimeout(timer);
        failed(`ended with exit status ${code}`);
      });
      child.send(options);
    });
    if (said.kind === 'ready')
      return { report: said.report, warnings: said.warnings, pid: child.pid as number };
    const { code, message, help, cause } = said;
    throw new SluiceError(code, message, {
      ...(cause === undefined ? {} : { cause }),
      ...(help === undefined ? {} : { help }),
    });
  } finally {
    if (child.connected) child.disconnect();
    child.removeAllListeners('exit');
    child.unref();
  }
}
