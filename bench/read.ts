import { FileSource } from '../src/capture/file.ts';
import { createFlowEngine } from '../src/flow/index.ts';
import type { BlockSink } from '../src/packet/block.ts';

/** One pass over a capture file within this process. */
export interface ReadPass {
  /** `source`: reading alone; `bare`, `flow`: with the flow engine, without and with analyzers, records made and thrown away. */
  what: 'source' | 'bare' | 'flow';
  seconds: number;
  packets: number;
  /** Connections that ended in the pass; 0 for `source`. */
  flows: number;
}

export function readPass(path: string, what: ReadPass['what']): ReadPass {
  let flows = 0;
  const engine =
    what === 'source'
      ? undefined
      : createFlowEngine(
          { bare: what === 'bare' },
          {
            beforePacket: () => {},
            mayExpire: () => true,
            closed: (slot) => {
              flows++;
              engine?.record(slot);
            },
          },
        );
  const sink: BlockSink = engine === undefined ? () => {} : (block) => engine.processBlock(block);
  const source = FileSource.open(path);
  try {
    const start = performance.now();
    while (source.drainBlocks(sink, 65_536));
    engine?.finish();
    const seconds = (performance.now() - start) / 1000;
    if (source.problem !== undefined) throw source.problem;
    return { what, seconds, packets: source.packets, flows };
  } finally {
    source.close();
  }
}

/**
 * Bytes that the heap grows by per million packets in the hot loop: reading, decoding, tables, TCP, without the records of
 * flows that end. The first pass warms up; growth is that between two looks with no collection in between.
 */
export function heapGrowth(path: string): number {
  const pass = (): { packets: number; grown: number } => {
    const engine = createFlowEngine(
      { bare: true },
      { beforePacket: () => {}, mayExpire: () => true, closed: () => {} },
    );
    const source = FileSource.open(path);
    const sink: BlockSink = (block) => engine.processBlock(block);
    let packets = 0;
    let grown = 0;
    try {
      for (;;) {
        const before = process.memoryUsage().heapUsed;
        const more = source.drainBlocks(sink, 65_536);
        const growth = process.memoryUsage().heapUsed - before;
        if (!more) return { packets, grown };
        // A collection has been in between: that piece does not count.
        if (growth < 0) continue;
        packets += 65_536;
        grown += growth;
      }
    } finally {
      source.close();
    }
  };
  pass();
  const { packets, grown } = pass();
  return packets === 0 ? Number.NaN : (grown / packets) * 1e6;
}
