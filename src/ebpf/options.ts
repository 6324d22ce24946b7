import type { Item } from './assembler.ts';
import type { Instruction, Register } from './instruction.ts';

/** Passes that make a program better and may be left out one by one; it stays right without any of them. */
export const OPTIONAL_PASSES = [
  'constants',
  'share-values',
  'byte-order',
  'narrow-loads',
  'thread-jumps',
  'widen-guards',
  'share-guards',
  'dead-code',
] as const;
export type OptionalPass = (typeof OPTIONAL_PASSES)[number];

/** Which optional passes run; all that are not named do. */
export type Passes = Partial<Record<OptionalPass, boolean>>;

/** What the surrounding program gives to a filter that is embedded in it. */
export interface FragmentRegisters {
  /** Hold xdp_md.data and xdp_md.data_end; kept, save by a frame in several buffers when they are among r1 to r5. */
  readonly data: Register;
  readonly dataEnd: Register;
  /** Holds the context: wanted with `frags` (then one of r6 to r9), and by a filter that asks for the interface. */
  readonly ctx?: Register;
  /** Holds the length of the packet; default: data_end - data. Wanted with `frags` by a filter that asks for it. */
  readonly length?: Register;
  /** May be overwritten, the first are taken first; at least 3. */
  readonly free: readonly Register[];
  /** Where a match leaves what the filter returns; may be one of `free`. Default: only the labels tell. */
  readonly value?: Register;
}

export interface FragmentOptions {
  readonly registers: FragmentRegisters;
  /** Where it goes: labels of the surrounding program. */
  readonly match: string;
  readonly noMatch: string;
  /**
   * What stands at these labels, if the fragment is to place it itself, where it saves a jump. It must not run out at
   * its end.
   */
  readonly verdicts?: { readonly match?: readonly Item[]; readonly noMatch?: readonly Item[] };
  /** Which of the two stands right behind the fragment: no jump is needed there. */
  readonly next?: 'match' | 'noMatch';
  /** Before each label of the fragment; makes them unique. */
  readonly prefix: string;
  /** Bytes of stack that the surrounding program uses (from r10 down); the fragment takes what is below them. */
  readonly stack?: number;
  /** Whether bytes behind the linear part of a frame in several buffers are read, too. Default: no, as if not there. */
  readonly frags?: boolean;
  /**
   * false: every load is a call, which reads all buffers, too; slower and larger, and there is nothing that the verifier
   * would have to follow. Wants what `frags` wants.
   */
  readonly directAccess?: boolean;
  /** Bytes of the frame before the packet; default 0. */
  readonly packetOffset?: number;
  readonly passes?: Passes;
}

export interface Fragment {
  readonly code: readonly Item[];
  /** Bytes of stack that are in use, those of the surrounding program included. */
  readonly stack: number;
  /** The program as it was lowered, printed. */
  readonly ir: string;
}

export interface CompileOptions {
  /** What the XDP program returns; 'value': what the filter does (for test runs). Default: drop 1, pass 2. */
  readonly verdicts?: { readonly match: number; readonly noMatch: number } | 'value';
  /** As of a fragment. */
  readonly frags?: boolean;
  readonly directAccess?: boolean;
  /**
   * The frame begins with TEST_HEADER bytes that are no part of the packet, the length on the wire (32 bits, little-
   * endian) first: so a test run, which wants at least 14 bytes, takes packets of any length, and cut ones.
   */
  readonly testHeader?: boolean;
  /** Version of the instruction set; 4 has jumps over more than 32,767 instructions. Default 3. */
  readonly cpu?: 3 | 4;
  readonly passes?: Passes;
}

/** Bytes of a frame that XDP can get at: the verifier and bpf_xdp_load_bytes go no farther. Behind them is no match. */
export const XDP_REACH = 65_535;

/** Bytes before the packet in the frame of a test run; see CompileOptions.testHeader. */
export const TEST_HEADER = 16;

/** A whole XDP program. */
export interface EbpfProgram {
  readonly instructions: readonly Instruction[];
  /** The filter as it was lowered, printed. */
  readonly ir: string;
}
