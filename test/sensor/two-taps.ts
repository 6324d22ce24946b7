import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Lab } from '../../lab/lab.ts';
import type { TapName } from '../../lab/options.ts';
import { packageRoot } from '../../src/kernel/index.ts';
import { readLog } from '../../src/log/reader.ts';
import type { RunSummary } from '../../src/sensor/report.ts';
import type { ConnLine } from './compare.ts';

const READY_SECONDS = 90;
const END_SECONDS = 120;

/** `sluice run` as a user would start it, inside a tap's namespace. */
export class Sensor {
  readonly logDir: string;
  readonly process: ChildProcess;
  readonly #ended: Promise<number>;
  #stdout = '';
  stderr = '';

  constructor(lab: Lab, tap: TapName, options: readonly string[]) {
    this.logDir = mkdtempSync(join(tmpdir(), 'sluice-test-'));
    const { netns, ifname } = lab.tap(tap);
    const sluice = [process.execPath, join(packageRoot(), 'bin', 'sluice.js')];
    const run = ['run', '-i', ifname, '--tap', '--json', '--log-dir', this.logDir, ...options];
    this.process = spawn('nsenter', [`--net=${netns}`, ...sluice, ...run], {
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.process.stdout?.on('data', (data: Buffer) => {
      this.#stdout += data.toString();
    });
    this.process.stderr?.on('data', (data: Buffer) => {
      this.stderr += data.toString();
    });
    // Not when it has ended: what it has said may still be on its way.
    this.#ended = new Promise((resolve) => this.process.once('close', (code) => resolve(code ?? -1)));
  }

  async ready(): Promise<void> {
    const until = Date.now() + READY_SECONDS * 1000;
    while (!/^ready$/m.test(this.stderr)) {
      if (this.process.exitCode !== null || Date.now() > until) throw new Error(`no sensor: ${this.stderr}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }

  async stop(signal: 'SIGTERM' | 'SIGINT' | 'SIGKILL' = 'SIGTERM'): Promise<number> {
    const late = setTimeout(() => this.process.kill('SIGKILL'), END_SECONDS * 1000);
    this.process.kill(signal);
    const code = await this.#ended;
    clearTimeout(late);
    return code;
  }

  summary(): RunSummary {
    return JSON.parse(this.#stdout) as RunSummary;
  }

  log(name: string): ConnLine[] {
    return readLog(join(this.logDir, `${name}.log`)).records as ConnLine[];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.process.exitCode === null && this.process.signalCode === null) await this.stop('SIGKILL');
    rmSync(this.logDir, { recursive: true, force: true });
  }
}

/** Both taps of a lab with a sensor each, one with a gate and one without. */
export async function bothTaps(
  lab: Lab,
  options: { both: readonly string[]; gated: readonly string[] },
  drive: (gated: Sensor) => Promise<void>,
): Promise<{ gated: Sensor; plain: Sensor }> {
  const gated = new Sensor(lab, 'a', [...options.both, ...options.gated]);
  const plain = new Sensor(lab, 'b', [...options.both, '--no-gate']);
  try {
    await Promise.all([gated.ready(), plain.ready()]);
    await drive(gated);
    await gated.stop();
    await plain.stop();
  } catch (error) {
    await Promise.all([gated[Symbol.asyncDispose](), plain[Symbol.asyncDispose]()]);
    throw error;
  }
  return { gated, plain };
}
