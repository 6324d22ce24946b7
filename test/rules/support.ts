import { join } from 'node:path';
import { type CbpfProgram, decodeCbpf } from '../../src/ebpf/index.ts';
import { compileFilterText } from '../../src/filter/index.ts';
import { SlPacket } from '../../src/gate/layout.gen.ts';
import { RulesSlot } from '../../src/gate/layout.ts';
import { installOwn, occupy } from '../../src/gate/slots.ts';
import { type BpfObject, compileFilter, loadObject, packageRoot } from '../../src/kernel/index.ts';
import { LiveRules, type LiveRulesOptions, type PlacedHere } from '../../src/rules/live-rules.ts';
import { parseAction, parseRule, type RuleInput } from '../../src/rules/spec.ts';

/** A gate of its own with rules, not attached to anything: packets come by test run. */
export class RuleGate {
  readonly object: BpfObject;
  readonly live: LiveRules;

  constructor(options: Partial<LiveRulesOptions> = {}) {
    this.object = loadObject(join(packageRoot(), 'build', 'bpf', 'gate.bpf.o'), {
      constants: { cfg_rules: 1 },
    });
    const rules = this.object.map('rules');
    installOwn(rules, this.object);
    this.live = new LiveRules({
      rules,
      scratch: this.object.map('scratch'),
      enter: (program) => occupy(rules, RulesSlot.entry, program),
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

  async [Symbol.asyncDispose](): Promise<void> {
    await this.live.close();
    this.object.close();
  }
}

export const tcpdump = (expression: string): CbpfProgram => decodeCbpf(compileFilter(expression));

/** A rule with what its expression compiles to; the action as people write it. */
export function rule(
  id: string,
  expr: string,
  action = 'count',
  more: Partial<RuleInput> = {},
): PlacedHere & { readonly program: CbpfProgram } {
  const parsed = parseRule({ id, expr, action: parseAction(action), ...more });
  return { rule: parsed, on: parsed.enabled, program: compileFilterText(expr, parsed.lang) };
}
