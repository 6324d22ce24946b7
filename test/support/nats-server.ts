import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** Seconds. */
const LONGEST = 90;

/** Debian's nats-server with JetStream, on the loopback. */
export class NatsServer {
  readonly #store: string;
  readonly #port: number;
  #child: ChildProcess | undefined;

  /** @param directory where its store is made */
  constructor(directory: string, port = 4222) {
    this.#store = mkdtempSync(join(directory, 'nats-'));
    this.#port = port;
  }

  /** Of a fleet there. */
  url(name: string): string {
    return `nats://sluice:secret@127.0.0.1:${this.#port}/${name}`;
  }

  /** Resolves when it can be talked to. */
  async start(): Promise<void> {
    const options = ['-js', '-sd', this.#store, '-a', '127.0.0.1', '-p', String(this.#port)];
    const child = spawn('nats-server', [...options, '--user', 'sluice', '--pass', 'secret'], {
      stdio: 'ignore',
      env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin` },
    });
    this.#child = child;
    let failure: Error | undefined;
    child.once('error', (error) => {
      failure = error;
    });
    for (const end = performance.now() + LONGEST * 1000; performance.now() < end; await sleep(50)) {
      if (failure !== undefined) throw failure;
      if (await this.#answers()) return;
    }
    throw new Error('nats-server does not listen');
  }

  #answers(): Promise<boolean> {
    return new Promise((resolve) => {
      const socket = connect(this.#port, '127.0.0.1');
      socket.once('data', () => {
        socket.destroy();
        resolve(true);
      });
      socket.once('error', () => resolve(false));
    });
  }

  /** At once, as a machine that fails. */
  async stop(): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined || child.exitCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
