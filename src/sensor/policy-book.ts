import type { RunConfig } from '../base/config.ts';
import { SluiceError } from '../base/errors.ts';
import type { FlowEngineOptions } from '../flow/index.ts';
import { loadPolicies, type PolicyPlan, triggerOf } from '../policy/index.ts';
import { type GeoFiles, loadGeoFiles } from './geography.ts';

/** Policies that a run can have had in all, those of earlier loads too: each keeps its counters. */
export const POLICY_ROOM = 2048;

/** Policies of a worker: `places[i]` is where the counters of `plan.specs[i]` are. */
export interface PlacedPlan {
  plan: PolicyPlan;
  places: readonly number[];
  /** How logs name the policy of each place, those that are not in use any more too. */
  triggers: readonly string[];
  geo: GeoFiles;
}

/** Whether the gate has to begin shunts by itself. */
export function usesThresholds({ plan }: Pick<PlacedPlan, 'plan'>): boolean {
  return plan.specs.some(({ action, dryRun }) => action === 'arm' && !dryRun);
}

/** Addresses of which the name is kept that led to them, where a policy asks for one. */
const DNS_NAMES = 262_144;

/** What the flow engine has to find out for these policies beside what it always does. */
export function knowledgeFor({ specs }: PolicyPlan): Pick<FlowEngineOptions, 'randomness' | 'dnsNames'> {
  const asked = (field: string) => specs.some(({ when }) => when.includes(field));
  return { randomness: asked('opaque'), dnsNames: asked('dns.name') ? DNS_NAMES : 0 };
}

/** The policies of a run, which may be loaded anew: one keeps its place by its name. */
export class PolicyBook {
  readonly names: string[] = [];
  readonly #triggers: string[] = [];

  /** @throws SluiceError for what is wrong with a policy or a file; what was loaded before stays as it is */
  async load({
    policy,
    policyFile,
    geo,
  }: Pick<RunConfig, 'policy' | 'policyFile' | 'geo'>): Promise<PlacedPlan> {
    const plan = await loadPolicies(policy, policyFile);
    const files = await loadGeoFiles(geo);
    const fresh = plan.specs.filter(({ name }) => !this.names.includes(name)).length;
    if (this.names.length + fresh > POLICY_ROOM)
      throw new SluiceError(
        'LIMIT',
        `a run has room for ${POLICY_ROOM} policies, those of earlier loads too`,
        {
          help: 'start it anew',
        },
      );
    const places = plan.specs.map((spec) => {
      let place = this.names.indexOf(spec.name);
      if (place < 0) place = this.names.push(spec.name) - 1;
      this.#triggers[place] = triggerOf(spec);
      return place;
    });
    return { plan, places, triggers: [...this.#triggers], geo: files };
  }
}
