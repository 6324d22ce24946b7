import { SluiceError } from '../../src/base/errors.ts';
import { ClassicEngine, compileFilterText, FrameBatch } from '../../src/filter/index.ts';
import type { RequestOf, RuleRow, RulesAdded } from '../../src/gate/control-protocol.ts';
import type { RuleTable } from '../../src/gate/daemon-fleet.ts';
import { NO_COUNTS } from '../../src/rules/rows.ts';
import {
  actionText,
  inScope,
  type Node,
  parseRule,
  type Rule,
  type RuleScope,
} from '../../src/rules/spec.ts';

/** What is wrong with expressions that were tried: all edges of a process are told the same. */
const judged = new Map<string, SluiceError | undefined>();

/** Compiles a rule and runs it over the packets that came with it, without a kernel. */
function judge(rule: Rule): SluiceError | undefined {
  try {
    const engine = new ClassicEngine(compileFilterText(rule.expr, rule.lang));
    for (const [wanted, packets] of [
      [true, rule.tests.match],
      [false, rule.tests.noMatch],
    ] as const) {
      for (const hex of packets) {
        const frame = Buffer.from(hex, 'hex');
        const batch = new FrameBatch(1);
        batch.add(frame, 0, frame.length, frame.length);
        engine.run(batch);
        if ((batch.returns[0] !== 0) !== wanted)
          return new SluiceError('RULE', `rule ${rule.id} fails one of its test packets`);
      }
    }
  } catch (error) {
    if (error instanceof SluiceError) return error;
    throw error;
  }
  return undefined;
}

function check(rule: Rule): void {
  const key = JSON.stringify([rule.expr, rule.lang, rule.tests]);
  if (!judged.has(key)) judged.set(key, judge(rule));
  const error = judged.get(key);
  if (error !== undefined) throw error;
}

/** Rules as a gate keeps them, but for the kernel: no packet meets them. */
export class MemoryRules implements RuleTable {
  readonly #rules = new Map<string, Rule>();
  readonly #node: Node;

  constructor(node: Node) {
    this.#node = node;
  }

  has(id: string): boolean {
    return this.#rules.has(id);
  }

  ids(): string[] {
    return [...this.#rules.keys()];
  }

  holdsHere(scope: RuleScope): boolean {
    return inScope(scope, this.#node);
  }

  /** @throws SluiceError USAGE, FILTER_INVALID, RULE; then nothing has changed */
  add(request: RequestOf<'rule.add'>): Promise<RulesAdded> {
    const rules = request.rules.map(parseRule);
    for (const rule of rules) check(rule);
    for (const rule of rules) this.#rules.set(rule.id, rule);
    return Promise.resolve({ added: rules.map(({ id }) => id), programs: null, offload: [] });
  }

  remove({ ids }: RequestOf<'rule.remove'>): Promise<{ removed: RuleRow[] }> {
    for (const id of ids) this.#rules.delete(id);
    return Promise.resolve({ removed: [] });
  }

  /** Nothing is compiled here in any case. */
  take(): Promise<void> {
    return Promise.resolve();
  }

  made(): ReturnType<RuleTable['made']> {
    return { taken: 0, here: this.#rules.size, whyNot: null };
  }

  /** As a gate's daemon does every second. */
  expire(): void {
    const now = Date.now() / 1000;
    for (const [id, { expires }] of this.#rules)
      if (expires !== null && expires <= now) this.#rules.delete(id);
  }

  rows(): RuleRow[] {
    return [...this.#rules.values()].map((rule) => {
      const { id, expr, lang, action, priority, scope, enabled, expires, note } = rule;
      const inHere = inScope(scope, this.#node);
      const shown = { id, expr, lang, action: actionText(action), priority, scope, inScope: inHere };
      return { ...shown, enabled, expires, note, number: null, ...NO_COUNTS, offload: null };
    });
  }
}
