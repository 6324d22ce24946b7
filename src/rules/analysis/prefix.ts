import { Cbpf, type CbpfInstruction, type CbpfProgram, validateCbpf } from '../../ebpf/index.ts';

/**
 * Rules of one language begin alike: they look for the same header, through tags and extension headers, and only then for
 * what makes each of them another one. Such a beginning is run once for all of them; it finds a place in the packet (what
 * it leaves in X), and what is left of each rule is a program over the packet from that place on.
 */
export interface PrefixGroup {
  /** Returns the place + 1, or 0 when none of the rules match. */
  readonly prefix: CbpfProgram;
  readonly members: readonly { readonly rule: number; readonly remainder: CbpfProgram }[];
}

/** Fewer rules than this are left as they are. */
const WORTH_A_GROUP = 4;

const { LD, LDX, ST, STX, ALU, JMP, RET, MISC, IND, ABS, MEM, MSH, X, A } = Cbpf;
const JA = JMP | Cbpf.JA;
const FAIL: CbpfInstruction = { code: RET, jt: 0, jf: 0, k: 0 };

const classOf = ({ code }: CbpfInstruction): number => code & 0x07;
const modeOf = ({ code }: CbpfInstruction): number => code & 0xe0;

/** Whether nothing but "no match" can come of an instruction and what follows. */
function hopeless(program: CbpfProgram): boolean[] {
  const out: boolean[] = [];
  for (let at = program.length - 1; at >= 0; at--) {
    const { code, jt, jf, k } = program[at];
    if (classOf(program[at]) === RET) out[at] = code === RET && k === 0;
    else if (code === JA) out[at] = out[at + 1 + k];
    else if (classOf(program[at]) === JMP) out[at] = out[at + 1 + jt] && out[at + 1 + jf];
    else out[at] = out[at + 1];
  }
  return out;
}

/** Where a program can be cut: before these instructions, with the text of what stands before each. */
function cuts(program: CbpfProgram): Map<number, string> {
  const found = new Map<number, string>();
  const lost = hopeless(program);
  let text = '';
  let farthest = 0;
  for (const [at, instruction] of program.entries()) {
    if (at > 0 && farthest <= at && !lost[at] && remainderOf(program, at) !== undefined) found.set(at, text);
    const { code, jt, jf, k } = instruction;
    if (classOf(instruction) === RET) {
      if (!lost[at]) break;
      text += 'fail ';
      continue;
    }
    const go = (skip: number): string => {
      if (lost[at + 1 + skip]) return 'fail';
      farthest = Math.max(farthest, at + 1 + skip);
      return String(skip);
    };
    if (code === JA) text += `ja ${go(k)} `;
    else if (classOf(instruction) === JMP) text += `${code} ${k} ${go(jt)} ${go(jf)} `;
    else text += `${code} ${k} `;
  }
  return found;
}

/** Whether a register counts from the place: 1, or is a number of its own: 0. */
interface Origins {
  a: number;
  x: number;
  memory: Map<number, number>;
}

/**
 * What is left of a program behind a cut, as a program over the packet from X on; undefined where that is not the same:
 * A or scratch memory from before is used, a place is used as a number, or the packet is read from its beginning.
 */
function remainderOf(program: CbpfProgram, cut: number): CbpfProgram | undefined {
  const origins: (Origins | undefined)[] = [];
  // A is unknown: 2 stands for what must not be used.
  origins[cut] = { a: 2, x: 1, memory: new Map() };
  for (let at = cut; at < program.length; at++) {
    const now = origins[at];
    if (now === undefined) continue;
    const instruction = program[at];
    const next = advance(instruction, now);
    if (next === undefined) return undefined;
    const { jt, jf, k, code } = instruction;
    const skips =
      classOf(instruction) === RET ? [] : classOf(instruction) !== JMP ? [0] : code === JA ? [k] : [jt, jf];
    for (const skip of skips) {
      const there = origins[at + 1 + skip];
      if (there === undefined) origins[at + 1 + skip] = next;
      else origins[at + 1 + skip] = both(there, next);
    }
  }
  const remainder = [{ code: LDX | Cbpf.IMM, jt: 0, jf: 0, k: 0 }, ...program.slice(cut)];
  try {
    validateCbpf(remainder);
    return remainder;
  } catch {
    return undefined;
  }
}

function both(one: Origins, other: Origins): Origins {
  const memory = new Map<number, number>();
  for (const word of new Set([...one.memory.keys(), ...other.memory.keys()])) {
    memory.set(word, one.memory.get(word) === other.memory.get(word) ? (one.memory.get(word) ?? 2) : 2);
  }
  return { a: one.a === other.a ? one.a : 2, x: one.x === other.x ? one.x : 2, memory };
}

function advance(instruction: CbpfInstruction, now: Origins): Origins | undefined {
  const { code, k } = instruction;
  const next = { ...now };
  switch (classOf(instruction)) {
    case LD:
      if (modeOf(instruction) === ABS) return undefined;
      if (modeOf(instruction) === IND && now.x !== 1) return undefined;
      next.a = modeOf(instruction) === MEM ? (now.memory.get(k) ?? 2) : 0;
      return next;
    case LDX:
      if (modeOf(instruction) === MSH) return undefined;
      next.x = modeOf(instruction) === MEM ? (now.memory.get(k) ?? 2) : 0;
      return next;
    case ST:
      return { ...next, memory: new Map(now.memory).set(k, now.a) };
    case STX:
      return { ...next, memory: new Map(now.memory).set(k, now.x) };
    case ALU: {
      const operand = code & X ? now.x : 0;
      const operation = code & 0xf0;
      if (operation === Cbpf.ADD) next.a = now.a + operand;
      else if (operation === Cbpf.SUB) next.a = now.a - operand;
      else if (now.a !== 0 || operand !== 0) return undefined;
      return now.a < 2 && operand < 2 && (next.a === 0 || next.a === 1) ? next : undefined;
    }
    case JMP:
      return code === JA || (now.a === 0 && (!(code & X) || now.x === 0)) ? next : undefined;
    case RET:
      return code & A ? undefined : next;
    default:
      if ((code & 0xf8) === (MISC | Cbpf.TXA)) next.a = now.x;
      else next.x = now.a;
      return next;
  }
}

/** The beginning of a program up to a cut; every way out of it is no match. Undefined when its jumps do not reach. */
function prefixOf(program: CbpfProgram, cut: number): CbpfProgram | undefined {
  const lost = hopeless(program);
  const end: CbpfInstruction[] = [
    { code: MISC | Cbpf.TXA, jt: 0, jf: 0, k: 0 },
    { code: ALU | Cbpf.ADD, jt: 0, jf: 0, k: 1 },
    { code: RET | A, jt: 0, jf: 0, k: 0 },
    FAIL,
  ];
  const fail = cut + end.length - 1;
  const out = program.slice(0, cut).map((instruction, at): CbpfInstruction => {
    if (classOf(instruction) !== JMP) return instruction;
    const go = (skip: number): number => (lost[at + 1 + skip] ? fail - at - 1 : skip);
    const { code, jt, jf, k } = instruction;
    return code === JA ? { code, jt, jf, k: go(k) } : { code, jt: go(jt), jf: go(jf), k };
  });
  return out.every(({ jt, jf }) => jt < 256 && jf < 256) ? [...out, ...end] : undefined;
}

/** Finds rules that begin alike: those with the most instructions in common, over all of them, first. */
export function groupByPrefix(rules: readonly { readonly rule: number; readonly program: CbpfProgram }[]): {
  groups: PrefixGroup[];
  rest: number[];
} {
  const groups: PrefixGroup[] = [];
  let left = rules.map(({ rule, program }) => ({ rule, program, cuts: cuts(program) }));
  for (;;) {
    const shared = new Map<string, { cut: number; count: number }>();
    for (const { cuts } of left) {
      for (const [cut, text] of cuts) {
        const known = shared.get(text);
        if (known === undefined) shared.set(text, { cut, count: 1 });
        else known.count++;
      }
    }
    let best: string | undefined;
    let gain = 0;
    for (const [text, { cut, count }] of shared) {
      if (count < WORTH_A_GROUP || cut * (count - 1) <= gain) continue;
      gain = cut * (count - 1);
      best = text;
    }
    if (best === undefined) break;
    const cut = shared.get(best)?.cut as number;
    const members = left.filter(({ cuts }) => cuts.get(cut) === best);
    const prefix = prefixOf(members[0].program, cut);
    left = left.filter((one) => !members.includes(one));
    if (prefix === undefined) continue;
    groups.push({
      prefix,
      members: members.map(({ rule, program }) => ({
        rule,
        remainder: remainderOf(program, cut) as CbpfProgram,
      })),
    });
  }
  const grouped = new Set(groups.flatMap(({ members }) => members.map(({ rule }) => rule)));
  return { groups, rest: rules.filter(({ rule }) => !grouped.has(rule)).map(({ rule }) => rule) };
}
