import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FileSource } from '../src/capture/file.ts';
import { createFlowEngine } from '../src/flow/index.ts';
import type { BatchSink } from '../src/packet/packet.ts';
import { type ManyFlows, type ManyFlowsOptions, writeManyFlows } from './many-flows.ts';

/** One pass over the file. */
export interface ReadPass {
  /** `source`: reading alone; `flow`: with the flow engine, records made and thrown away; `bare`: without analyzers. */
  what: 'source' | 'bare' | 'flow';
  seconds: number;
  packets: number;
  packetsPerSecond: number;
  bytesPerSecond: number;
  /** Connections that ended in the pass; 0 for `source`. */
  flows: number;
}

export interface ReadBench {
  file: ManyFlows;
  passes: ReadPass[];
}

export interface ReadBenchOptions extends ManyFlowsOptions {
  /** Passes of each kind; 3 unless told. */
  rounds?: number;
  /** Called after each pass. */
  onPass?: (pass: ReadPass) => void;
  /** Called in each round with the file, for others to read it. */
  onRound?: (file: string) => void;
}

/**
 * How fast capture files are read: makes a synthetic file in a temporary directory, reads it alone and with the flow
 * engine, and removes it. Reading comes from the page cache after the first pass.
 */
export function benchRead(options: ReadBenchOptions = {}): ReadBench {
  const dir = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
  try {
    const path = join(dir, 'many-flows.pcap');
    const file = writeManyFlows(path, options);
    const passes: ReadPass[] = [];
    for (let round = 0; round < (options.rounds ?? 3); round++) {
      for (const what of ['source', 'bare', 'flow'] as const) {
        const pass = readPass(path, what);
        passes.push(pass);
        options.onPass?.(pass);
      }
      options.onRound?.(path);
    }
    return { file, passes };
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** One pass over any capture file. */
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
  const sink: BatchSink =
    engine === undefined ? () => {} : (packets, count) => engine.processBatch(packets, count);
  const source = FileSource.open(path);
  try {
    const start = performance.now();
    while (source.drainBatches(sink, 65_536));
    engine?.finish();
    const seconds = (performance.now() - start) / 1000;
    if (source.problem !== undefined) throw source.problem;
    const { packets, readBytes } = source;
    return {
      what,
      seconds,
      packets,
      packetsPerSecond: packets / seconds,
      bytesPerSecond: readBytes / seconds,
      flows,
    };
  } finally {
    source.close();
  }
}
