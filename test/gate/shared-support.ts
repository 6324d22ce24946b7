import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ShuntRow, StatusReport } from '../../src/gate/control-protocol.ts';
import {
  interfaceInfo,
  netnsInode,
  PacketSender,
  setThreadAffinity,
  xdpAttachment,
} from '../../src/kernel/index.ts';
import { eth, type PacketBuilder } from '../../src/packet/build.ts';
import { type Outcome, sluice } from '../support/command.ts';
import { until, vethPair } from '../support/kernel.ts';

const A = '10.9.0.1';
const B = '10.9.0.2';
export const HOSTS = [A, B] as const;
export const FLOW = `udp ${A}:5000 ${B}:6000`;
/** Of 128 bytes from the IP header on. */
export const there = (): PacketBuilder =>
  eth().ipv4({ src: A, dst: B }).udp({ sport: 5000, dport: 6000 }).payload('x'.repeat(100));
/** Of 38 bytes from the IP header on. */
export const back = (): PacketBuilder =>
  eth().ipv4({ src: B, dst: A }).udp({ sport: 6000, dport: 5000 }).payload('y'.repeat(10));

export const errorOf = (text: string): string => (JSON.parse(text) as { error: { code: string } }).error.code;
export const indexOf = (ifname: string): number => interfaceInfo(ifname).index;
export const attachedTo = (ifname: string): number | undefined => xdpAttachment(indexOf(ifname))?.programId;

/** Two ends of a tap, each with its interface, in this file's namespace. */
export class Tap {
  readonly logDir = mkdtempSync(join(tmpdir(), 'sluice-shared-'));
  readonly one = vethPair();
  readonly two = vethPair();
  readonly #senders = new Map([this.one, this.two].map(({ a, b }) => [a, new PacketSender(b)]));
  readonly #removed = new Set<string>();

  get names(): [string, string] {
    return [this.one.a, this.two.a];
  }

  up(names: readonly string[] = this.names, ...options: string[]): Promise<Outcome> {
    const named = names.flatMap((name) => ['-i', name]);
    return sluice('gate', 'up', ...named, '--share-tables', '--json', '--log-dir', this.logDir, ...options);
  }

  /** Into the gate by this interface; on a CPU when one is named. */
  send(ifname: string, packet: PacketBuilder, times: number, cpu?: number): void {
    if (cpu !== undefined) setThreadAffinity(cpu);
    const frame = packet.bytes();
    const frames = new Uint8Array(frame.length * times);
    for (let i = 0; i < times; i++) frames.set(frame, i * frame.length);
    const offsets = Uint32Array.from({ length: times + 1 }, (_, i) => i * frame.length);
    if (this.#senders.get(ifname)?.send(frames, offsets) !== times)
      throw new Error('not all frames went out');
  }

  async status(ifname: string): Promise<StatusReport> {
    const { stdout, stderr } = await sluice('gate', 'status', '-i', ifname, '--json');
    if (stdout === '') throw new Error(stderr);
    return JSON.parse(stdout) as StatusReport;
  }

  async rows(ifname: string): Promise<ShuntRow[]> {
    return JSON.parse((await sluice('shunt', 'ls', '-i', ifname, '--json')).stdout) as ShuntRow[];
  }

  async kill(ifname: string): Promise<void> {
    const { pid } = (await this.status(ifname)).daemon;
    process.kill(pid as number, 'SIGKILL');
    await until(() => !existsSync(`/proc/${pid}`), 'the daemon is still there');
  }

  log(file: string): string {
    return readFileSync(join(this.logDir, file), 'utf8');
  }

  remove(pair: { a: string; remove: () => void }): void {
    this.#removed.add(pair.a);
    this.#senders.get(pair.a)?.close();
    pair.remove();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const pair of [this.one, this.two]) {
      if (this.#removed.has(pair.a)) continue;
      await sluice('gate', 'down', '-i', pair.a, '--quiet');
      this.remove(pair);
    }
    rmSync(this.logDir, { recursive: true });
  }
}

const ofThisNamespace = (name: string): boolean => name.startsWith(`${netnsInode()}-`);

/** What gates of this namespace have left. */
export function traces(): string[] {
  return [...readdirSync('/run/sluice'), ...readdirSync('/sys/fs/bpf/sluice')].filter(ofThisNamespace);
}
