import {
  alu32,
  alu64,
  Cbpf,
  type CbpfProgram,
  compileFragment,
  constant,
  type Item,
  jump,
  jumpTo,
  label,
  load,
  plain,
  register,
  store,
} from '../../ebpf/index.ts';
import { SlRuleMatches } from '../layout.gen.ts';
import { CTX, DATA, DATA_END, FREE, LENGTH, MATCHES, STACK } from './abi.ts';

const MOST = (SlRuleMatches.size - SlRuleMatches.members.rule) / 4 - 1;

/** Whether a program asks for the length of the packet. */
export function asksLength(program: CbpfProgram): boolean {
  return program.some(
    ({ code }) => code === (Cbpf.LD | Cbpf.W | Cbpf.LEN) || code === (Cbpf.LDX | Cbpf.W | Cbpf.LEN),
  );
}

/**
 * The switch of a rule: a jump whose outcome the verifier knows, since the matches are never a null pointer. As it stands
 * the rule is on; with the opposite condition (`switchedOff`) the verifier removes all of the rule. Nothing is left
 * of the jump itself in either case.
 */
export const RULE_SWITCH = jump('eq', MATCHES, constant(0), 64);
export const RULE_SWITCHED_OFF = jump('ne', MATCHES, constant(0), 64);

/** Reads the bounds of the packet anew: the verifier then forgets what it knew, and ways that meet are one way for it. */
export function freshBounds(): Item[] {
  return [plain(load(4, DATA, CTX, 0)), plain(load(4, DATA_END, CTX, 4))];
}

/** What a candidate is made of. */
export interface CandidateOptions {
  readonly program: CbpfProgram;
  /** Row of the rule. */
  readonly row: number;
  readonly prefix: string;
}

/** Runs the expression of a rule, and notes the rule when it matches. Falls through in either case. */
export function candidateCode(options: CandidateOptions): Item[] {
  const { program, row, prefix } = options;
  const { members } = SlRuleMatches;
  const [match, done] = [`${prefix}m`, `${prefix}d`];
  const code: Item[] = [jumpTo(RULE_SWITCH, done)];
  code.push(...freshBounds());
  const length = asksLength(program);
  if (length) code.push(plain(load(4, LENGTH, MATCHES, members.frame_len)));
  const fragment = compileFragment(program, {
    registers: { data: DATA, dataEnd: DATA_END, ctx: CTX, free: FREE, ...(length ? { length: LENGTH } : {}) },
    match,
    noMatch: done,
    next: 'match',
    prefix: `${prefix}f`,
    stack: STACK,
  });
  code.push(
    ...fragment.code,
    label(match),
    plain(load(4, 1, MATCHES, members.count)),
    jumpTo(jump('ge', 1, constant(MOST)), `${prefix}x`),
    plain(alu64('mov', 2, register(MATCHES))),
    plain(alu64('mov', 3, register(1))),
    plain(alu64('lsh', 3, constant(2))),
    plain(alu64('add', 2, register(3))),
    plain(alu32('mov', 3, constant(row))),
    plain(store(4, 2, members.rule, 3)),
    label(`${prefix}x`),
    plain(alu32('add', 1, constant(1))),
    plain(store(4, MATCHES, members.count, 1)),
    label(done),
  );
  return code;
}
