import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

/** Seconds. */
const LONGEST = 240;

/** Who may do what, unless a test says otherwise. */
const LOGIN = 'authorization { user: sluice, password: secret }';

/** Debian's nats-server with JetStream, on the loopback. */
export class NatsServer {
  readonly #directory: string;
  readonly #port: number;
  #child: ChildProcess | undefined;

  /** @param directory where its store is made */
  constructor(directory: string, port = 4222) {
    this.#directory = mkdtempSync(join(directory, 'nats-'));
    this.#port = port;
  }

  /** Of a fleet there. */
  url(name: string): string {
    return `nats://sluice:secret@127.0.0.1:${this.#port}/${name}`;
  }

  /** The same without who we are. */
  bareUrl(name: string, scheme = 'nats'): string {
    return `${scheme}://127.0.0.1:${this.#port}/${name}`;
  }

  /** Resolves when it can be talked to. @param access of its configuration: users, TLS */
  async start(access = LOGIN): Promise<void> {
    const config = join(this.#directory, 'server.conf');
    const store = `jetstream { store_dir: "${this.#directory}" }`;
    writeFileSync(config, `host: 127.0.0.1\nport: ${this.#port}\n${store}\n${access}\n`);
    const child = spawn('nats-server', ['-c', config], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, PATH: `${process.env['PATH']}:/usr/sbin` },
    });
    this.#child = child;
    let failure: Error | undefined;
    let said = '';
    child.stderr.on('data', (data: Buffer) => (said = (said + data.toString()).slice(-2000)));
    child.once('error', (error) => {
      failure = error;
    });
    child.once('exit', () => {
      failure ??= new Error(`nats-server has ended: ${said}`);
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
      socket.once('close', () => resolve(false));
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
