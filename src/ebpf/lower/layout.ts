/** A block as the layout sees it: where it may go on, the better way first. */
export interface Placeable {
  /** Blocks that could stand right behind it. */
  readonly next: readonly number[];
  /** Whether it could go on with what stands behind the whole filter. */
  readonly leavesAtEnd: boolean;
}

/**
 * An order in which as many blocks as possible stand right behind one that leads to them: rows of blocks, the first
 * from the entry, the last one such that it can run out at the end. Answers indices.
 */
export function layout(blocks: readonly Placeable[]): number[] {
  const placed = new Uint8Array(blocks.length);
  const rows: number[][] = [];
  for (let start = 0; start < blocks.length; start++) {
    if (placed[start] === 1) continue;
    const row: number[] = [];
    for (let at: number | undefined = start; at !== undefined; ) {
      placed[at] = 1;
      row.push(at);
      at = blocks[at].next.find((one) => placed[one] === 0);
    }
    rows.push(row);
  }
  const [first, ...others] = rows;
  const final = others.findLastIndex((row) => blocks[row[row.length - 1]].leavesAtEnd);
  if (final >= 0) others.push(...others.splice(final, 1));
  return [first, ...others].flat();
}
