import {
  type CbpfProgram,
  type CompileOptions,
  compile,
  encode,
  encodeCbpf,
  interpretCbpf,
  TEST_HEADER,
} from '../../src/ebpf/index.ts';
import {
  type BpfProgram,
  loadInstructions,
  ProgramFlag,
  ProgramType,
  runClassicFilter,
  runSocketFilter,
  VerifierError,
} from '../../src/kernel/index.ts';

/** struct xdp_md of a test run: `data_end` says how much of the frame is in the first buffer (since Linux 6.18). */
function linearContext(bytes: number): Uint8Array {
  const context = new Uint8Array(24);
  new DataView(context.buffer).setUint32(4, bytes, true);
  return context;
}

function framed(packet: Uint8Array): Uint8Array {
  const frame = new Uint8Array(TEST_HEADER + packet.length);
  new DataView(frame.buffer).setUint32(0, packet.length, true);
  frame.set(packet, TEST_HEADER);
  return frame;
}

export const loadCompiled = (program: CbpfProgram, options: CompileOptions): BpfProgram =>
  loadInstructions(encode(compile(program, options).instructions), {
    type: ProgramType.xdp,
    name: 'filter',
    flags: options.frags === true || options.directAccess === false ? ProgramFlag.xdpHasFrags : 0,
  });

/** What our eBPF returns in the kernel. `linear`: bytes of each packet in the first buffer; default: all. */
export function runCompiled(
  program: CbpfProgram,
  packets: readonly Uint8Array[],
  options: CompileOptions = {},
  linear?: number,
): number[] {
  using loaded = loadCompiled(program, { verdicts: 'value', testHeader: true, ...options });
  return packets.map((packet) => {
    const data = framed(packet);
    if (linear === undefined) return loaded.testRun({ data }).retval >>> 0;
    const ctxIn = linearContext(Math.min(TEST_HEADER + linear, data.length));
    return loaded.testRun({ data, ctxIn }).retval >>> 0;
  });
}

/** Whether this kernel lets a test run say how much of a frame is in the first buffer. */
export function splitsFrames(): boolean {
  const program = [{ code: 0x06, jt: 0, jf: 0, k: 1 }];
  try {
    return runCompiled(program, [new Uint8Array(60)], { frags: true }, 20)[0] === 1;
  } catch {
    return false;
  }
}

/**
 * The verifier draws wrong conclusions behind some tests that can never hold (docs/compiler.md), and then refuses what is
 * right: what is compiled with calls only it takes.
 */
export const isRefusal = (error: unknown): boolean => error instanceof VerifierError;

export const runInterpreter = (program: CbpfProgram, packets: readonly Uint8Array[]): number[] =>
  packets.map((packet) => interpretCbpf(program, packet));

export function runLibpcap(program: CbpfProgram, packets: readonly Uint8Array[]): number[] {
  const bytes = encodeCbpf(program);
  return packets.map((packet) => runClassicFilter(bytes, packet) >>> 0);
}

/** Bytes that the kernel's own filter lets through, and what that should be. */
export const runSocket = (program: CbpfProgram, packets: readonly Uint8Array[]): number[] =>
  runSocketFilter(encodeCbpf(program), packets);

export const wantedOfSocket = (program: CbpfProgram, packets: readonly Uint8Array[]): number[] =>
  packets.map((packet) => Math.min(interpretCbpf(program, packet, { dialect: 'kernel' }), packet.length));
