import { join } from 'node:path';
import { type CbpfProgram, decodeCbpf } from '../../src/ebpf/index.ts';
import { SlPacket } from '../../src/gate/layout.gen.ts';
import { type BpfObject, compileFilter, loadObject, packageRoot } from '../../src/kernel/index.ts';
import {
  type CompiledRule,
  LiveRules,
  type LiveRulesOptions,
  RULE_SLOTS,
} from '../../src/rules/live-rules.ts';
import { parseAction, parseRule, type RuleInput } from '../../src/rules/spec.ts';

const word = (value: number): Uint8Array => new Uint8Array(new Uint32Array([value]).buffer);

/** A gate of its own with rules, not attached to anything: packets come by test run. */
export class RuleGate {
  readonly object: BpfObject;
  readonly live: LiveRules;

  constructor(options: Partial<LiveRulesOptions> = {}) {
    this.object = loadObject(join(packageRoot(), 'build', 'bpf', 'gate.bpf.o'), {
      constants: { cfg_rules: 1 },
    });
    const rules = this.object.map('rules');
    rules.set(word(RULE_SLOTS.shunt), word(this.object.program('sluice_shunt').fd));
    rules.set(word(RULE_SLOTS.exit), word(this.object.program('sluice_exit').fd));
    this.live = new LiveRules({
      rules,
      scratch: this.object.map('scratch'),
      frameLength: SlPacket.members.frame_len,
      now: () => performance.now() / 1000,
      grace: () => Promise.resolve(),
      ...options,
    });
  }

  /** The verdict on a packet: XDP_DROP 1, XDP_PASS 2. */
  run(data: Uint8Array): number {
    return this.object.program('sluice_gate').testRun({ data }).retval;
  }

  [Symbol.dispose](): void {
    this.live.close();
    this.object.close();
  }
}

export const tcpdump = (expression: string): CbpfProgram => decodeCbpf(compileFilter(expression));

/** A rule of a tcpdump expression; the action as people write it. */
export function rule(
  id: string,
  expr: string,
  action = 'count',
  more: Partial<RuleInput> = {},
  program: CbpfProgram = tcpdump(expr),
): CompiledRule {
  const parsed = parseRule({ id, expr, action: parseAction(action), ...more });
  return { rule: parsed, program, on: parsed.enabled };
}
