import { mkdirSync } from 'node:fs';
import { isSampledAtGate } from '../base/config/mitigation.ts';
import type { RunConfig } from '../base/config.ts';
import { AuditLog } from '../gate/daemon-audit.ts';
import { operatorVetoes, ResponderThread, type Told } from '../mitigation/index.ts';

/** Batches that may wait for the thread: what comes then is passed over and counted. */
const MAX_PENDING = 64;
const CLOCK_MS = 100;
/** Packets come that much late from workers. */
const LAG_MS = 300;
const RETRY_MS = 1000;

export interface FlowDetectionParts {
  notice(note: string, message: string): void;
  warn(line: string): void;
}

/**
 * Attacks in what the flow engines of a run get, where no gate takes samples: mirrors over UDP, interfaces without a gate or with one
 * that is a socket filter. Nothing there can hold anything back: attacks and rules against them are told of.
 */
export class FlowDetection {
  readonly #config: RunConfig;
  readonly #parts: FlowDetectionParts;
  readonly #log: AuditLog;
  readonly #timer: NodeJS.Timeout;
  #responder: ResponderThread;
  #closed = false;
  #lost = 0;

  private constructor(config: RunConfig, parts: FlowDetectionParts) {
    this.#config = config;
    this.#parts = parts;
    mkdirSync(config.logDir, { recursive: true });
    this.#log = new AuditLog(config.logDir, (text) => parts.warn(text), 'mitigation.log');
    this.#responder = this.#begin();
    this.#timer = setInterval(() => {
      if (this.#responder.pending < MAX_PENDING) this.#responder.send((Date.now() - LAG_MS) * 1e6);
    }, CLOCK_MS);
  }

  /** Undefined where a gate takes all samples that there are, or nobody has asked for any. */
  static start(config: RunConfig, parts: FlowDetectionParts): FlowDetection | undefined {
    if (!config.mitigate && !config.mitigateDryRun) return undefined;
    const gates = config.interface.length > 0 && isSampledAtGate(config);
    return gates && config.source.length === 0 ? undefined : new FlowDetection(config, parts);
  }

  #begin(): ResponderThread {
    const { minPps, veto } = this.#config;
    return new ResponderThread(
      { minPps, vetoes: [...veto, ...operatorVetoes(process.env)], seed: process.pid },
      (told) => this.#changed(told),
      (error) => this.#failed(error),
    );
  }

  #failed(error: Error): void {
    this.#parts.warn(`attacks are looked for anew: ${error.message}`);
    this.#log.writeLine({ event: 'failed', reason: error.message });
    setTimeout(() => {
      if (!this.#closed) this.#responder = this.#begin();
    }, RETRY_MS).unref();
  }

  /** Samples a second for each of the workers of one source. */
  budget(workers: number): number {
    return this.#config.sampleBudget / workers;
  }

  /** Columns of the capacity BATCH that a worker has filled. */
  take(buffer: ArrayBuffer, count: number): void {
    if (this.#responder.pending >= MAX_PENDING) this.#lost += count;
    // The clock goes on by itself: what other workers have may come later.
    else this.#responder.pass(buffer, count, 0);
  }

  #changed({ change, id, kind, target, attack, rules, document }: Told): void {
    this.#log.writeLine({ event: change, ...document, dryRun: true });
    if (attack && change !== 'changed')
      this.#parts.notice(
        change === 'began' ? 'Sluice::Attack' : 'Sluice::Attack_Ended',
        `${kind} on ${target}${change === 'ended' ? ' is over' : ''} (attack ${id}, ${rules.length} rules proposed)`,
      );
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    await this.#responder.close();
    if (this.#lost > 0) this.#parts.warn(`${this.#lost} samples were not looked at: there were too many`);
    this.#log.close();
  }
}
