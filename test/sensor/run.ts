import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Lab } from '../../lab/lab.ts';
import type { TapName } from '../../lab/options.ts';
import { type Ledger, NOTE_BYTES } from '../../src/gate/index.ts';
import { LAYOUT_VERSION } from '../../src/gate/layout.ts';
import { readLedger } from '../../src/gate/ledger.ts';
import { SideNotes } from '../../src/gate/side.ts';
import {
  BpfMap,
  interfaceCounters,
  interfaceInfo,
  netnsInode,
  PacketSender,
  packageRoot,
} from '../../src/kernel/index.ts';
import { readLog } from '../../src/log/reader.ts';
import type { FrameToWrite } from '../../src/packet/pcap.ts';
import { readNote } from '../../src/sensor/notes.ts';
import type { RunSummary } from '../../src/sensor/report.ts';
import { PATIENCE, until } from '../support/kernel.ts';
import type { ConnLine } from './compare.ts';

const PINS = '/sys/fs/bpf/sluice';
const LOCKS = '/run/sluice';
const READY_SECONDS = 90;
const END_SECONDS = 120;

/** The command that starts `sluice` as a user would. */
export const SLUICE = [process.execPath, join(packageRoot(), 'bin', 'sluice.js')];

export interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

/** What an error looks like with --json (docs/cli.md). */
export interface ErrorDocument {
  error: { code: string; message: string; cause?: string; help?: string };
}

/** A directory for logs that goes away with its scope. */
export class LogDir {
  readonly path = mkdtempSync(join(tmpdir(), 'sluice-run-'));

  read(name: string): ConnLine[] {
    const path = join(this.path, `${name}.log`);
    return existsSync(path) ? (readLog(path).records as ConnLine[]) : [];
  }

  /** Lines of shunt.log that tell of this event. */
  shunts(event: string): number {
    return this.read('shunt').filter((record) => record['event'] === event).length;
  }

  /** The log ends with a whole line. */
  whole(name: string): boolean {
    const path = join(this.path, `${name}.log`);
    return !existsSync(path) || /^$|\n$/.test(readFileSync(path, 'latin1').slice(-1));
  }

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }
}

/** A process of `sluice`, with what it says; killed when its scope ends before it does. */
export class Run {
  readonly process: ChildProcess;
  readonly ended: Promise<Ended>;
  stdout = '';
  stderr = '';

  constructor(args: readonly string[], prefix: readonly string[] = []) {
    const [program, ...rest] = [...prefix, ...SLUICE, ...args];
    this.process = spawn(program, rest, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.process.stdout?.on('data', (data: Buffer) => {
      this.stdout += data.toString();
    });
    this.process.stderr?.on('data', (data: Buffer) => {
      this.stderr += data.toString();
    });
    this.ended = new Promise((resolve, reject) => {
      this.process.once('error', reject);
      this.process.once('close', (code, signal) =>
        resolve({ code, signal, stdout: this.stdout, stderr: this.stderr }),
      );
    });
  }

  get running(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  async ready(): Promise<this> {
    const until = Date.now() + READY_SECONDS * 1000;
    while (!/^ready$/m.test(this.stderr)) {
      if (!this.running || Date.now() > until) {
        // Nobody has it yet who would end it.
        this.process.kill('SIGKILL');
        throw new Error(`not ready: ${this.stderr}`);
      }
      await pause(10);
    }
    return this;
  }

  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Ended> {
    this.process.kill(signal);
    return await this.end();
  }

  /** Waits for an end that comes by itself, or has been asked for. */
  async end(): Promise<Ended> {
    const late = setTimeout(() => this.process.kill('SIGKILL'), END_SECONDS * 1000);
    const ended = await this.ended;
    clearTimeout(late);
    return ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.running) await this.stop('SIGKILL');
  }
}

/** The summary, the one JSON document on stdout; throws when it is not one. */
export function documentOf(ended: Ended): RunSummary {
  return JSON.parse(ended.stdout) as RunSummary;
}

/** `sluice run -i … --json` in the namespace of this thread. */
export function runOn(ifname: string, logs: LogDir, ...more: string[]): Run {
  return new Run(['run', '-i', ifname, '--json', '--log-dir', logs.path, ...more]);
}

export const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** Stops a process (SIGSTOP), and waits until each of its threads stands still. */
export async function suspend(pid: number): Promise<void> {
  const tasks = `/proc/${pid}/task`;
  const stands = (id: string): boolean => {
    try {
      // Behind the name of the thread, which may have any character in it.
      return /^[^]*\) T/.test(readFileSync(`${tasks}/${id}/stat`, 'latin1'));
    } catch {
      // Ended meanwhile.
      return false;
    }
  };
  process.kill(pid, 'SIGSTOP');
  await until(() => readdirSync(tasks).every(stands), `process ${pid} goes on`);
}

/** `sluice run … --json` on a tap of a lab. */
export function runOnTap(lab: Lab, name: TapName, logs: LogDir, ...more: string[]): Run {
  const { netns, ifname } = lab.tap(name);
  const args = ['run', '-i', ifname, '--tap', '--json', '--log-dir', logs.path, ...more];
  return new Run(args, ['nsenter', `--net=${netns}`, '--']);
}

/** The kernel's view of a lab's tap: its index, and the XDP program on it. */
export async function tapLink(lab: Lab, name: TapName): Promise<{ ifindex: number; xdp: unknown }> {
  const { ifname } = lab.tap(name);
  const namespace = name === 'a' ? 'tapA' : 'tapB';
  const { stdout } = await lab.exec(namespace, ['ip', '-j', 'link', 'show', 'dev', ifname]);
  const [link] = JSON.parse(stdout) as { ifindex: number; xdp?: unknown }[];
  return { ifindex: link.ifindex, xdp: link.xdp };
}

/** Where an interface's tables are pinned, and its lock; of this thread's namespace unless told. */
export function places(ifindex: number, inode = netnsInode()): { pins: string; lock: string } {
  return { pins: join(PINS, `${inode}-${ifindex}`), lock: join(LOCKS, `${inode}-${ifindex}.lock`) };
}

/** The ledger of a running gate, from outside: by its pin. */
export class LedgerReader {
  readonly #map: BpfMap;
  readonly #words: Uint32Array;

  constructor(ifname: string, pins = places(interfaceInfo(ifname).index).pins) {
    this.#map = BpfMap.openPinned(join(pins, `v${LAYOUT_VERSION}`, 'ledger'));
    const words = (this.#map.mappedStride / 4) * this.#map.maxEntries;
    this.#words = new Uint32Array(this.#map.mmap(false), 0, words);
  }

  read(): Ledger {
    return readLedger(this.#words);
  }

  [Symbol.dispose](): void {
    this.#map.close();
  }
}

/** Waits until a running gate has counted so many packets: what was sent may still wait for the kernel. */
export async function untilSeen(ifname: string, packets: number): Promise<void> {
  using ledger = new LedgerReader(ifname);
  await until(() => ledger.read().seen.pkts === packets, `the gate does not see ${packets} packets`);
}

/**
 * Connections of which all that came before their shunt is in the notes of their run (ADR 17): the next run has no less of
 * them when this one is killed from now on.
 */
export function noted(ifindex: number, inode = netnsInode()): number {
  using map = BpfMap.openPinned(join(places(ifindex, inode).pins, `v${LAYOUT_VERSION}`, 'side'));
  const notes = new SideNotes(map);
  const note = new Uint8Array(NOTE_BYTES);
  let count = 0;
  for (const { family, key } of notes.keys())
    if (notes.read(family, key, note) && readNote(note).begun) count++;
  return count;
}

/** Frames of several connections, mixed evenly: each keeps its own order. */
export function mixed(conversations: readonly (readonly FrameToWrite[])[]): Uint8Array[] {
  return conversations
    .flatMap((frames, nth) =>
      frames.map(({ bytes }, i) => ({ bytes, at: (i + 0.5) / frames.length + nth * 1e-9 })),
    )
    .sort((a, b) => a.at - b.at)
    .map(({ bytes }) => bytes);
}

/** Of the time that this process was held up, so much is made up for by sending faster: more would be another rate. */
const LAG_MS = 20;
/** Frames that have not arrived by then are lost: a program was attached or taken off just then. */
const ARRIVAL_MS = 5000;
/** Between two frames that are sent one by one, at the most. */
const TRICKLE_MS = 250;
const BURST = 64;
const never = new Int32Array(new SharedArrayBuffer(4));

/**
 * What a sensor has to have come to while frames from `from` up to `to` are sent: until then they go out one by one, since it
 * takes its steps when packets come, and ever more slowly, since how many come before depends on how busy the machine is;
 * and those behind them wait.
 */
export interface Hold {
  from: number;
  to: number;
  until: () => boolean;
  /** What does not come true. */
  what: string;
}

/**
 * Sends frames into an interface a few at a time, some `rate` a second at the most, until all are sent or `stop` is called. A
 * burst fits into the queue of a virtual interface, so that none is lost, and has left it before this thread does anything else:
 * what the other end counts is whole whenever it is looked at.
 */
export class Feed {
  readonly done: Promise<void>;
  sent = 0;
  #lost = 0;
  #stopped = false;

  constructor(ifname: string, frames: readonly Uint8Array[], rate = 10_000, hold?: Hold) {
    this.done = this.#send(ifname, frames, rate, hold);
    // Whoever waits for it is told; a test that has failed before does not wait.
    this.done.catch(() => {});
  }

  async #send(ifname: string, frames: readonly Uint8Array[], rate: number, hold?: Hold): Promise<void> {
    using sender = new PacketSender(ifname);
    const before = taken(ifname);
    const send = (count: number): void => {
      const part = frames.slice(this.sent, this.sent + count);
      const offsets = new Uint32Array(part.length + 1);
      for (const [i, frame] of part.entries()) offsets[i + 1] = offsets[i] + frame.length;
      const sent = sender.send(Buffer.concat(part), offsets);
      if (sent !== part.length) throw new Error(`${sent} of ${part.length} frames were sent`);
      this.sent += sent;
      this.#arrive(ifname, before);
    };
    const end = hold === undefined ? frames.length : Math.min(hold.from, frames.length);
    await this.#run(end, rate, send);
    if (hold === undefined) return;
    const late = performance.now() + PATIENCE * 1000;
    while (!this.#stopped && !hold.until()) {
      if (performance.now() > late) throw new Error(`after ${PATIENCE} s: ${hold.what}`);
      if (this.sent < hold.to) send(1);
      await pause(Math.min(TRICKLE_MS, 2 + (this.sent - end) / 4));
    }
    await this.#run(frames.length, rate, send);
  }

  async #run(end: number, rate: number, send: (count: number) => void): Promise<void> {
    let due = performance.now();
    while (this.sent < end && !this.#stopped) {
      const count = Math.min(BURST, end - this.sent);
      send(count);
      due = Math.max(due + (count * 1000) / rate, performance.now() - LAG_MS);
      await pause(Math.max(0, due - performance.now()));
      // Timers that are always late would keep the event loop from its sockets and pipes.
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Waits, event loop and all, until the other end has handled what was sent. */
  #arrive(ifname: string, before: number): void {
    const late = performance.now() + ARRIVAL_MS;
    for (;;) {
      const missing = before + this.sent - this.#lost - taken(ifname);
      if (missing <= 0) return;
      if (performance.now() > late) this.#lost += missing;
      Atomics.wait(never, 0, 0, 1);
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.done;
  }
}

/** Frames of an interface that are not in its queue any more. Those of a veth are counted when the other end handles them. */
const taken = (ifname: string): number => interfaceCounters(ifname).txPackets;

export const sumOf = (records: readonly ConnLine[], ...fields: string[]): number =>
  records.reduce((sum, r) => sum + fields.reduce((s, field) => s + Number(r[field] ?? 0), 0), 0);
