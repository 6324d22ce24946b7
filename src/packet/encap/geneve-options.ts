import { DecapReason } from './reasons.ts';

/** Class of the options of AWS Gateway Load Balancer (IANA: Amazon.com). */
export const GWLB_CLASS = 0x0108;
/** Set in the type of an option that must be understood by whoever looks inside (RFC 8926, 3.5). */
const CRITICAL = 0x80;

/**
 * Whether the options u8[from, to) fill their room exactly: `frame`, or else `options`; with the header's C bit, `critical` when
 * one of them is critical, as none that is known is.
 */
export function optionsAreSound(u8: Uint8Array, from: number, to: number, critical: boolean): DecapReason {
  let at = from;
  while (at + 4 <= to) {
    if (critical && (u8[at + 2] & CRITICAL) !== 0) return DecapReason.critical;
    at += 4 + (u8[at + 3] & 0x1f) * 4;
  }
  return at === to ? DecapReason.frame : DecapReason.options;
}
