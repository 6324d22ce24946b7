import type { ChildProcess } from 'node:child_process';
import { createWriteStream, readFileSync } from 'node:fs';
import { connect } from 'node:net';
import { SluiceError } from '../../src/base/errors.ts';
import { ended, startBound } from '../process.ts';
import { until } from './until.ts';

const PORT = 4222;
const LOGIN = { user: 'sluice', password: 'lab' } as const;
const START_SECONDS = 60;
/** Ticks of the kernel's clock in /proc, per second (USER_HZ). */
const USER_HZ = 100;

/** Debian's nats-server with JetStream, in the network namespace of the calling thread. It ends with this process. */
export class NatsServer {
  readonly port = PORT;
  readonly #directory: string;
  #child: ChildProcess | undefined;

  /** @param directory for its store and log */
  constructor(directory: string) {
    this.#directory = directory;
  }

  /** The command line by which it is started. */
  get argv(): string[] {
    const listen = ['-a', '0.0.0.0', '-p', String(PORT)];
    const store = ['-js', '-sd', `${this.#directory}/jetstream`];
    return ['nats-server', ...store, ...listen, '--user', LOGIN.user, '--pass', LOGIN.password];
  }

  url(host: string, port = PORT): string {
    return `nats://${LOGIN.user}:${LOGIN.password}@${host}:${port}/fleet`;
  }

  /** Resolves when it takes connections. @throws SluiceError LAB */
  async start(): Promise<void> {
    const child = startBound(this.argv, { stdio: ['ignore', 'ignore', 'pipe'] });
    const log = createWriteStream(`${this.#directory}/nats-server.log`, { flags: 'a' });
    child.stderr?.pipe(log);
    this.#child = child;
    let failure: string | undefined;
    child.once('error', (error) => (failure = error.message));
    void ended(child).then((code) => (failure ??= `it ended with status ${code}`));
    await until(
      async () => {
        if (failure !== undefined)
          throw new SluiceError('LAB', 'nats-server does not start', {
            cause: failure,
            help: 'apt-get install nats-server',
          });
        return (await greets(PORT)) || undefined;
      },
      'nats-server takes no connections',
      START_SECONDS,
    );
  }

  /** Its processor time so far in seconds. */
  cpuSeconds(): number {
    const text = readFileSync(`/proc/${this.#child?.pid}/stat`, 'utf8');
    // Behind the name, which may have anything in it: utime and stime are the 14th and 15th field.
    const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) / USER_HZ;
  }

  /** Resident memory in bytes. */
  memory(): number {
    const text = readFileSync(`/proc/${this.#child?.pid}/status`, 'utf8');
    return 1024 * Number(/^VmRSS:\s*(\d+)/m.exec(text)?.[1]);
  }

  /** As a machine that loses power: nothing is flushed. What it has stored stays. */
  async kill(): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    this.#child = undefined;
    child.kill('SIGKILL');
    await ended(child);
  }
}

/** Whether a NATS server says who it is there. */
function greets(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    const done = (good: boolean): void => {
      socket.destroy();
      resolve(good);
    };
    socket.once('data', () => done(true));
    socket.once('error', () => done(false));
    socket.once('close', () => done(false));
  });
}
