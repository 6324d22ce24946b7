import { SluiceError } from '../../base/errors.ts';
import {
  alu32,
  alu64,
  assemble,
  type CbpfProgram,
  call,
  constant,
  EXIT,
  goto,
  Helper,
  type Instruction,
  type Item,
  jump,
  jumpTo,
  label,
  load,
  load64,
  Pseudo,
  plain,
  register,
  store,
  storeConstant,
  wide,
} from '../../ebpf/index.ts';
import { buildGraph, type GraphNode } from '../analysis/graph.ts';
import { SlRuleMatches } from '../layout.gen.ts';
import { CTX, MATCHES, type RuleMaps } from './abi.ts';
import { asksLength, freshBounds, isSwitchItem } from './candidate.ts';
import { LIMITS, longestPath, MOST_CALLS, PROGRAM_COST, type RuleCost, stackOf } from './cost.ts';
import { type Part, type Place, Planner } from './plan.ts';

/** A rule as the compiler sees it. */
export interface RuleExpression {
  /** Row of the rule in the tables of the kernel. */
  readonly row: number;
  /** Validated. */
  readonly program: CbpfProgram;
}

export interface RuleProgramOptions {
  readonly maps: RuleMaps;
  /** Slots of the map `rules`. */
  readonly slots: {
    /** Goes on to the shunts. */
    readonly shunt: number;
    /** Acts on what matched. */
    readonly act: number;
    /** First of those that hold the programs. */
    readonly first: number;
    readonly count: number;
  };
  /** Offset of the frame's length in the gate's scratch (struct sl_packet). */
  readonly frameLength: number;
  /** Whether the programs take frames in several buffers, by their flags; as the gate. Default true. */
  readonly frags?: boolean;
  /** One candidate after the other, nothing shared: what the decision graph is measured against. */
  readonly chain?: boolean;
  /** Ends with 1 (XDP_DROP) when something matched and 2 when not, and nothing acts: for trying rules. */
  readonly verdicts?: boolean;
  /** Cost of one program; default: as many instructions as jumps reach. */
  readonly programSize?: number;
}

export interface RuleProgram {
  /** Slot of the map `rules` by which others go to it; undefined: none does. */
  readonly slot: number | undefined;
  readonly instructions: readonly Instruction[];
  /** Rows of the rules in the order of their switches (RULE_SWITCH). */
  readonly switches: readonly number[];
}

export interface RulePrograms {
  /** The one where packets come in is the last. Empty without rules. */
  readonly programs: readonly RuleProgram[];
  /** A slot for that one, which no other of them has. */
  readonly entry: number;
  readonly graph: GraphNode;
  readonly cost: RuleCost;
}

const HELP = 'give the rules targets, ports or prefixes by which they can be told apart, or take some away';

const NO_COST: RuleCost = {
  count: 0,
  instructions: 0,
  tailCalls: 0,
  stackBytes: 0,
  longestPath: 0,
  branches: 0,
};

const FINISH = 'finish';
/** Where a program goes that lacks its map; and one that lacks the next program, which leaves nothing behind. */
const BROKEN = 'broken';
const LOST = 'lost';
const { members } = SlRuleMatches;

function tailCall(map: number, slot: number): Item[] {
  return [
    plain(alu64('mov', 1, register(CTX))),
    wide(load64(2, map, 0, Pseudo.MAP_FD)),
    plain(alu32('mov', 3, constant(slot))),
    plain(call(Helper.tail_call)),
  ];
}

/** r0 = the value of element 0 of a map, or on to `none`. */
function firstElement(map: number, none: string): Item[] {
  return [
    plain(storeConstant(4, 10, -4, 0)),
    plain(alu64('mov', 2, register(10))),
    plain(alu64('add', 2, constant(-4))),
    wide(load64(1, map, 0, Pseudo.MAP_FD)),
    plain(call(Helper.map_lookup_elem)),
    jumpTo(jump('eq', 0, constant(0), 64), none),
  ];
}

/**
 * Compiles rules into the programs that stand in the gate's rules slot. Pure: the same rules give the same bytes
 * everywhere. FILTER_UNSUPPORTED when they do not fit the slots or the kernel's limit of tail calls.
 */
export function compileRules(rules: readonly RuleExpression[], options: RuleProgramOptions): RulePrograms {
  const { maps, slots, chain = false, programSize = PROGRAM_COST } = options;
  const graph = buildGraph(
    rules.map(({ program }) => program),
    chain,
  );
  const planner = new Planner({
    size: programSize,
    finish: FINISH,
    rowOf: (rule) => rules[rule].row,
    tailCall: ({ program, entry }: Place) => [
      plain(storeConstant(4, MATCHES, members.entry, entry + 1)),
      ...tailCall(maps.rules, slots.first + program),
      goto(LOST),
    ],
  });
  const root = planner.plan(graph);
  if (root === undefined) return { programs: [], entry: slots.first, graph, cost: NO_COST };
  if (planner.parts.length > slots.count || root.calls > MOST_CALLS) {
    const what = `the rules need ${planner.parts.length} programs and ${root.calls} tail calls in a row; there is room for ${slots.count} and ${MOST_CALLS}`;
    throw new SluiceError('FILTER_UNSUPPORTED', what, { help: HELP });
  }
  const length = rules.some(({ program }) => asksLength(program));
  let cost: RuleCost = { ...NO_COST, count: planner.parts.length, tailCalls: root.calls };
  const programs = planner.parts.map((part, index): RuleProgram => {
    const isRoot = index === root.program;
    const code = [...begin(part, isRoot ? root : undefined, length, options), ...end(options)];
    const instructions = assemble(code);
    cost = withProgram(cost, code, instructions);
    return {
      slot: part.entries.some(({ called }) => called) ? slots.first + index : undefined,
      instructions,
      switches: code.flatMap((item) => (isSwitchItem(item) ? [item.row] : [])),
    };
  });
  const [first] = programs.splice(root.program, 1);
  return { programs: [...programs, first], entry: slots.first + root.program, graph, cost };
}

/** Adds a program to what a set costs. @throws SluiceError FILTER_UNSUPPORTED when it is more than the kernel allows one */
function withProgram(cost: RuleCost, code: readonly Item[], instructions: readonly Instruction[]): RuleCost {
  const path = longestPath(code);
  const stack = stackOf(instructions);
  for (const [what, has, most] of [
    ['instructions', instructions.length, LIMITS.instructions],
    ['branches on one way', path.branches, LIMITS.branches],
    ['bytes of stack', stack, LIMITS.stack],
  ] as const) {
    if (has > most)
      throw new SluiceError(
        'FILTER_UNSUPPORTED',
        `a program of the rules has ${has} ${what}; the kernel takes ${most}`,
        { help: HELP },
      );
  }
  return {
    ...cost,
    instructions: cost.instructions + instructions.length,
    stackBytes: Math.max(cost.stackBytes, stack),
    longestPath: Math.max(cost.longestPath, path.instructions),
    branches: Math.max(cost.branches, path.branches),
  };
}

function begin(part: Part, root: Place | undefined, length: boolean, options: RuleProgramOptions): Item[] {
  const { maps, frameLength } = options;
  const code: Item[] = [
    plain(alu64('mov', CTX, register(1))),
    ...firstElement(maps.matches, BROKEN),
    plain(alu64('mov', MATCHES, register(0))),
    plain(load(4, 1, MATCHES, members.entry)),
    plain(storeConstant(4, MATCHES, members.entry, 0)),
  ];
  for (const [entry, { label, called }] of part.entries.entries()) {
    if (called) code.push(jumpTo(jump('eq', 1, constant(entry + 1)), label));
  }
  if (root === undefined) code.push(goto(LOST));
  else {
    if (length) {
      code.push(
        ...firstElement(maps.scratch, BROKEN),
        plain(load(4, 1, 0, frameLength)),
        plain(store(4, MATCHES, members.frame_len, 1)),
      );
    }
    code.push(goto(part.entries[root.entry].label));
  }
  return [
    ...code,
    ...part.entries
      .toReversed()
      .flatMap(({ label: name, inner, code }) => [label(name), ...freshBounds(inner), ...code]),
  ];
}

/** Acts on what matched, or goes on to the shunts. A missing program passes the packet. */
function end({ maps, slots, verdicts = false }: RuleProgramOptions): Item[] {
  const matched = verdicts
    ? [plain(storeConstant(4, MATCHES, members.count, 0)), plain(alu32('mov', 0, constant(1))), plain(EXIT)]
    : tailCall(maps.rules, slots.act);
  return [
    label(FINISH),
    plain(load(4, 1, MATCHES, members.count)),
    jumpTo(jump('eq', 1, constant(0)), 'shunt'),
    ...matched,
    label(LOST),
    plain(storeConstant(4, MATCHES, members.count, 0)),
    plain(storeConstant(4, MATCHES, members.entry, 0)),
    label('shunt'),
    label(BROKEN),
    ...tailCall(maps.rules, slots.shunt),
    plain(alu32('mov', 0, constant(2))),
    plain(EXIT),
  ];
}
