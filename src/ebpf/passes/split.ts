import { Cbpf } from '../cbpf/instruction.ts';
import type { Step } from './expand.ts';

/** Steps that run one after the other: nothing jumps into the middle, only the last one leaves. */
export interface Run {
  readonly steps: readonly Step[];
  /** Indices of the runs that follow: none after a return, two after a condition. */
  readonly next: readonly number[];
}

/** Splits a program into runs, without those that nothing leads to. In order: what follows a run stands behind it. */
export function split(steps: readonly Step[]): Run[] {
  const leads = new Uint8Array(steps.length + 1);
  const reached = new Uint8Array(steps.length + 1);
  reached[0] = 1;
  leads[0] = 1;
  const nexts = steps.map((step, at): number[] => {
    const kind = step.code & 0x07;
    let next = [at + 1];
    if (kind === Cbpf.RET) next = [];
    else if (kind === Cbpf.JMP)
      next = (step.code & 0xf0) === Cbpf.JA || step.yes === step.no ? [step.yes] : [step.yes, step.no];
    if (kind === Cbpf.JMP || kind === Cbpf.RET) leads[at + 1] = 1;
    if (kind === Cbpf.JMP) for (const to of next) leads[to] = 1;
    if (reached[at] === 1) for (const to of next) reached[to] = 1;
    return next;
  });
  const numbers = new Map<number, number>();
  for (let at = 0; at < steps.length; at++)
    if (leads[at] === 1 && reached[at] === 1) numbers.set(at, numbers.size);
  return [...numbers.keys()].map((start) => {
    let last = start;
    while (leads[last + 1] === 0) last++;
    return { steps: steps.slice(start, last + 1), next: nexts[last].map((to) => numbers.get(to) ?? 0) };
  });
}
