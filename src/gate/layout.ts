/**
 * Numbers of bpf/gate.h that are enumerations there; structures come from BTF (layout.gen.ts). A test holds
 * both against the object's BTF.
 */
export const State = { none: 0, armed: 1, shunt: 2, ending: 3 } as const;

export const END_REASONS = [
  '',
  'syn',
  'fin',
  'rst',
  'lease',
  'idle',
  'log_full',
  'asked',
  'limit',
  'tunnel',
] as const;
export type EndReason = (typeof END_REASONS)[number];

export const OpCode = { arm: 1, sync: 2, flip: 3, end: 4, pairEnd: 5, prefixEnd: 6 } as const;

/** Bits of sl_dir.cpu, see bpf/gate.h. */
export const AHEAD = 1 << 19;
export const SYNC_DONE = 1 << 20;
export const LEARN = 1 << 21;
/** Bits of sl_op.flags. */
export const TIED = 1 << 22;
export const CARRIER = 1 << 23;
export const AFTER_BYTES = 1 << 24;
export const AFTER_PACKETS = 1 << 25;
/** Of sl_dir.cpu: the gate made the entry itself. */
export const MADE = 1 << 26;

/** Why it did, as logs name it, from its cookie (SL_MADE_*): those of the presets where there is one. */
export function madeWhy(cookie: number): string {
  return ['', 'TLS_ESTABLISHED', 'BULK', 'PACKETS'][cookie & 0xff] ?? '';
}
/** Of the cookie: direction 1 is the originator's. */
export const MADE_DIR1 = 0x100;

/** Slots of the program array `rules`, enum sl_rules_slot. */
export const RulesSlot = { entry: 0, shunt: 1, exit: 2, inner: 3, chain: 4, slots: 64 } as const;

/** Slots of `hook`: the XDP actions. */
export const HookSlot = { aborted: 0, drop: 1, pass: 2, tx: 3, redirect: 4 } as const;

/** Ledger rows in the order of enum sl_verdict, and what each counts as for the contract of `gate status`. */
export const VERDICTS = [
  'aborted',
  'shunted',
  'passNoEntry',
  'passNotIp',
  'passFragment',
  'passParse',
  'passArmed',
  'passEnding',
  'passClose',
  'passLease',
  'passIdle',
  'passOther',
  'passLimit',
  'passException',
  'shuntedPair',
  'ruleDropped',
  'rateLimited',
  'passTunnel',
  'passCarrier',
  'passHost',
  'shuntedPeer',
] as const;
export type Verdict = (typeof VERDICTS)[number];

export const LAYOUT_VERSION = 6;
export const OWNERS = 256;
export const LOG_EVENTS = 32;
