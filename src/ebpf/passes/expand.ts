import { SluiceError } from '../../base/errors.ts';
import { Ancillary, ancillaryName, Cbpf, type CbpfProgram, SkfOffset } from '../cbpf/instruction.ts';
import { plainOffset } from '../cbpf/interpret.ts';
import { cbpfLine } from '../cbpf/text.ts';

/** A classic instruction whose jumps name the step that they go to, however far. */
export interface Step {
  readonly code: number;
  readonly k: number;
  /** Of jumps; for a plain one only `yes`. */
  readonly yes: number;
  readonly no: number;
}

const { LD, JMP, ALU, H, IMM, ABS, IND, K, X } = Cbpf;
const IFINDEX = SkfOffset.AD + Ancillary.IFINDEX;

/** Protocol of an Ethernet frame as the kernel sets it (eth_type_trans): the type, or 1 or 4 where a length stands. */
const PROTOCOL: readonly Step[] = [
  { code: LD | H | ABS, k: 12, yes: 0, no: 0 },
  { code: JMP | Cbpf.JGE | K, k: 0x600, yes: 7, no: 2 },
  { code: LD | H | ABS, k: 14, yes: 0, no: 0 },
  { code: JMP | Cbpf.JEQ | K, k: 0xffff, yes: 4, no: 6 },
  { code: LD | IMM, k: 1, yes: 0, no: 0 },
  { code: JMP | Cbpf.JA, k: 0, yes: 7, no: 0 },
  { code: LD | IMM, k: 4, yes: 0, no: 0 },
];

const set = (k: number): readonly Step[] => [{ code: LD | IMM, k, yes: 0, no: 0 }];

/** What stands for an ancillary load where XDP knows the answer, jumps counted from the first step. */
function lowered(load: number): readonly Step[] | undefined {
  switch (load) {
    case Ancillary.PROTOCOL:
      return PROTOCOL;
    case Ancillary.IFINDEX:
      return [{ code: LD | ABS, k: IFINDEX, yes: 0, no: 0 }];
    case Ancillary.HATYPE:
      return set(1);
    // At XDP a tag is in the frame, and none beside it: a filter that handles both finds it there.
    case Ancillary.VLAN_TAG:
    case Ancillary.VLAN_TAG_PRESENT:
    case Ancillary.VLAN_TPID:
      return set(0);
    case Ancillary.ALU_XOR_X:
      return [{ code: ALU | Cbpf.XOR | X, k: 0, yes: 0, no: 0 }];
    default:
      return undefined;
  }
}

/**
 * Jumps to absolute ones; loads from the link and network header (SKF_LL_OFF, SKF_NET_OFF) to loads from the start of
 * an Ethernet frame; ancillary loads to what XDP knows, or FILTER_UNSUPPORTED.
 */
export function expand(program: CbpfProgram): Step[] {
  const pieces = program.map((instruction, at): readonly Step[] => {
    const { code } = instruction;
    const k = instruction.k >>> 0;
    const mode = code & 0xe0;
    if ((code & 0x07) === LD && mode === ABS && k >= SkfOffset.AD) {
      const steps = lowered(k - SkfOffset.AD);
      if (steps !== undefined) return steps;
      throw new SluiceError(
        'FILTER_UNSUPPORTED',
        `instruction ${at} of the classic BPF program: XDP does not know ${ancillaryName(k)} of a packet`,
        {
          cause: cbpfLine(instruction, at),
          help: 'compile the expression for a capture file instead of a live device',
        },
      );
    }
    const fromHeader = (code & 0x07) <= Cbpf.LDX && (mode === ABS || mode === IND || mode === Cbpf.MSH);
    return [{ code, k: fromHeader ? plainOffset(k) : k, yes: -1, no: -1 }];
  });
  const starts: number[] = [];
  let count = 0;
  for (const piece of pieces) {
    starts.push(count);
    count += piece.length;
  }
  return pieces.flatMap((piece, at) =>
    piece.map((step): Step => {
      if ((step.code & 0x07) !== JMP) return step;
      if (step.yes >= 0) return { ...step, yes: starts[at] + step.yes, no: starts[at] + step.no };
      const { jt, jf, k } = program[at];
      if ((step.code & 0xf0) === Cbpf.JA) return { ...step, yes: starts[at + 1 + (k >>> 0)] };
      return { ...step, yes: starts[at + 1 + jt], no: starts[at + 1 + jf] };
    }),
  );
}

export const isInterface = ({ code, k }: Step): boolean => code === (LD | ABS) && k === IFINDEX;
