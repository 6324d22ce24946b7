import { SluiceError } from '../base/errors.ts';
import { type Item, jumpTo, label, plain } from './assembler.ts';
import type { CbpfProgram } from './cbpf/instruction.ts';
import { validateCbpf } from './cbpf/validate.ts';
import { alu64, call, Helper, jump, load, type Register, register } from './instruction.ts';
import type { Ir } from './ir/ir.ts';
import { irText } from './ir/text.ts';
import type { Target } from './lower/emit.ts';
import { type Lowered, lower } from './lower/lower.ts';
import { type Fragment, type FragmentOptions, type OptionalPass, type Passes, XDP_REACH } from './options.ts';
import { build } from './passes/build.ts';
import { keepByteOrder } from './passes/byte-order.ts';
import { propagateConstants } from './passes/constants.ts';
import { removeDeadCode } from './passes/dead-code.ts';
import { expand } from './passes/expand.ts';
import { guardDivision } from './passes/guard-division.ts';
import { guardByCall, guardPacket } from './passes/guard-packet.ts';
import { materialize } from './passes/materialize.ts';
import { narrowLoads } from './passes/narrow-loads.ts';
import { shareGuards } from './passes/share-guards.ts';
import { shareValues } from './passes/share-values.ts';
import { split } from './passes/split.ts';
import { threadJumps } from './passes/thread-jumps.ts';
import { widenGuards } from './passes/widen-guards.ts';

/** Bytes of stack that a program has. */
const STACK = 512;

type Pass = readonly [name: OptionalPass | undefined, run: (ir: Ir) => void];

/** What is done with the values of a filter, in this order; what has no name cannot be left out. */
const DIRECT: readonly Pass[] = [
  ['constants', propagateConstants],
  [undefined, guardDivision],
  [undefined, guardPacket],
  ['share-values', shareValues],
  ['byte-order', keepByteOrder],
  ['dead-code', removeDeadCode],
  ['narrow-loads', narrowLoads],
  ['thread-jumps', threadJumps],
  ['widen-guards', widenGuards],
  ['share-guards', shareGuards],
  ['dead-code', removeDeadCode],
  [undefined, materialize],
];

/** The same where each load is a call: there is nothing to guard, and no load may become smaller. */
const BY_CALL: readonly Pass[] = DIRECT.filter(
  ([name]) => name !== 'narrow-loads' && name !== 'widen-guards' && name !== 'share-guards',
).map((pass) => (pass[1] === guardPacket ? [undefined, guardByCall] : pass));

function optimized(
  program: CbpfProgram,
  rows: readonly Pass[],
  wantsValue: boolean,
  reach: number,
  passes: Passes,
): Ir {
  const ir = build(split(expand(program)), wantsValue, reach);
  for (const [name, run] of rows) if (name === undefined || passes[name] !== false) run(ir);
  return ir;
}

const isKept = (register: Register): boolean => register >= 6 && register <= 9;

const calls = ({ frags = false, directAccess = true }: FragmentOptions): boolean => frags || !directAccess;

function checkOptions(options: FragmentOptions): void {
  const { registers, stack = 0, packetOffset = 0 } = options;
  const { data, dataEnd, ctx, length, free } = registers;
  const fixed = [data, dataEnd, ctx, length].filter((one) => one !== undefined);
  if (new Set([...fixed, ...free]).size !== fixed.length + free.length || [...fixed, ...free].includes(10))
    throw new RangeError('registers of a fragment: one is named twice, or is r10');
  if (free.length < 3) throw new RangeError('a fragment wants at least 3 free registers');
  if (calls(options) && (ctx === undefined || !isKept(ctx) || (length !== undefined && !isKept(length))))
    throw new RangeError('with calls a fragment wants the context, and the length, in r6 to r9');
  if (stack < 0 || stack % 8 !== 0)
    throw new RangeError('the stack of a fragment is counted in words of 8 bytes');
  if (packetOffset < 0 || packetOffset > XDP_REACH) throw new RangeError('the packet begins out of reach');
}

/** Whether a filter asks for something of a packet besides its bytes. */
const asksFor = (ir: Ir, op: 'length' | 'interface'): boolean =>
  ir.blocks.some(({ body }) => body.some((node) => node.op === op));

/**
 * Compiles a classic BPF program for Ethernet into a piece of an XDP program. FILTER_INVALID when the program is not
 * valid, FILTER_UNSUPPORTED when it asks for what XDP does not know; RangeError for options that do not fit together.
 */
export function compileFragment(program: CbpfProgram, options: FragmentOptions): Fragment {
  validateCbpf(program);
  checkOptions(options);
  const fragment = fragmentOf(program, options);
  if (fragment.stack <= STACK) return fragment;
  // Values that are kept for later have filled the stack: without them, what the classic machine holds is left.
  const { passes } = options;
  const lean = fragmentOf(program, {
    ...options,
    passes: { ...passes, 'share-values': false, 'share-guards': false },
  });
  if (lean.stack <= STACK) return lean;
  throw new SluiceError(
    'FILTER_UNSUPPORTED',
    `the filter wants ${lean.stack} bytes of stack; there are ${STACK}`,
  );
}

function fragmentOf(program: CbpfProgram, options: FragmentOptions): Fragment {
  const {
    registers,
    match,
    noMatch,
    next,
    prefix,
    stack = 0,
    frags = false,
    directAccess = true,
    packetOffset = 0,
    passes = {},
  } = options;
  const { data, dataEnd, ctx, length, value, free } = registers;
  const verdicts = placed(options);
  const wantsValue = value !== undefined;
  const reach = XDP_REACH - packetOffset;
  const ir = optimized(program, DIRECT, wantsValue, reach, passes);
  if (asksFor(ir, 'interface') && ctx === undefined)
    throw new RangeError('the filter asks for the interface: it wants the context in a register');
  if (calls(options) && length === undefined && asksFor(ir, 'length'))
    throw new RangeError('the filter asks for the length: with calls it wants it in a register');
  const slow = `${prefix}slow`;
  const target: Target = {
    data,
    dataEnd,
    ctx,
    length,
    value,
    match,
    noMatch,
    outOfBounds: frags ? slow : noMatch,
    prefix,
    stack,
    packetOffset,
  };
  const behind = next === undefined ? undefined : next === 'match' ? match : noMatch;
  const lowerCalls = (calling: Ir, own: string, placing: typeof verdicts): Lowered =>
    lower(calling, {
      target: { ...target, prefix: own },
      pool: free.filter(isKept),
      scratch: [0, 1],
      behind,
      verdicts: placing,
    });
  if (!directAccess) {
    const calling = optimized(program, BY_CALL, wantsValue, reach, passes);
    return printable(lowerCalls(calling, prefix, verdicts), () => irText(calling));
  }
  if (!frags || !hasGuards(ir))
    return printable(lower(ir, { target, pool: free, behind, verdicts }), () => irText(ir));
  const direct = lower(ir, { target, pool: free, behind: undefined, verdicts: [] });
  const calling = optimized(program, BY_CALL, wantsValue, reach, passes);
  const byCall = lowerCalls(calling, `${prefix}s`, verdicts);
  const code = [...direct.code, label(slow), ...whenLinear(ctx ?? 1, noMatch), ...byCall.code];
  return printable(
    { code, stack: Math.max(direct.stack, byCall.stack) },
    () => `${irText(ir)}${slow}:\n${irText(calling)}`,
  );
}

/** The verdicts that the fragment places itself, each with its label. */
const placed = ({
  verdicts = {},
  match,
  noMatch,
}: FragmentOptions): (readonly [string, readonly Item[]])[] => [
  ...(verdicts.match === undefined ? [] : [[match, verdicts.match] as const]),
  ...(verdicts.noMatch === undefined ? [] : [[noMatch, verdicts.noMatch] as const]),
];

/** With the text of the filter, made when somebody asks for it: most who compile thousands of filters do not. */
const printable = ({ code, stack }: Lowered, text: () => string): Fragment => ({
  code,
  stack,
  get ir() {
    return text();
  },
});

const hasGuards = (ir: Ir): boolean => ir.blocks.some(({ body }) => body.some(({ op }) => op === 'guard'));

/** A frame in one buffer has no more than direct access has seen: no match. */
function whenLinear(ctx: Register, noMatch: string): Item[] {
  return [
    plain(alu64('mov', 1, register(ctx))),
    plain(call(Helper.xdp_get_buff_len)),
    plain(load(4, 1, ctx, 4)),
    plain(load(4, 2, ctx, 0)),
    plain(alu64('sub', 1, register(2))),
    jumpTo(jump('eq', 0, register(1), 64), noMatch),
  ];
}
