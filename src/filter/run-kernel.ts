import { SluiceError } from '../base/errors.ts';
import {
  type CbpfProgram,
  type CompileOptions,
  compile,
  encode,
  TEST_HEADER,
  XDP_REACH,
} from '../ebpf/index.ts';
import {
  type BpfProgram,
  KernelError,
  loadInstructions,
  ProgramFlag,
  ProgramType,
  VerifierError,
} from '../kernel/index.ts';
import type { FilterEngine, FrameBatch } from './run-classic.ts';

/** Frames of these lengths, cut nowhere, go through a test run as they are. */
const PLAIN = { min: 14, max: 2048 } as const;
/** What XDP can get at of a frame, less the header that is put in front. */
const MAX_FRAME = XDP_REACH - TEST_HEADER;

/**
 * The filter compiled to eBPF, in the kernel: an XDP program that returns what the filter does, run by BPF_PROG_TEST_RUN on each
 * frame. A test run takes no frame below 14 bytes, has the first 3,520 bytes only in one piece, and knows no length on the wire:
 * frames that are shorter, longer or cut go through a second program, with a header in front that says the length, that reads
 * all buffers of a frame. What is longer than XDP can get at is refused (FILTER_UNSUPPORTED).
 */
export class KernelEngine implements FilterEngine {
  readonly #program: CbpfProgram;
  readonly #plain: BpfProgram;
  /** Loaded with the first frame that needs it. */
  #any: BpfProgram | undefined;
  #buffer = new Uint8Array(TEST_HEADER + 4096);

  /** Errors: PRIVILEGE and KERNEL_FEATURE where eBPF cannot be loaded, FILTER_UNSUPPORTED as of the compiler. */
  constructor(program: CbpfProgram) {
    this.#program = program;
    this.#plain = loadFilter(program, { verdicts: 'value' });
  }

  run(batch: FrameBatch, first = 0): void {
    const { memory, frames, returns, count } = batch;
    for (let i = 0; i < count; i++) {
      const offset = frames[i * 3];
      const captured = frames[i * 3 + 1];
      const data = memory.subarray(offset, offset + captured);
      returns[i] = this.frame(data, frames[i * 3 + 2], first + i);
    }
  }

  /** What the filter returns for a frame; `index` is for the message when it is too long. */
  frame(data: Uint8Array, wireLength: number = data.length, index = 0): number {
    if (data.length === wireLength && data.length >= PLAIN.min && data.length <= PLAIN.max) {
      return this.#plain.testRun({ data }).retval;
    }
    if (data.length > MAX_FRAME) {
      throw new SluiceError(
        'FILTER_UNSUPPORTED',
        `packet ${index} has ${data.length} bytes; the kernel's test run takes frames of ${MAX_FRAME} at most`,
        { help: '--engine classic runs frames of any length' },
      );
    }
    this.#any ??= loadFilter(this.#program, { verdicts: 'value', frags: true, testHeader: true });
    const total = TEST_HEADER + data.length;
    if (total > this.#buffer.length) this.#buffer = new Uint8Array(total * 2);
    const buffer = this.#buffer;
    new DataView(buffer.buffer).setUint32(0, wireLength, true);
    buffer.set(data, TEST_HEADER);
    return this.#any.testRun({ data: buffer.subarray(0, total) }).retval;
  }

  close(): void {
    this.#plain.close();
    this.#any?.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Loads a filter as an XDP program that drops what matches, or as `options` say. Errors: FILTER_UNSUPPORTED of the compiler;
 * PRIVILEGE and KERNEL_FEATURE with what works without.
 */
export function loadFilter(program: CbpfProgram, options: CompileOptions = {}): BpfProgram {
  const { instructions } = compile(program, options);
  const { frags = false, directAccess = true } = options;
  try {
    return loadInstructions(encode(instructions), {
      type: ProgramType.xdp,
      name: 'sluice_filter',
      flags: frags || !directAccess ? ProgramFlag.xdpHasFrags : 0,
    });
  } catch (error) {
    // The verifier does not understand everything that is right; what loads by calls only it does (docs/compiler.md).
    if (error instanceof VerifierError && directAccess)
      return loadFilter(program, { ...options, directAccess: false });
    if (!(error instanceof KernelError) || error.exit !== 3) throw error;
    throw new SluiceError(error.code, 'this needs to load eBPF into the kernel', {
      cause: error,
      help: 'run as root, or with CAP_BPF and CAP_NET_ADMIN; --engine classic runs the filter without privileges',
    });
  }
}
