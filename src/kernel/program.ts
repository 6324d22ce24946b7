import { addon, type RawProgramInfo } from './addon.ts';
import { attempt, check, closedError, KernelError, logLines, VerifierError } from './errors.ts';

/** Bytes of the verifier's log: what is tried first, and where we stop. */
const FIRST_LOG = 256 * 1024;
const LAST_LOG = 256 * 1024 * 1024;
const ENOSPC = 28;
/** BPF_F_TEST_XDP_LIVE_FRAMES. */
const LIVE_FRAMES = 1 << 1;
/** What the kernel answers when the verifier says no. */
const REFUSALS: ReadonlySet<number> = new Set([1, 7, 13, 22, 28]);

export interface ProgramInfo extends RawProgramInfo {
  /** Instructions after translation by the kernel. */
  xlated: Uint8Array | undefined;
}

export interface InstructionOptions {
  /** ProgramType.*. */
  type: number;
  /** Default GPL: some helpers refuse others. */
  license?: string;
  /** At most 15 characters. */
  name?: string;
  expectedAttachType?: number;
  /** ProgramFlag.*. */
  flags?: number;
}

export interface TestRunOptions {
  data?: Uint8Array;
  dataOut?: Uint8Array;
  ctxIn?: Uint8Array;
  ctxOut?: Uint8Array;
  repeat?: number;
  flags?: number;
  cpu?: number;
  /**
   * XDP only: frames are real ones. What the program redirects goes out at that interface; what it passes goes up the stack of this
   * thread's network namespace as if `lo` had received it, or the interface that `ctxIn` names; so there is no `dataOut` and no
   * `ctxOut`. Each of `repeat` frames begins as long as `data`, with its bytes or with what the program left in an earlier frame.
   * They go on in batches of `batch` (64 unless given, 256 at most), for which no other work is done on the CPU. A frame for
   * which an interface has no room is no error, but a signal is (EINTR): only the program can count what it has sent by then.
   */
  live?: boolean | { batch: number };
}

export interface TestRunResult {
  retval: number;
  /** Mean of one run. */
  durationNs: number;
  dataOutLength: number;
  ctxOutLength: number;
}

/** A loaded program. */
export class BpfProgram {
  readonly id: number;
  readonly name: string;
  readonly tag: string;
  readonly type: number;
  #fd: number;
  readonly #owned: boolean;
  readonly #result = new Float64Array(4);
  readonly #resultBytes = new Uint8Array(this.#result.buffer);

  private constructor(fd: number, owned: boolean) {
    let info: RawProgramInfo;
    try {
      info = attempt('info', `program descriptor ${fd}`, () => addon().progInfo(fd, false));
    } catch (error) {
      if (owned) addon().closeFd(fd);
      throw error;
    }
    this.id = info.id;
    this.name = info.name;
    this.tag = info.tag;
    this.type = info.type;
    this.#fd = fd;
    this.#owned = owned;
  }

  /** Takes over a descriptor that the addon has just made in this thread: `close` closes it. */
  static fromFd(fd: number): BpfProgram {
    return new BpfProgram(fd, true);
  }

  /** A handle on a descriptor that another thread of this process owns and keeps open. */
  static adopt(fd: number): BpfProgram {
    return new BpfProgram(fd, false);
  }

  /** A handle of its own on a program that another thread of this process has open now. */
  static duplicate(fd: number): BpfProgram {
    return new BpfProgram(
      check('program.open', addon().duplicateFd(fd), () => `duplicate program descriptor ${fd}`),
      true,
    );
  }

  static fromId(id: number): BpfProgram {
    return new BpfProgram(
      check('program.open', addon().fdById(1, id), () => `open program ${id}`),
      true,
    );
  }

  static openPinned(path: string): BpfProgram {
    return new BpfProgram(
      check('pin.open', addon().objGet(path, 1, false), () => `open the program pinned at ${path}`),
      true,
    );
  }

  get fd(): number {
    if (this.#fd < 0) throw closedError(`program ${this.name}`);
    return this.#fd;
  }

  get closed(): boolean {
    return this.#fd < 0;
  }

  /** What the kernel tells of it; `dump` asks for the translated instructions too. */
  info(dump = false): ProgramInfo {
    const fd = this.fd;
    return attempt('info', `program ${this.name}`, () => addon().progInfo(fd, dump));
  }

  /** BPF_PROG_TEST_RUN. For XDP at least 14 bytes of data; only the first 3,520 are linear. */
  testRun(options: TestRunOptions): TestRunResult {
    const { data, dataOut, ctxIn, ctxOut, repeat = 0, flags = 0, cpu = 0, live = false } = options;
    if (live !== false && (dataOut !== undefined || ctxOut !== undefined))
      throw new RangeError('live frames go on: there is no output of them');
    const result = addon().progTestRun(
      this.fd,
      data,
      dataOut,
      ctxIn,
      ctxOut,
      repeat,
      live === false ? flags : flags | LIVE_FRAMES,
      cpu,
      typeof live === 'object' ? live.batch : 0,
      this.#resultBytes,
    );
    check('program.run', result, () => `run program ${this.name}`);
    const [retval = 0, durationNs = 0, dataOutLength = 0, ctxOutLength = 0] = this.#result;
    return { retval, durationNs, dataOutLength, ctxOutLength };
  }

  /**
   * Runs a SEC("syscall") program in this thread. `ctx` is its context: read by the program, and written back.
   * What the program returns, as a signed 32-bit number.
   */
  runSyscall(ctx: Uint8Array): number {
    const result = addon().progRunSyscall(this.fd, ctx);
    if (result < -2147483648) {
      throw new KernelError('program.run', -(result + 4294967296), `run program ${this.name}`);
    }
    return result;
  }

  pin(path: string): void {
    check('pin', addon().objPin(this.fd, path), () => `pin program ${this.name} at ${path}`);
  }

  close(): void {
    if (this.#fd < 0) return;
    if (this.#owned) addon().closeFd(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** Loads raw eBPF (8 bytes each). A refusal of the verifier is a VerifierError. */
export function loadInstructions(bytes: Uint8Array, options: InstructionOptions): BpfProgram {
  const { type, license = 'GPL', name = '', expectedAttachType = 0, flags = 0 } = options;
  if (bytes.length === 0 || bytes.length % 8 !== 0) throw new RangeError('instructions have 8 bytes each');
  let failure = { fd: 0, log: '' };
  for (const logSize of logSizes()) {
    failure = addon().progLoad(bytes, type, name, license, expectedAttachType, flags, logSize);
    if (failure.fd >= 0) return BpfProgram.fromFd(failure.fd);
    if (failure.fd !== -ENOSPC) break;
  }
  throw loadError('program.load', -failure.fd, name === '' ? '(unnamed)' : name, failure.log);
}

/** A failed load as an error: the verifier's when it wrote a log. */
export function loadError(
  operation: 'program.load' | 'object.load',
  errno: number,
  program: string,
  log: string,
  cause?: string,
): KernelError {
  const lines = logLines(log);
  const options = cause === undefined || cause === '' ? {} : { cause };
  if (lines.length > 0 && REFUSALS.has(errno))
    return new VerifierError(operation, errno, program, lines, options);
  return new KernelError(operation, errno, `load program ${program}`, options);
}

/** How large the log of a failed load is asked for, growing. */
export function logSizes(): number[] {
  const sizes: number[] = [];
  for (let size = FIRST_LOG; size <= LAST_LOG; size *= 8) sizes.push(size);
  return sizes;
}
