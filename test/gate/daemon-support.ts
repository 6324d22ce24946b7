import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ControlClient } from '../../src/gate/control-client.ts';
import { findPlace } from '../../src/gate/control-places.ts';
import type { RuleRow, ShuntRow, StatusReport } from '../../src/gate/control-protocol.ts';
import { PacketSender } from '../../src/kernel/index.ts';
import type { PacketBuilder } from '../../src/packet/build.ts';
import { type Outcome, sluice } from '../support/command.ts';
import { PATIENCE, vethPair } from '../support/kernel.ts';

/** A gate as `sluice gate up` starts it, on one end of a pair of interfaces of this file's namespace. */
export class UpGate {
  readonly ifname: string;
  readonly logDir: string;
  readonly #pair = vethPair();
  readonly #sender: PacketSender;
  #there = true;

  private constructor() {
    this.ifname = this.#pair.a;
    this.logDir = mkdtempSync(join(tmpdir(), 'sluice-gate-'));
    this.#sender = new PacketSender(this.#pair.b);
  }

  /** Only the interfaces: nothing is up yet. */
  static interfaces(): UpGate {
    return new UpGate();
  }

  static async up(...options: string[]): Promise<UpGate> {
    const gate = new UpGate();
    const { code, stderr } = await gate.start(...options);
    if (code === 0) return gate;
    await gate[Symbol.asyncDispose]();
    throw new Error(stderr);
  }

  get peer(): string {
    return this.#pair.b;
  }

  start(...options: string[]): Promise<Outcome> {
    return sluice('gate', 'up', '-i', this.ifname, '--json', '--log-dir', this.logDir, ...options);
  }

  connect(): Promise<ControlClient> {
    return ControlClient.connect(findPlace(this.ifname));
  }

  /** Sends frames into the gate. */
  send(packet: PacketBuilder, times = 1): void {
    const frame = packet.bytes();
    const frames = new Uint8Array(frame.length * times);
    const offsets = new Uint32Array(times + 1);
    for (let i = 0; i < times; i++) {
      frames.set(frame, i * frame.length);
      offsets[i + 1] = (i + 1) * frame.length;
    }
    if (this.#sender.send(frames, offsets) !== times) throw new Error('not all frames went out');
  }

  async status(): Promise<StatusReport> {
    const { stdout, stderr } = await sluice('gate', 'status', '-i', this.ifname, '--json');
    if (stdout === '') throw new Error(stderr);
    return JSON.parse(stdout) as StatusReport;
  }

  /** Its state once it has seen so many packets: on a busy machine they come to it later than they are sent. */
  async seen(pkts: number): Promise<StatusReport> {
    return await eventually(async () => {
      const status = await this.status();
      return status.seen.pkts >= pkts ? status : undefined;
    }, `the gate has not seen ${pkts} packets`);
  }

  async rows(): Promise<ShuntRow[]> {
    const { stdout } = await sluice('shunt', 'ls', '-i', this.ifname, '--json');
    return JSON.parse(stdout) as ShuntRow[];
  }

  async rules(): Promise<RuleRow[]> {
    const { stdout } = await sluice('rule', 'ls', '-i', this.ifname, '--json');
    return JSON.parse(stdout) as RuleRow[];
  }

  shunt(...args: string[]): Promise<Outcome> {
    return sluice('shunt', args[0], '-i', this.ifname, '--json', ...args.slice(1));
  }

  exception(...args: string[]): Promise<Outcome> {
    return sluice('shunt', 'exception', args[0], '-i', this.ifname, '--json', ...args.slice(1));
  }

  audit(): { op: string; [field: string]: unknown }[] {
    // Whole lines: the last one may be on its way.
    return readFileSync(join(this.logDir, 'audit.log'), 'utf8')
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as { op: string });
  }

  removeInterfaces(): void {
    if (this.#there) this.#pair.remove();
    this.#there = false;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await sluice('gate', 'down', '-i', this.ifname, '--quiet');
    this.#sender.close();
    this.removeInterfaces();
    rmSync(this.logDir, { recursive: true });
  }
}

/** Waits until a question is answered by something else than undefined. */
export async function eventually<T>(
  ask: () => Promise<T | undefined>,
  what: string,
  seconds = PATIENCE,
): Promise<T> {
  const end = performance.now() + seconds * 1000;
  for (;;) {
    const answer = await ask();
    if (answer !== undefined) return answer;
    if (performance.now() > end) throw new Error(`after ${seconds} s: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}
