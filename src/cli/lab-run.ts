import type { ChildProcess } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { createLab } from '../../lab/lab.ts';
import { demoPlan } from '../../lab/plan.ts';
import { runTraffic } from '../../lab/traffic.ts';
import { type RunConfig, runSchema } from '../base/config.ts';
import { configYaml } from '../base/config-text.ts';
import { SluiceError } from '../base/errors.ts';
import type { CommandIo } from '../base/io.ts';
import { packageRoot } from '../kernel/index.ts';
import { forward } from './forward.ts';

const DEFAULT_SECONDS = 30;
/** What is under way when the traffic ends still has to reach the tap. */
const TAIL_MS = 1500;

/**
 * The main job in a test network of its own: the sensor runs as its own process on one of the lab's taps, just as it
 * would on a real one, while real clients and servers talk behind it.
 */
export async function runInLab(config: RunConfig, io: CommandIo): Promise<SluiceError | undefined> {
  const seconds = config.duration ?? DEFAULT_SECONDS;
  io.say('lab: making a client, a server and a tap in network namespaces');
  await using lab = await createLab();
  const tap = lab.tap('a');
  const file = join(lab.directory, 'run.yaml');
  const { duration: _, ...rest } = config;
  const api = await apiOf(config, join(lab.directory, 'api.sock'));
  await using _reached = api?.reached;
  const settings = {
    ...rest,
    interface: [tap.ifname],
    tap: true,
    logDir: resolve(config.logDir),
    api: api?.listen,
  };
  await writeFile(file, configYaml(runSchema, settings, {}));
  const sensor = lab.spawn(
    'tapA',
    [process.execPath, join(packageRoot(), 'bin', 'sluice.js'), 'run', '--config', file],
    { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] },
  );
  const ended = exitOf(sensor);
  const ready = new Promise<void>((done) => sensor.once('message', () => done()));
  const traffic = new AbortController();
  const stop = (): void => {
    traffic.abort();
    sensor.kill('SIGTERM');
  };
  io.stop.addEventListener('abort', stop, { once: true });
  try {
    await Promise.race([ready, ended]);
    if (sensor.exitCode === null && !io.stop.aborted) {
      if (api?.url !== undefined) io.say(`lab: the dashboard is at ${api.url}`);
      io.say(`lab: ${seconds} s of real traffic (HTTPS, HTTP, TCP, UDP, DNS; IPv4 and IPv6)`);
      await Promise.race([runTraffic(lab, demoPlan(seconds), { signal: traffic.signal }), ended]);
      if (!io.stop.aborted) await new Promise((done) => setTimeout(done, TAIL_MS));
    }
    sensor.kill('SIGTERM');
    const code = await ended;
    if (code === 0) return undefined;
    const error = new SluiceError('LAB', `the sensor in the lab ended with exit status ${code}`, {
      help: 'its own message stands above',
    });
    // A sensor that was killed has not said so itself.
    if (sensor.signalCode !== null || sensor.pid === undefined) throw error;
    return error;
  } finally {
    io.stop.removeEventListener('abort', stop);
    if (sensor.exitCode === null) sensor.kill('SIGKILL');
    await ended;
  }
}

interface LabApi {
  /** Where the sensor in the lab listens. */
  listen: string;
  /** Where that is reached from here. */
  url?: string;
  reached?: AsyncDisposable;
}

/** The lab's loopback is not this one: what asks here is handed on; `sluice run` has checked it before. @throws SluiceError ADDRESS_IN_USE, KERNEL_CALL */
async function apiOf(config: RunConfig, socket: string): Promise<LabApi | undefined> {
  if (config.api === undefined) return undefined;
  const { listenOf } = await import('../api/access.ts');
  const listen = listenOf(config.api);
  if ('path' in listen) return { listen: `unix:${resolve(listen.path)}` };
  const reached = await forward(listen, socket);
  const host = listen.host.includes(':') ? `[${listen.host}]` : listen.host;
  const url = `${config.apiTlsCert === undefined ? 'http' : 'https'}://${host}:${reached.port}/`;
  return { listen: `unix:${socket}`, url, reached };
}

function exitOf(child: ChildProcess): Promise<number> {
  return new Promise((done) => {
    child.once('error', () => done(1));
    child.once('exit', (code) => done(code ?? 1));
  });
}
