import type { RunConfig } from '../base/config.ts';
import { SluiceError } from '../base/errors.ts';
import { capabilities } from '../kernel/index.ts';
import { lackingForFilter, lackingForXdp } from './kernel-check.ts';
import type { GateKind } from './kind.ts';

/** A gate to begin with; `why`: what rules XDP out. */
export interface Choice {
  kind: GateKind;
  why?: string | undefined;
}

/**
 * What a sensor's gate begins as. `auto` is XDP where this process and the running kernel may have it: whether an interface takes
 * it shows when it is attached. AF_XDP sockets get their frames from XDP.
 */
export function chooseKind({ mode, capture }: Pick<RunConfig, 'mode' | 'capture'>): Choice {
  if (mode === 'socket') return { kind: 'socket' };
  if (mode !== 'auto' || capture === 'afxdp') return { kind: 'xdp' };
  const { netAdmin, netRaw, bpf, perfmon } = capabilities();
  if (!netAdmin && netRaw && bpf && perfmon)
    return { kind: 'socket', why: 'the process lacks CAP_NET_ADMIN' };
  const missing = lackingForXdp();
  if (missing.length > 0 && lackingForFilter().length === 0)
    return { kind: 'socket', why: `the running kernel lacks ${missing.join(', ')}` };
  return { kind: 'xdp' };
}

/** What an interface or a kernel answers that takes no XDP program: a filter for sockets may do in its place. */
const WITHOUT_XDP: ReadonlySet<string> = new Set([
  'INTERFACE_BUSY',
  'KERNEL_CALL',
  'KERNEL_FEATURE',
  'PRIVILEGE',
  'VERIFIER',
]);

/** Why XDP is ruled out by this error of attaching; undefined for one that is another matter. */
export function rulesOutXdp(error: unknown): string | undefined {
  return error instanceof SluiceError && WITHOUT_XDP.has(error.code) ? error.message : undefined;
}
