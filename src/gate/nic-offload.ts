import { compileFilterText } from '../filter/index.ts';
import { flowSpec, sameSpec } from '../rules/offload/flow-spec.ts';
import { headerMatches } from '../rules/offload/header-match.ts';
import type { Rule } from '../rules/spec.ts';
import type { OffloadState } from './control-protocol.ts';
import { nextTurn, Portion } from './turns.ts';

/** The rules of a NIC, as src/kernel has them (NicRules). */
export interface NicPort {
  insert(spec: Uint8Array): number;
  read(location: number): Uint8Array | undefined;
  remove(location: number): void;
}

/** A rule of the NIC that we have made: for the daemon after this one. */
export interface SavedNicRule {
  readonly id: string;
  readonly location: number;
  /** struct ethtool_rx_flow_spec in hexadecimal. */
  readonly spec: string;
}

interface Installed {
  readonly text: string;
  readonly state: OffloadState;
  readonly rules: readonly { readonly location: number; readonly spec: Uint8Array }[];
}

/** Rules of one NIC that we take at most, and how many in one turn of the event loop. */
const MOST = 1024;
const PORTION = 8;

const inXdp = (reason: string): OffloadState => ({ wanted: 'nic', state: 'xdp', reason });
const IN_NIC: OffloadState = { wanted: 'nic', state: 'nic', reason: null };

/** Without a text: it is looked at again when it is on. */
const IDLE: Installed = { text: '', state: inXdp('it is off, or not for here'), rules: [] };

/** What two rules have in common that are the same for a NIC. */
const textOf = ({ expr, lang, action }: Rule): string => JSON.stringify([expr, lang, action]);

/** What a NIC has to drop for a rule; a text that says why it cannot. */
export function nicSpecs({
  expr,
  lang,
  action,
}: Pick<Rule, 'expr' | 'lang' | 'action'>): Uint8Array[] | string {
  if (action.kind !== 'drop') return 'a NIC can only drop';
  const matches = headerMatches(compileFilterText(expr, lang));
  if (typeof matches === 'string') return matches;
  const specs: Uint8Array[] = [];
  for (const match of matches) {
    const spec = flowSpec(match);
    if (spec === undefined) return `a NIC compares no ports of IP protocol ${match.proto}`;
    specs.push(spec);
  }
  return specs;
}

/** Keeps those rules that ask for it in the NIC as well, as far as the NIC takes them. */
export class NicOffload {
  readonly #port: NicPort;
  readonly #warn: (text: string) => void;
  readonly #installed = new Map<string, Installed>();

  /** @param warn told of rules that the NIC does not let go of */
  constructor(port: NicPort, warn: (text: string) => void) {
    this.#port = port;
    this.#warn = warn;
  }

  /** Where a rule is; undefined: it has not been asked for. */
  state(id: string): OffloadState | undefined {
    return this.#installed.get(id)?.state;
  }

  /** Goes on with what a daemon that has ended left, as far as the NIC still has it. */
  adopt(saved: readonly SavedNicRule[], rules: Iterable<Rule>): void {
    const byId = new Map([...rules].map((rule) => [rule.id, rule]));
    for (const id of new Set(saved.map((one) => one.id))) {
      const left = saved.filter((one) => one.id === id);
      const kept = left.flatMap(({ location, spec }) => {
        const asked = new Uint8Array(Buffer.from(spec, 'hex'));
        return this.#has(location, asked) ? [{ location, spec: asked }] : [];
      });
      const rule = byId.get(id);
      const specs = rule === undefined ? 'it has gone' : nicSpecs(rule);
      const whole =
        typeof specs !== 'string' &&
        specs.length === kept.length &&
        specs.every((spec) => kept.some((one) => sameSpec(spec, one.spec)));
      if (rule !== undefined && whole)
        this.#installed.set(id, { text: textOf(rule), state: IN_NIC, rules: kept });
      else this.#removeAll(kept);
    }
  }

  /** Puts those of these rules that ask for it into the NIC, and takes out what else we have there. */
  async place(rules: readonly { readonly rule: Rule; readonly on: boolean }[]): Promise<void> {
    const wanted = new Map(
      rules.flatMap(({ rule, on }) => (rule.offload === 'nic' ? [[rule.id, { rule, on }] as const] : [])),
    );
    const portion = new Portion(PORTION);
    for (const [id, { text }] of this.#installed) {
      const there = wanted.get(id);
      if (there?.on && textOf(there.rule) === text) continue;
      this.take(id);
      this.#installed.delete(id);
      if (portion.full()) await nextTurn();
    }
    for (const [id, { rule, on }] of wanted) {
      if (this.#installed.has(id)) continue;
      this.#installed.set(id, on ? this.#install(rule) : IDLE);
      if (portion.full()) await nextTurn();
    }
  }

  /** Takes a rule out of the NIC at once: before it is out of the programs. */
  take(id: string): void {
    const installed = this.#installed.get(id);
    if (installed === undefined) return;
    this.#removeAll(installed.rules);
    this.#installed.set(id, IDLE);
  }

  /** For the daemon after a sudden end of this one. */
  get legacy(): SavedNicRule[] {
    return [...this.#installed].flatMap(([id, { rules }]) =>
      rules.map(({ location, spec }) => ({ id, location, spec: Buffer.from(spec).toString('hex') })),
    );
  }

  /** Takes all of ours out of the NIC. */
  close(): void {
    for (const { rules } of this.#installed.values()) this.#removeAll(rules);
    this.#installed.clear();
  }

  #install(rule: Rule): Installed {
    const text = textOf(rule);
    const specs = nicSpecs(rule);
    if (typeof specs === 'string') return { text, state: inXdp(specs), rules: [] };
    if (this.legacy.length + specs.length > MOST)
      return { text, state: inXdp(`there are ${MOST} rules in the NIC already`), rules: [] };
    const rules: { location: number; spec: Uint8Array }[] = [];
    try {
      for (const spec of specs) {
        const location = this.#port.insert(spec);
        rules.push({ location, spec });
        if (this.#has(location, spec)) continue;
        rules.pop();
        this.#port.remove(location);
        this.#removeAll(rules);
        return { text, state: inXdp('the NIC gives back another rule than it was given'), rules: [] };
      }
    } catch (error) {
      this.#removeAll(rules);
      return { text, state: inXdp(`the NIC refuses it: ${(error as Error).message}`), rules: [] };
    }
    return { text, state: IN_NIC, rules };
  }

  #has(location: number, spec: Uint8Array): boolean {
    try {
      const given = this.#port.read(location);
      return given !== undefined && sameSpec(spec, given);
    } catch {
      // A NIC that cannot be asked: nothing is known of what it has.
      return false;
    }
  }

  /** Only what is still ours: somebody else may have the place since. */
  #removeAll(rules: Installed['rules']): void {
    for (const { location, spec } of rules) {
      try {
        const given = this.#port.read(location);
        if (given !== undefined && sameSpec(spec, given)) this.#port.remove(location);
      } catch (error) {
        this.#warn(`rule ${location} of the NIC could not be removed: ${(error as Error).message}`);
      }
    }
  }
}
