import { Ebpf, Helper, type Instruction, Pseudo } from '../../ebpf/index.ts';
import { SlRuleMatches } from '../layout.gen.ts';
import { CTX, MATCHES, ROW } from '../program/abi.ts';
import { MOST_MATCHES, RULE_SWITCH } from '../program/candidate.ts';

/**
 * What a constant is that a gate puts into a program: a map of its own (`matches`, `scratch`, `rules`), a slot of `rules`, the row of a rule,
 * the switch of a rule.
 */
export const PLACE_KINDS = ['matches', 'scratch', 'rules', 'slot', 'row', 'switch'] as const;
export type PlaceKind = (typeof PLACE_KINDS)[number];

/** An instruction that takes a constant; what takes none is not among them. */
export interface CodePlace {
  readonly at: number;
  readonly kind: PlaceKind;
}

/** Instructions of one program: more than a set is ever split into (PROGRAM_COST, and what goes around it). */
const MOST_INSTRUCTIONS = 65_536;
const { members } = SlRuleMatches;
const FRAME = 10;
const KEY = -4;

const ALU64_K = Ebpf.ALU64 | Ebpf.K;
const MOV64 = Ebpf.ALU64 | Ebpf.MOV | Ebpf.X;
const LDX_W = Ebpf.LDX | Ebpf.MEM | Ebpf.W;
const ST_W = Ebpf.ST | Ebpf.MEM | Ebpf.W;
const STX_W = Ebpf.STX | Ebpf.MEM | Ebpf.W;
const WIDE = Ebpf.LD | Ebpf.IMM | Ebpf.DW;
const MOV32_K = Ebpf.ALU | Ebpf.MOV | Ebpf.K;
const CALL = Ebpf.JMP | Ebpf.CALL;
const JEQ64_K = Ebpf.JMP | Ebpf.JEQ | Ebpf.K;
const JGE32_K = Ebpf.JMP32 | Ebpf.JGE | Ebpf.K;

/** An instruction as it has to be; `off` undefined: a jump, which goes anywhere; `imm` undefined: any number. */
type Shape = readonly [
  code: number,
  dst: number,
  src: number,
  off: number | undefined,
  imm: number | undefined,
];

const is = (it: Instruction | undefined, [code, dst, src, off, imm]: Shape): boolean =>
  it !== undefined &&
  it.code === code &&
  it.dst === dst &&
  it.src === src &&
  (off === undefined || it.off === off) &&
  (imm === undefined || it.imm === imm);

/** A piece of code that stands as a whole: nothing jumps into it. */
interface Piece {
  readonly shapes: readonly Shape[];
  readonly places: readonly CodePlace[];
}

const place = (at: number, kind: PlaceKind): CodePlace => ({ at, kind });
const wideZero = (dst: number): Shape[] => [
  [WIDE, dst, Pseudo.MAP_FD, 0, 0],
  [0, 0, 0, 0, 0],
];

/** r0 = element 0 of a map. */
const LOOK_UP: readonly Shape[] = [
  [ST_W, FRAME, 0, KEY, 0],
  [MOV64, 2, FRAME, 0, 0],
  [ALU64_K | Ebpf.ADD, 2, 0, 0, KEY],
  ...wideZero(1),
  [CALL, 0, 0, 0, Helper.map_lookup_elem],
  [JEQ64_K, 0, 0, undefined, 0],
];
const MAP_IN_LOOK_UP = 3;

const noteOf = (row: Shape): readonly Shape[] => [
  [LDX_W, 1, MATCHES, members.count, 0],
  [JGE32_K, 1, 0, 6, MOST_MATCHES],
  [MOV64, 2, MATCHES, 0, 0],
  [MOV64, 3, 1, 0, 0],
  [ALU64_K | Ebpf.LSH, 3, 0, 0, 2],
  [Ebpf.ALU64 | Ebpf.ADD | Ebpf.X, 2, 3, 0, 0],
  row,
  [STX_W, 2, 3, members.rule, 0],
  [Ebpf.ALU | Ebpf.ADD | Ebpf.K, 1, 0, 0, 1],
  [STX_W, MATCHES, 1, members.count, 0],
];
const HANDED_OVER: Piece = { shapes: noteOf([LDX_W, 3, FRAME, ROW, 0]), places: [] };
const HANDING_OVER: Shape = [ST_W, FRAME, 0, ROW, undefined];

/**
 * All that touches maps, calls, ends a program or notes a row; what has no piece may only compute, read and jump.
 * @param frameLength offset of the frame's length in the gate's scratch
 * @param number what stands where a slot or a row belongs; undefined: anything
 */
function pieces(frameLength: number, number: 0 | undefined): readonly Piece[] {
  return [
    {
      shapes: [...LOOK_UP, [MOV64, MATCHES, 0, 0, 0]],
      places: [place(MAP_IN_LOOK_UP, 'matches')],
    },
    {
      shapes: [...LOOK_UP, [LDX_W, 1, 0, frameLength, 0], [STX_W, MATCHES, 1, members.frame_len, 0]],
      places: [place(MAP_IN_LOOK_UP, 'scratch')],
    },
    {
      shapes: [
        [MOV64, 1, CTX, 0, 0],
        ...wideZero(2),
        [MOV32_K, 3, 0, 0, number],
        [CALL, 0, 0, 0, Helper.tail_call],
      ],
      places: [place(1, 'rules'), place(3, 'slot')],
    },
    { shapes: noteOf([MOV32_K, 3, 0, 0, number]), places: [place(6, 'row')] },
    HANDED_OVER,
    // The row that is handed over to what several rules share.
    { shapes: [[ST_W, FRAME, 0, ROW, number]], places: [place(0, 'row')] },
    { shapes: [[RULE_SWITCH.code, MATCHES, 0, undefined, 0]], places: [place(0, 'switch')] },
    // XDP_PASS: a tail call has failed.
    {
      shapes: [
        [MOV32_K, 0, 0, 0, 2],
        [Ebpf.JMP | Ebpf.EXIT, 0, 0, 0, 0],
      ],
      places: [],
    },
  ];
}

const SIZES: Readonly<Record<number, number>> = { [Ebpf.B]: 1, [Ebpf.H]: 2, [Ebpf.W]: 4, [Ebpf.DW]: 8 };
/** Registers that hold what the pieces rely on: the context, the matches, the frame. */
const isKept = (register: number): boolean => register === CTX || register >= MATCHES;

/** Why an instruction that is in no piece must not be there. */
function faultOf(it: Instruction): string | undefined {
  const { code, dst, src, off, imm } = it;
  const kind = code & 0x07;
  const mode = code & 0xe0;
  if (kind === Ebpf.ALU || kind === Ebpf.ALU64) {
    if (off !== 0 || (code & 0xf0) > Ebpf.END) return 'computes in a way that rules do not';
    return isKept(dst) || src > FRAME ? 'changes a register that is not its own' : undefined;
  }
  if (kind === Ebpf.LDX) {
    if (mode !== Ebpf.MEM) return 'is not a plain load';
    return isKept(dst) || src > FRAME ? 'changes a register that is not its own' : undefined;
  }
  if (kind === Ebpf.ST || kind === Ebpf.STX) {
    if (mode !== Ebpf.MEM) return 'is not a plain store';
    const end = off + SIZES[code & 0x18];
    if (dst === FRAME && off >= -512 && end <= ROW) return undefined;
    const own =
      code === ST_W
        ? off === members.entry || (off === members.count && imm === 0)
        : code === STX_W && off === members.place;
    return dst === MATCHES && own ? undefined : 'writes where no rule writes';
  }
  if (kind === Ebpf.JMP || kind === Ebpf.JMP32) {
    const operation = code & 0xf0;
    if (operation === Ebpf.CALL) return 'calls';
    if (operation === Ebpf.EXIT) return 'ends the program';
    const odd = operation > Ebpf.JSLE || (operation === Ebpf.JA && kind === Ebpf.JMP32);
    return odd ? 'jumps in a way that rules do not' : undefined;
  }
  return 'loads a constant of 64 bits';
}

const isJump = ({ code }: Instruction): boolean => {
  const kind = code & 0x07;
  const operation = code & 0xf0;
  return (kind === Ebpf.JMP || kind === Ebpf.JMP32) && operation !== Ebpf.CALL && operation !== Ebpf.EXIT;
};
const GOES_AWAY = new Set<number>([Ebpf.JMP | Ebpf.JA, Ebpf.JMP | Ebpf.EXIT]);

/** Whether a row has been handed over on every way to an instruction that takes it. All jumps go forward. */
function handsOver(instructions: readonly Instruction[], takes: ReadonlySet<number>): boolean {
  /** 0: nothing leads here so far; 1: some way without a row; 2: each way has one. */
  const state = new Uint8Array(instructions.length + 1);
  const reach = (at: number, value: number): void => {
    state[at] = state[at] === 0 ? value : Math.min(state[at], value);
  };
  state[0] = 1;
  for (const [at, it] of instructions.entries()) {
    if (state[at] === 0) continue;
    if (takes.has(at) && state[at] === 1) return false;
    const now = is(it, HANDING_OVER) ? 2 : state[at];
    if (isJump(it)) reach(at + 1 + it.off, now);
    if (!GOES_AWAY.has(it.code)) reach(at + 1, now);
  }
  return true;
}

/**
 * Holds a program that somebody else has compiled to what a program of rules may do, whatever the verifier would allow it beyond that: it reads
 * the packet, notes rows of rules, calls nothing but the look-up of its two maps and the tail call into slots that it is given, writes
 * nothing but its stack and the words of the matches that are its own, ends with XDP_PASS. Answers the places of its constants in order; a
 * text says why it is no such program. Never throws.
 * @param blank whether slots and rows have to be 0; else they are as the compiler has left them
 */
export function placesOf(
  instructions: readonly Instruction[],
  frameLength: number,
  blank = true,
): CodePlace[] | string {
  const count = instructions.length;
  if (count === 0 || count > MOST_INSTRUCTIONS) return `it has ${count} instructions`;
  if (!is(instructions[0], [MOV64, CTX, 1, 0, 0])) return 'it does not begin as a program of rules';
  const known = pieces(frameLength, blank ? 0 : undefined);
  const places: CodePlace[] = [];
  /** Where no jump may lead: the inside of a piece. */
  const inside = new Uint8Array(count + 1);
  const taking = new Set<number>();
  for (let at = 1; at < count; ) {
    const piece = known.find(({ shapes }) => shapes.every((shape, n) => is(instructions[at + n], shape)));
    if (piece === undefined) {
      const fault = faultOf(instructions[at]);
      if (fault !== undefined) return `instruction ${at} ${fault}`;
      at++;
      continue;
    }
    for (const { at: within, kind } of piece.places) places.push({ at: at + within, kind });
    if (piece === HANDED_OVER) taking.add(at);
    inside.fill(1, at + 1, at + piece.shapes.length);
    at += piece.shapes.length;
  }
  inside[0] = inside[count] = 1;
  for (const [at, it] of instructions.entries()) {
    if (!isJump(it) || (inside[at] === 1 && it.code === JGE32_K)) continue;
    const target = at + 1 + it.off;
    if (it.off < 0 || target > count || inside[target] === 1)
      return `instruction ${at} jumps where no rule does`;
  }
  if (places.filter(({ kind }) => kind === 'matches').length !== 1)
    return 'it does not hold its matches once';
  return handsOver(instructions, taking) ? places : 'it takes a row that nothing has handed over';
}
