import { writeFileSync } from 'node:fs';
import type { ReadConfig } from '../base/config.ts';
import { SluiceError } from '../base/errors.ts';
import type { FlowEngine, FlowEngineOptions } from '../flow/index.ts';
import { loadPolicies, type PolicyPlan } from '../policy/index.ts';
import { type GeoFiles, loadGeoFiles, MmdbGeography } from './geography.ts';
import { knowledgeFor } from './policy-book.ts';
import { WhatIf, type WhatIfResult } from './what-if.ts';
import {
  type SensorRate,
  scenariosOf,
  type WhatIfDocument,
  whatIfDocument,
  whatIfPage,
  whatIfText,
} from './what-if-report.ts';

/** What `sluice read --what-if` needs: loaded before the first packet, told behind the last. */
export class WhatIfTrial {
  readonly #plan: PolicyPlan;
  readonly #delay: number;

  readonly #geo: GeoFiles;

  private constructor(plan: PolicyPlan, geo: GeoFiles, delay: number) {
    this.#plan = plan;
    this.#geo = geo;
    this.#delay = delay;
  }

  /** Errors: those of loadPolicies. */
  static async load({ policy, policyFile, geo }: ReadConfig, delay: number): Promise<WhatIfTrial> {
    return new WhatIfTrial(await loadPolicies(policy, policyFile), await loadGeoFiles(geo), delay);
  }

  /** What of the policies' sets was left out: PolicyPlan.warnings. */
  get warnings(): readonly string[] {
    return this.#plan.warnings;
  }

  /** What the engine has to find out beside what it always does. */
  get knowledge(): Pick<FlowEngineOptions, 'randomness' | 'dnsNames'> {
    return knowledgeFor(this.#plan);
  }

  over(engine: FlowEngine): WhatIf {
    return new WhatIf(
      engine,
      engine.capacity,
      scenariosOf(this.#plan),
      this.#delay,
      new MmdbGeography(this.#geo),
    );
  }

  text(result: WhatIfResult, rate: SensorRate): string {
    return whatIfText(result, rate);
  }

  /** As `--json` has it. */
  document(result: WhatIfResult, rate: SensorRate): WhatIfDocument {
    return whatIfDocument(result, rate);
  }

  /** Errors: FILE. */
  write(path: string, result: WhatIfResult, rate: SensorRate, title: string): void {
    try {
      writeFileSync(path, whatIfPage(result, rate, title));
    } catch (cause) {
      throw new SluiceError('FILE', `cannot write ${path}: ${(cause as Error).message}`, { cause });
    }
  }
}
