import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { RunConfig } from '../base/config.ts';
import { SluiceError } from '../base/errors.ts';
import { FLEET_PREFIX } from '../fleet/statement.ts';
import type { Place } from '../gate/control-places.ts';
import type { Request } from '../gate/control-protocol.ts';
import type { Conversation } from '../gate/control-server.ts';
import type { AuditLine } from '../gate/daemon-audit.ts';
import { FleetKeeper, type FleetOptions, type FleetStatus } from '../gate/daemon-fleet.ts';
import { MitigationKeeper, type MitigationOptions } from '../gate/daemon-mitigation.ts';
import { type LeftRules, leftRules, RuleKeeper } from '../gate/daemon-rules.ts';
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

export interface RunRulesParts {
  readonly gate: Gate;
  readonly place: Place;
  readonly config: RunConfig;
  /** Attacks are to be held back. */
  readonly mitigation: MitigationOptions | undefined;
  /** Signed rules are to be in force. */
  readonly fleet: FleetOptions | undefined;
  readonly audit: { write(line: AuditLine): void };
  readonly grace: () => Promise<void>;
  readonly notice: (note: string, message: string) => void;
  readonly warn: (line: string) => void;
}

/**
 * Rules in the gate of a run: against attacks that are found here, of a fleet, and those that people add beside them. They are kept in a file from
 * one run to the next, but for those of a fleet, which have a store of their own.
 */
export class RunRules {
  readonly #parts: RunRulesParts;
  readonly #rules: RuleKeeper;
  readonly #requests: RuleRequests;
  #mitigation: MitigationKeeper | undefined;
  #fleet: FleetKeeper | undefined;

  private constructor(parts: RunRulesParts, place: Place) {
    this.#parts = parts;
    const { gate, grace, warn, config } = parts;
    const { site, role: roles } = config;
    this.#rules = new RuleKeeper({ gate, place, grace, site, roles, warn, store: true });
    this.#requests = new RuleRequests(this.#rules, parts.audit);
  }

  /** @throws SluiceError KERNEL_FEATURE where the gate is a socket filter, FILE, FILE_FORMAT */
  static async start(parts: RunRulesParts): Promise<RunRules> {
    const { gate, config, mitigation, fleet, notice, warn, audit } = parts;
    if (gate.kind === 'socket')
      throw new SluiceError('KERNEL_FEATURE', 'a gate that is a socket filter has no rules', {
        help: 'leave out --mitigate and --rules-from on this interface',
      });
    const place = { ...parts.place, ...storeOf(config.ruleStore, gate.ifname) };
    const rules = new RunRules(parts, place);
    try {
      mkdirSync(config.logDir, { recursive: true });
      await rules.#takeOver(place);
      if (mitigation !== undefined)
        rules.#mitigation = new MitigationKeeper(mitigation, {
          gate,
          rules: rules.#rules,
          place,
          logDir: config.logDir,
          notice,
          warn,
        });
      const { site, role: roles } = config;
      if (fleet !== undefined)
        rules.#fleet = new FleetKeeper(fleet, {
          rules: rules.#rules,
          place,
          audit,
          seen: () => gate.ledger().seen,
          site,
          roles,
          warn,
        });
      return rules;
    } catch (error) {
      await rules.close();
      throw error;
    }
  }

  async #takeOver(place: Place): Promise<void> {
    const left = ownRules(leftRules(place));
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

  fleet(): FleetStatus | null {
    return this.#fleet?.status() ?? null;
  }

  /** To be called once a second. */
  lookAfter(): void {
    this.#requests
      .expire()
      .catch((error: Error) => this.#parts.warn(`rules could not be looked after: ${error.message}`));
  }

  /** Rules leave the gate, and stay in the file. */
  async close(): Promise<void> {
    await this.#mitigation?.close();
    await this.#fleet?.close();
    await this.#rules.close();
  }
}

const isOwn = ({ id }: { id: string }): boolean => !id.startsWith(FLEET_PREFIX);

/** Those of a fleet come back from its own store, where their signatures are looked at again. */
function ownRules(left: LeftRules | undefined): LeftRules | undefined {
  if (left === undefined) return undefined;
  const { saved, counts } = left;
  return { counts, saved: { ...saved, rules: saved.rules.filter(isOwn), rows: saved.rows.filter(isOwn) } };
}

/** @throws SluiceError FILE */
function storeOf(directory: string, ifname: string): Pick<Place, 'rules' | 'baseline'> {
  try {
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  } catch (cause) {
    throw new SluiceError('FILE', `rules cannot be kept in ${directory}`, {
      cause,
      help: 'name another --rule-store',
    });
  }
  const file = (ending: string): string => join(directory, `${ifname}.${ending}`);
  return { rules: file('rules'), baseline: file('baseline') };
}
