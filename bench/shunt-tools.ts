/** Who listens in `sluice bench shunt`: our sensor, and other tools on the same interface. */
import { type ChildProcess, fork, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';

/** Of every ring and socket: small, so that a rate which is too high shows within a trial. */
export const BUFFER_MIB = 8;
const READY_MS = 30_000;
const END_MS = 10_000;
/** By then a listener has taken what is in its buffer, and the next trial begins with an empty one. */
const DRAINED_MS = 300;
/** What tcpdump may leave on the disk: two files of so many millions of bytes. */
const FILE_MB = 200;

/** What is asked of a listener; `lost` is undefined where it does not say. */
export interface Listener {
  readonly pid: number;
  /** Packets that it had no room for since it began, once it has said so after the call. */
  lost(): Promise<number | undefined>;
  stop(): Promise<void>;
}

/** CPU seconds of a process, all threads that it has; 0 when it is gone. */
export function cpuOf(pid: number): number {
  let ns = 0;
  try {
    for (const task of readdirSync(`/proc/${pid}/task`))
      ns += Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, 'utf8').split(' ')[0]);
  } catch {
    // One that has ended just now is not counted.
  }
  return ns / 1e9;
}

/** Pins a process with all its threads. */
export function pin(pid: number, cpu: number): void {
  spawnSync('taskset', ['-a', '-p', '-c', String(cpu), String(pid)], { stdio: 'ignore' });
}

export const installed = (program: string): boolean =>
  ['/usr/bin', '/usr/sbin', '/bin', '/sbin', '/usr/local/bin'].some((at) => existsSync(join(at, program)));

async function ended(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGTERM');
  const late = setTimeout(() => child.kill('SIGKILL'), END_MS);
  await once(child, 'exit');
  clearTimeout(late);
}

/** Losses in the live view of `sluice run`. */
export function lostIn(view: string): number | undefined {
  const last = view.split('\n').findLast((line) => line.includes(' connections open'));
  if (last === undefined) return undefined;
  return Number(/, (\d+) lost/.exec(last)?.[1] ?? 0);
}

/** Shunts that have begun by a shunt.log, by their trigger; its lines are too many to be parsed while others wait. */
export function shuntsIn(log: string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const [, trigger] of log.matchAll(/"event":"start","shunt_trigger":"(\w+)"/g))
    counts.set(trigger, (counts.get(trigger) ?? 0) + 1);
  return counts;
}

/** `sluice run` on this interface, pinned to `cpu` as a whole. */
export class Sluice implements Listener {
  readonly pid: number;
  readonly logs: string;
  readonly #child: ChildProcess;
  #said = '';
  #view = '';
  #views = 0;

  private constructor(child: ChildProcess, logs: string) {
    this.#child = child;
    this.pid = child.pid ?? 0;
    this.logs = logs;
    child.on('message', (text: string) => {
      this.#said = text;
      this.#view = text.includes(' connections open') ? text : this.#view;
      this.#views++;
    });
  }

  static async start(ifname: string, cpu: number, flags: readonly string[]): Promise<Sluice> {
    const logs = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
    const body = import.meta.url.endsWith('.ts') ? './shunt-sensor.ts' : './shunt-sensor.js';
    const args = ['run', '-i', ifname, '--tap', '--json', '--log-dir', logs, '--timeout-tcp', '5s', ...flags];
    const child = fork(new URL(body, import.meta.url), args, {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    });
    pin(child.pid ?? 0, cpu);
    const sluice = new Sluice(child, logs);
    const ready = new Promise<void>((resolve, reject) => {
      child.on('message', (text: string) => {
        if (text.includes('ready')) resolve();
      });
      child.once('exit', (code) => reject(new Error(`sluice run ended with ${code}: ${sluice.#said}`)));
    });
    await Promise.race([ready, pause(READY_MS, undefined, { ref: false })]);
    pin(sluice.pid, cpu);
    return sluice;
  }

  async lost(): Promise<number | undefined> {
    const before = this.#views;
    for (let i = 0; i < 60 && this.#views < before + 2; i++) await pause(50);
    return lostIn(this.#view);
  }

  /** Shunts that it has begun and logged, by their trigger. */
  shunts(): Map<string, number> {
    const path = join(this.logs, 'shunt.log');
    return shuntsIn(existsSync(path) ? readFileSync(path, 'latin1') : '');
  }

  async stop(): Promise<void> {
    await ended(this.#child);
    rmSync(this.logs, { recursive: true, force: true });
  }
}

export interface Peer {
  readonly name: string;
  readonly program: string;
  args(ifname: string, directory: string): string[];
  /** Says its losses when it gets SIGUSR1. */
  readonly says?: RegExp;
}

export const PEERS: readonly Peer[] = [
  {
    name: 'tcpdump -w FILE',
    program: 'tcpdump',
    args: (ifname, directory) => [
      '-i',
      ifname,
      '-n',
      '-Z',
      'root',
      '-B',
      String(BUFFER_MIB * 1024),
      '-w',
      join(directory, 'trace'),
      '-C',
      String(FILE_MB),
      '-W',
      '2',
    ],
    says: /(\d+) packets dropped by kernel/,
  },
  {
    name: 'argus',
    program: 'argus',
    args: (ifname, directory) => ['-X', '-i', ifname, '-w', join(directory, 'argus.out')],
  },
  {
    name: 'nfpcapd',
    program: 'nfpcapd',
    args: (ifname, directory) => ['-i', ifname, '-b', String(BUFFER_MIB), '-w', directory],
  },
];

/** Another tool on this interface, pinned to `cpu`. */
export class PeerListener implements Listener {
  readonly pid: number;
  readonly #child: ChildProcess;
  readonly #directory: string;
  readonly #says: RegExp | undefined;
  #text = '';

  private constructor(child: ChildProcess, directory: string, says: RegExp | undefined) {
    this.#child = child;
    this.pid = child.pid ?? 0;
    this.#directory = directory;
    this.#says = says;
    for (const stream of [child.stdout, child.stderr])
      stream?.on('data', (data: Buffer) => {
        this.#text = (this.#text + data.toString()).slice(-10_000);
      });
  }

  static async start(peer: Peer, ifname: string, cpu: number): Promise<PeerListener> {
    const directory = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
    const child = spawn(peer.program, peer.args(ifname, directory), { stdio: ['ignore', 'pipe', 'pipe'] });
    child.once('error', () => {});
    const listener = new PeerListener(child, directory, peer.says);
    pin(listener.pid, cpu);
    // Until it listens: it has opened a packet socket.
    for (let i = 0; i < 40 && !hasPacketSocket(listener.pid); i++) await pause(50);
    await pause(200);
    if (child.exitCode !== null) throw new Error(`${peer.name} ended: ${listener.#text}`);
    return listener;
  }

  async lost(): Promise<number | undefined> {
    if (this.#says === undefined) return undefined;
    await pause(DRAINED_MS);
    this.#text = '';
    this.#child.kill('SIGUSR1');
    for (let i = 0; i < 40; i++) {
      const found = this.#says.exec(this.#text);
      if (found !== null) return Number(found[1]);
      await pause(50);
    }
    return undefined;
  }

  async stop(): Promise<void> {
    await ended(this.#child);
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

function hasPacketSocket(pid: number): boolean {
  try {
    const inodes = new Set(
      readFileSync(`/proc/${pid}/net/packet`, 'utf8')
        .split('\n')
        .slice(1)
        .map((line) => line.trim().split(/\s+/)[8]),
    );
    return inodes.size > 0 && readdirSync(`/proc/${pid}/fd`).length > 3;
  } catch {
    return false;
  }
}
