import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { RunConfig } from '../base/config.ts';
import { SluiceError } from '../base/errors.ts';
import type { Place } from '../gate/control-places.ts';
import type { Request } from '../gate/control-protocol.ts';
import type { Conversation } from '../gate/control-server.ts';
import type { AuditLine } from '../gate/daemon-audit.ts';
import { MitigationKeeper, type MitigationOptions } from '../gate/daemon-mitigation.ts';
import { leftRules, RuleKeeper } from '../gate/daemon-rules.ts';
import type { Gate } from '../gate/index.ts';
import { RuleRequests } from '../gate/rule-requests.ts';
import { operatorVetoes, parseVeto } from '../mitigation/index.ts';

/** What the configuration says of it; undefined unless it is asked for. @throws SluiceError USAGE for what is no veto */
export function mitigationOf(config: RunConfig, env: NodeJS.ProcessEnv): MitigationOptions | undefined {
  for (const text of config.veto) parseVeto(text);
  if (!config.mitigate && !config.mitigateDryRun) return undefined;
  return {
    minPps: config.minPps,
    budget: config.sampleBudget,
    dryRun: config.mitigateDryRun,
    vetoes: [...config.veto, ...operatorVetoes(env)],
  };
}

export interface RunMitigationParts {
  readonly gate: Gate;
  readonly place: Place;
  readonly config: RunConfig;
  readonly options: MitigationOptions;
  readonly audit: { write(line: AuditLine): void };
  readonly grace: () => Promise<void>;
  readonly notice: (note: string, message: string) => void;
  readonly warn: (line: string) => void;
}

/** Attacks are found and held back in the gate of a run, by rules that are kept in a file from one run to the next. */
export class RunMitigation {
  readonly #parts: RunMitigationParts;
  readonly #rules: RuleKeeper;
  readonly #requests: RuleRequests;
  #keeper: MitigationKeeper | undefined;

  private constructor(parts: RunMitigationParts, place: Place) {
    this.#parts = parts;
    const { gate, grace, warn } = parts;
    this.#rules = new RuleKeeper({ gate, place, grace, warn, store: true });
    this.#requests = new RuleRequests(this.#rules, parts.audit);
  }

  /** @throws SluiceError KERNEL_FEATURE where the gate is a socket filter, FILE */
  static async start(parts: RunMitigationParts): Promise<RunMitigation> {
    const { gate, config, options, notice, warn } = parts;
    const place = { ...parts.place, rules: storeOf(config.ruleStore, gate.ifname) };
    const mitigation = new RunMitigation(parts, place);
    try {
      mkdirSync(config.logDir, { recursive: true });
      await mitigation.#takeOver(place);
      mitigation.#keeper = new MitigationKeeper(options, {
        gate,
        rules: mitigation.#rules,
        place,
        logDir: config.logDir,
        notice,
        warn,
      });
      return mitigation;
    } catch (error) {
      await mitigation.close();
      throw error;
    }
  }

  async #takeOver(place: Place): Promise<void> {
    const left = leftRules(place);
    if (left === undefined) return;
    try {
      await this.#rules.takeOver(left);
      await this.#requests.expire();
      if (this.#rules.size > 0)
        this.#parts.notice(
          'Sluice::Rules',
          `${this.#rules.size} rules from before are in force again on ${place.ifname}`,
        );
    } catch (error) {
      this.#parts.notice(
        'Sluice::Rules',
        `the rules from before are not in force on ${place.ifname}: ${(error as Error).message}`,
      );
    }
  }

  /** `rule.…` */
  perform(request: Request, conversation: Conversation): Promise<unknown> {
    return this.#requests.perform(request, conversation);
  }

  /** To be called once a second. */
  lookAfter(): void {
    this.#requests
      .expire()
      .catch((error: Error) => this.#parts.warn(`rules could not be looked after: ${error.message}`));
  }

  /** Rules leave the gate, and stay in the file. */
  async close(): Promise<void> {
    await this.#keeper?.close();
    await this.#rules.close();
  }
}

/** @throws SluiceError FILE */
function storeOf(directory: string, ifname: string): string {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new SluiceError('FILE', `rules cannot be kept in ${directory}`, {
      cause,
      help: 'name another --rule-store',
    });
  }
  return join(directory, `${ifname}.rules`);
}
