import { coarseStep, unshareNetns } from '../src/kernel/index.ts';
import { cable, ip } from './cable.ts';
import { type BenchIo, median, quantile, type Table } from './measure.ts';
import {
  type KindRun,
  type PresetPart,
  type PresetRun,
  type PresetSizes,
  runPresets,
} from './preset-runs.ts';
import { kindsOf, POLICIES, SIZED } from './preset-traffic.ts';

const SIZES: PresetSizes = { connections: 40, packets: 150, rate: 10_000, atATime: 16, paused: false };

/**
 * Each kind is shunted in one part and kept in another, beside others of which it is the other way round: who keeps or takes
 * too much shows at its neighbours.
 */
export async function presetParts(packets: number): Promise<PresetPart[]> {
  const kinds = await kindsOf(packets);
  const halves = [0, 1].map((half) => new Set([...kinds.keys()].filter((i) => i % 2 === half)));
  return [
    ...halves.map((kept) => ({ kinds, policies: POLICIES, kept })),
    ...SIZED.map(({ policies, kind, connections }) => ({
      kinds: [kind, kind],
      policies,
      kept: new Set([1]),
      connections,
    })),
  ];
}

const milliseconds = (delays: readonly number[], share: number): number => quantile(delays, share) * 1000;
const share = (part: number, whole: number): number => (whole === 0 ? 0 : (100 * part) / whole);

const sum = (runs: readonly KindRun[], of: (run: KindRun) => number): number =>
  runs.reduce((total, run) => total + of(run), 0);

/** The rows of a kind: shunted, and kept. */
function rowOf(name: string, taken: readonly KindRun[], kept: readonly KindRun[]) {
  const delays = taken.flatMap((run) => run.delays);
  return {
    name,
    by: taken[0]?.kind.trigger,
    shunted: `${sum(taken, (r) => r.shunted)} of ${sum(taken, (r) => r.connections)}`,
    packets: share(
      sum(taken, (r) => r.droppedPackets),
      sum(taken, (r) => r.packets),
    ),
    bytes: share(
      sum(taken, (r) => r.droppedBytes),
      sum(taken, (r) => r.bytes),
    ),
    median: milliseconds(delays, 0.5),
    p99: milliseconds(delays, 0.99),
    kept: `${sum(kept, (r) => r.connections - r.shunted)} of ${sum(kept, (r) => r.connections)}`,
    keptBy: taken[0]?.kind.carrier === undefined ? 'veto' : `tls=-${taken[0].kind.carrier}`,
    whole: sum([...taken, ...kept], (r) => r.differences.length) === 0 ? 'all' : 'NOT all',
  };
}

/** What became of all frames adds up: what the gate says, what the records say. */
export function ledgerErrors({ kinds, summary, sent }: PresetRun): string[] {
  const { ledger, ring, latePackets } = summary;
  if (ledger === undefined) return ['there is no ledger'];
  const dropped = kinds.reduce((sum, { droppedPackets }) => sum + droppedPackets, 0);
  return [
    ...(ledger.seen.pkts === sent ? [] : [`${ledger.seen.pkts} of ${sent} frames came to the gate`]),
    ...(ledger.shunted.pkts === dropped
      ? []
      : [`the gate dropped ${ledger.shunted.pkts}, the records say ${dropped}`]),
    ...(ledger.passed.pkts === ring.packets
      ? []
      : [`${ledger.passed.pkts} frames passed, ${ring.packets} came to the ring`]),
    ...(ring.drops === 0 ? [] : [`${ring.drops} frames were lost before the sensor`]),
    ...(latePackets === 0 ? [] : [`${latePackets} frames were dropped behind the record`]),
  ];
}

/**
 * Traffic of each preset's kind through `sluice run`, shunted and kept: share, and time from the packet that triggers to the
 * first one that the kernel drops.
 */
export async function benchPresets(
  rounds: number,
  io: BenchIo,
  sizes: PresetSizes = SIZES,
): Promise<{ tables: Table[]; notes: string[] }> {
  unshareNetns();
  const ends = await cable();
  const runs: KindRun[] = [];
  const errors: string[] = [];
  try {
    const parts = await presetParts(sizes.packets);
    for (let round = 0; round < rounds; round++)
      for (const [i, part] of parts.entries()) {
        if (io.stop.aborted) break;
        io.progress(`round ${round + 1} of ${rounds}: run ${i + 1} of ${parts.length}`);
        const run = await runPresets(ends, part, sizes);
        runs.push(...run.kinds);
        errors.push(...ledgerErrors(run), ...run.kinds.flatMap(({ differences }) => differences));
      }
  } finally {
    ip('link', 'del', ends.near);
  }
  const names = [...new Set(runs.map(({ kind }) => kind.name))];
  const rows = names.map((name) => {
    const own = runs.filter(({ kind }) => kind.name === name);
    return rowOf(
      name,
      own.filter(({ kept }) => !kept),
      own.filter(({ kept }) => kept),
    );
  });
  const delays = runs.flatMap((run) => run.delays);
  const interval = (1000 * sizes.atATime) / sizes.rate;
  return {
    tables: [
      {
        title: `each preset on its kind of traffic: ${sizes.connections} connections with ${sizes.packets} packets and more behind the trigger, shunted and kept`,
        columns: [
          { key: 'name', title: 'traffic' },
          { key: 'by', title: 'shunt_trigger' },
          { key: 'shunted', title: 'shunted' },
          { key: 'packets', title: '% of packets', digits: 1 },
          { key: 'bytes', title: '% of bytes', digits: 1 },
          { key: 'median', title: 'to drop: median ms', digits: 1 },
          { key: 'p99', title: 'p99 ms', digits: 1 },
          { key: 'kept', title: 'kept' },
          { key: 'keptBy', title: 'by' },
          { key: 'whole', title: 'records whole' },
        ],
        rows,
      },
    ],
    notes: [
      `Time from the time stamp of the packet that triggers to the first one that the gate drops, over all: median ${milliseconds(delays, 0.5).toFixed(1)} ms, p99 ${milliseconds(delays, 0.99).toFixed(1)} ms of ${delays.length}. It has the ring’s block (10 ms, --retire), and the wait for a packet that can be dropped: each connection has one every ${interval.toFixed(1)} ms. The gate’s clock has steps of ${(coarseStep() * 1000).toFixed(0)} ms.`,
      'Records whole: every field of conn.log and ssl.log but times is that of `sluice read` over the same frames; frames sent, seen by the gate, dropped, passed and received add up.',
      ...(errors.length === 0 ? [] : [`${errors.length} differences: ${errors.slice(0, 5).join('; ')}`]),
      ...(median(delays) >= 0 ? [] : ['Nothing was measured.']),
    ],
  };
}
