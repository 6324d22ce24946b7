import { assemble, type Item, jumpTo, plain } from './assembler.ts';
import { Ancillary, Cbpf, type CbpfInstruction, type CbpfProgram, SkfOffset } from './cbpf/instruction.ts';
import { compileFragment } from './fragment.ts';
import {
  alu32,
  alu64,
  call,
  constant,
  EXIT,
  Helper,
  jump,
  load,
  type Register,
  register,
} from './instruction.ts';
import { type CompileOptions, type EbpfProgram, type FragmentRegisters, TEST_HEADER } from './options.ts';

const XDP_DROP = 1;
const XDP_PASS = 2;
/** Of struct xdp_md. */
const DATA = 0;
const DATA_END = 4;

const ZERO: Register = 0;
const CTX: Register = 6;
const LENGTH: Register = 7;
/** The registers with the shortest machine code first (those that need no prefix on x86-64). */
const REGISTERS: FragmentRegisters = { data: 2, dataEnd: 3, free: [0, 4, 1, 5, 8, 9, 6, 7] };

const wantsLength = ({ code }: CbpfInstruction): boolean => (code & 0xe6) === Cbpf.LEN;
const wantsInterface = ({ code, k }: CbpfInstruction): boolean =>
  code === (Cbpf.LD | Cbpf.ABS) && k >>> 0 === SkfOffset.AD + Ancillary.IFINDEX;

/**
 * Compiles a classic BPF program for Ethernet into an XDP program. FILTER_INVALID when the program is not valid,
 * FILTER_UNSUPPORTED when it asks for what XDP does not know.
 */
export function compile(program: CbpfProgram, options: CompileOptions = {}): EbpfProgram {
  const { verdicts = { match: XDP_DROP, noMatch: XDP_PASS }, frags = false, directAccess = true } = options;
  const { testHeader = false, passes = {}, cpu = 3 } = options;
  const wantsValue = verdicts === 'value';
  const calls = frags || !directAccess;
  const keepsCtx = calls || program.some(wantsInterface);
  const keepsLength = (calls || testHeader) && program.some(wantsLength);
  const { data, dataEnd, free } = REGISTERS;
  const fragment = compileFragment(program, {
    registers: {
      data,
      dataEnd,
      ...(keepsCtx ? { ctx: CTX } : {}),
      ...(keepsLength ? { length: LENGTH } : {}),
      free: free.filter((one) => !(keepsCtx && one === CTX) && !(keepsLength && one === LENGTH)),
      ...(wantsValue ? { value: ZERO } : {}),
    },
    match: 'match',
    noMatch: 'noMatch',
    verdicts: {
      match: [...(wantsValue ? [] : [plain(alu32('mov', ZERO, constant(verdicts.match)))]), plain(EXIT)],
      noMatch: [plain(alu32('mov', ZERO, constant(wantsValue ? 0 : verdicts.noMatch))), plain(EXIT)],
    },
    prefix: 'b',
    frags,
    directAccess,
    packetOffset: testHeader ? TEST_HEADER : 0,
    passes,
  });
  const ctx: Register = keepsCtx ? CTX : 1;
  const instructions = assemble(
    [
      ...(keepsCtx ? [plain(alu64('mov', CTX, register(1)))] : []),
      ...(keepsLength && !testHeader ? frameLength() : []),
      plain(load(4, data, ctx, DATA)),
      plain(load(4, dataEnd, ctx, DATA_END)),
      ...(testHeader ? skipHeader(keepsLength) : []),
      ...fragment.code,
    ],
    { cpu },
  );
  return {
    instructions,
    get ir() {
      return fragment.ir;
    },
  };
}

/** Length of a frame in all its buffers. */
const frameLength = (): Item[] => [
  plain(call(Helper.xdp_get_buff_len)),
  plain(alu32('mov', LENGTH, register(ZERO))),
];

/** Steps over the header of a test run, which has the length of the packet. */
const skipHeader = (keepsLength: boolean): Item[] => [
  plain(alu64('mov', ZERO, register(REGISTERS.data))),
  plain(alu64('add', ZERO, constant(TEST_HEADER))),
  jumpTo(jump('gt', ZERO, register(REGISTERS.dataEnd), 64), 'noMatch'),
  ...(keepsLength ? [plain(load(4, LENGTH, REGISTERS.data, 0))] : []),
  plain(alu64('mov', REGISTERS.data, register(ZERO))),
];
