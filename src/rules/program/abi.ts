import type { Register } from '../../ebpf/index.ts';

/** What every generated program keeps where. r0 to r5 are free between two steps. */
export const CTX: Register = 6;
/** xdp_md.data and xdp_md.data_end. */
export const DATA: Register = 7;
export const DATA_END: Register = 8;
/** The matches of this CPU (struct sl_rule_matches). */
export const MATCHES: Register = 9;
/** Length of the frame, while the expression of a rule runs that asks for it. */
export const LENGTH: Register = 5;
export const FREE: readonly Register[] = [0, 1, 2, 3, 4];
/** Bytes of stack: the key of a look-up, and the row of a rule whose expression is shared. */
export const STACK = 8;
export const ROW = -8;

/** Descriptors of the maps that the programs name. Anything goes as long as nothing is loaded. */
export interface RuleMaps {
  /** The gate's program array, and its scratch. */
  readonly rules: number;
  readonly scratch: number;
  readonly matches: number;
}
