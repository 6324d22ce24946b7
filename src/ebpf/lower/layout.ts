/** A block as the layout sees it, others by their indices. */
export interface Placeable {
  /** Blocks that it goes on with. */
  readonly next: readonly number[];
  /** Those of them that may stand right behind it, the better one first. */
  readonly behind: readonly number[];
  /** To be placed when nothing else can be. */
  readonly late: boolean;
}

/**
 * An order in which every block stands behind all that lead to it, and right behind one of them where that can be. No jump
 * goes back: the machine code of x86-64 is made in rounds in which it may only shrink, and with jumps back the kernel
 * gives up on some programs ("bpf_jit: fatal error"). Answers indices.
 */
export function layout(blocks: readonly Placeable[]): number[] {
  const waiting = blocks.map(() => 0);
  for (const { next } of blocks) for (const to of next) waiting[to]++;
  const order: number[] = [];
  const ready = blocks.flatMap((_, index) => (waiting[index] === 0 ? [index] : [])).toReversed();
  const take = (wanted: readonly number[]): number | undefined => {
    const best = wanted.find((one) => ready.includes(one));
    const chosen = best ?? ready.findLast((one) => !blocks[one].late) ?? ready[ready.length - 1];
    if (chosen !== undefined) ready.splice(ready.indexOf(chosen), 1);
    return chosen;
  };
  for (let at = take([]); at !== undefined; at = take(blocks[at].behind)) {
    order.push(at);
    for (const to of blocks[at].next) if (--waiting[to] === 0) ready.push(to);
  }
  return order;
}
