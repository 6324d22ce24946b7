import { loadPolicies, PolicySet, setsOf } from '../policy/index.ts';
import { monotonicSeconds } from './clock.ts';
import type { EveCounts } from './control-protocol.ts';
import { type EveEvent, parseEve } from './eve-event.ts';
import { EveFlows } from './eve-flows.ts';
import { type EveInput, type EveSource, openEve } from './eve-input.ts';

/** Shunts by what another sensor's EVE records say. */
export interface EveOptions {
  source: EveSource;
  /** As --policy and --policy-file. */
  policy: readonly string[];
  policyFile: readonly string[];
}

/** The owner of what is shunted for EVE records. */
export const EVE_OWNER = 'eve';
/** Connections that wait to be added, and that are added at a time. */
const MAX_WAITING = 8192;
const BATCH = 128;

/** A connection that a policy has taken. */
export interface EveWish {
  proto: string;
  a: { addr: string; port: number };
  b: { addr: string; port: number };
  vlan: number;
  innerVlan: number;
  trigger: string;
  /** `pair`: everything between the two, for so many seconds. */
  pairFor: number | undefined;
  /** The gate did not take it. */
  refused: () => void;
}

/** Reads EVE records, and hands over what a policy takes. */
export class EveDriver {
  readonly counts: EveCounts = { records: 0, others: 0, bad: 0, taken: 0, dropped: 0, noted: 0, spared: 0 };
  readonly #policies: PolicySet;
  readonly #vlanKey: boolean;
  readonly #flows = new EveFlows();
  readonly #add: (wishes: readonly EveWish[]) => Promise<void>;
  readonly #warn: (text: string) => void;
  #waiting: EveWish[] = [];
  #adding: Promise<void> | undefined;
  #input: EveInput | undefined;

  private constructor(
    policies: PolicySet,
    vlanKey: boolean,
    add: (wishes: readonly EveWish[]) => Promise<void>,
    warn: (text: string) => void,
  ) {
    this.#policies = policies;
    this.#vlanKey = vlanKey;
    this.#add = add;
    this.#warn = warn;
  }

  /**
   * @param mode of a socket that is made
   * @param add adds the connections to the gate; one call at a time
   * @throws SluiceError FILE, FILE_FORMAT, USAGE, ADDRESS_IN_USE; PolicyError
   */
  static async start(
    { source, policy, policyFile }: EveOptions,
    { vlanKey, mode }: { vlanKey: boolean; mode: number },
    add: (wishes: readonly EveWish[]) => Promise<void>,
    warn: (text: string) => void,
  ): Promise<EveDriver> {
    const plan = await loadPolicies(policy, policyFile);
    for (const warning of plan.warnings) warn(`warning: ${warning}`);
    const driver = new EveDriver(new PolicySet(plan.specs, setsOf(plan)), vlanKey, add, warn);
    driver.#input = await openEve(source, mode, {
      line: (text) => driver.#line(text),
      tooLong: () => driver.counts.bad++,
      failed: (error) => warn(`EVE records at ${source.path} could not be read: ${error.message}`),
    });
    return driver;
  }

  #line(text: string): void {
    const event = parseEve(text);
    if (event === 'bad') this.counts.bad++;
    else if (event === 'other') this.counts.others++;
    else {
      this.counts.records++;
      this.#take(this.#vlanKey ? event : { ...event, vlan: 0, innerVlan: 0 });
    }
  }

  #take(event: EveEvent): void {
    const policies = this.#policies;
    const flow = this.#flows.learn(event);
    if (flow.taken >= 0) policies.released(flow.taken);
    flow.taken = -1;
    const index = policies.decide(flow, flow.hash, Date.now() / 1000, flow.told, {
      noted: () => this.counts.noted++,
      spared: () => this.counts.spared++,
    });
    // Of what Suricata has let go of there is nothing more to come, unless it has only stopped looking.
    if (event.over) this.#flows.forget(event);
    if (index < 0 || (event.over && !event.bypassed)) return;
    const spec = policies.specs[index];
    // To bypass is to look no further, which is Suricata's own choice.
    if (spec.action === 'bypass') return;
    this.counts.taken++;
    if (this.#waiting.length >= MAX_WAITING) {
      this.counts.dropped++;
      return;
    }
    if (spec.budget !== undefined) flow.taken = index;
    this.#waiting.push({
      proto: event.proto,
      a: event.orig,
      b: event.resp,
      vlan: event.vlan,
      innerVlan: event.innerVlan,
      trigger: policies.trigger(index),
      pairFor: spec.action === 'pair' ? spec.for : undefined,
      refused: () => {
        if (flow.taken >= 0) policies.released(flow.taken);
        flow.taken = -1;
      },
    });
    this.#adding ??= this.#addAll().finally(() => (this.#adding = undefined));
  }

  async #addAll(): Promise<void> {
    let last = Number.NEGATIVE_INFINITY;
    while (this.#waiting.length > 0) {
      // Those of one turn go together.
      await new Promise((resolve) => setImmediate(resolve));
      const batch = this.#waiting.splice(0, BATCH);
      try {
        await this.#add(batch);
      } catch (error) {
        for (const wish of batch) wish.refused();
        const now = monotonicSeconds();
        if (now - last > 10) this.#warn(`EVE records led to no shunts: ${(error as Error).message}`);
        last = now;
      }
    }
  }

  /** Reads no more; what was taken is added. */
  async close(): Promise<void> {
    await this.#input?.close();
    await this.#adding;
  }
}
