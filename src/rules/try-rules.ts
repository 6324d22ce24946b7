import { SluiceError } from '../base/errors.ts';
import type { CbpfProgram } from '../ebpf/index.ts';
import { BpfMap, MapType } from '../kernel/index.ts';
import { SlRuleMatches } from './layout.gen.ts';
import { loadRuleProgram } from './load-programs.ts';
import { compileRules } from './program/compile-rules.ts';
import type { Rule } from './spec.ts';

/** Slots of a program array of our own: nothing acts, nothing goes on. */
const SLOTS = { shunt: 1, act: 2, first: 4, count: 28 } as const;
/** Bytes of the gate's scratch at least, of ours for these runs. */
const SCRATCH = 256;

/**
 * Runs a rule in the kernel on the packets that came with it, beside the live ones: a program of its own, in maps of its own.
 * Throws RULE, naming rule and packet, when it does not match what it should.
 */
export function tryRule(rule: Pick<Rule, 'id' | 'tests'>, program: CbpfProgram, frameLength: number): void {
  if (rule.tests.match.length + rule.tests.noMatch.length === 0) return;
  using array = BpfMap.create({
    type: MapType.progArray,
    keySize: 4,
    valueSize: 4,
    maxEntries: 32,
    name: 'rules_try',
  });
  using scratch = BpfMap.create({
    type: MapType.percpuArray,
    keySize: 4,
    valueSize: SCRATCH,
    maxEntries: 1,
    name: 'scratch_try',
  });
  using matches = BpfMap.create({
    type: MapType.percpuArray,
    keySize: 4,
    valueSize: SlRuleMatches.size,
    maxEntries: 1,
    name: 'matches_try',
  });
  const { programs } = compileRules([{ row: 0, program }], {
    maps: { rules: array.fd, scratch: scratch.fd, matches: matches.fd },
    slots: SLOTS,
    frameLength,
    chain: true,
    verdicts: true,
  });
  const [only] = programs;
  using loaded = loadRuleProgram(only, new Set(), () => rule.id);
  const key = new Uint8Array(4);
  for (const [wanted, packets] of [
    [true, rule.tests.match],
    [false, rule.tests.noMatch],
  ] as const) {
    for (const [index, hex] of packets.entries()) {
      const data = Buffer.from(hex, 'hex');
      scratch.set(key, lengths(scratch.valueBytes, frameLength, data.length));
      if ((loaded.testRun({ data }).retval === 1) === wanted) continue;
      const which = `${wanted ? 'match' : 'noMatch'}[${index}]`;
      throw new SluiceError(
        'RULE',
        `rule ${rule.id} ${wanted ? 'does not match' : 'matches'} its test packet ${which}`,
        {
          help: 'the rules before stay in force; change the expression or the packet',
        },
      );
    }
  }
}

/** A scratch of each CPU that says nothing but how long the frame is. */
function lengths(bytes: number, offset: number, length: number): Uint8Array {
  const value = new Uint8Array(bytes);
  const view = new DataView(value.buffer);
  for (let at = offset; at < bytes; at += SCRATCH) view.setUint32(at, length, true);
  return value;
}
