import { bpfObjectPath } from '../src/gate/index.ts';
import { type BpfObject, loadObject, setThreadAffinity } from '../src/kernel/index.ts';
import { eth } from '../src/packet/build.ts';
import { parseAction, parseRule } from '../src/rules/spec.ts';
import { type BenchIo, difference, interleaved, median, paired, ratio, type Table } from './measure.ts';
import { RuleTables } from './rules.ts';

const REPEAT = 200_000;
/** Sources: powers of two. The table of buckets holds 65,536. */
const SOURCES = [1, 1 << 10, 1 << 15, 1 << 24] as const;
/** What each is beside: a rule that drops without asking how much. */
const PLAIN = 'drop';
const ACTIONS = [PLAIN, 'limit=100pps', 'limit=100pps,per=source'] as const;
/** Long enough to be taken for TCP by what changes its addresses. */
const FRAME = eth()
  .ipv4({ src: '10.0.0.0', dst: '192.0.2.1' })
  .udp({ sport: 53, dport: 53 })
  .payload(40)
  .bytes();

interface Variant {
  readonly action: string;
  readonly sources: number;
  /** The gate behind what changes the source of each packet. */
  readonly front: BpfObject;
}

/**
 * Nanoseconds per packet that a rate limit takes over a rule that drops, which packets of as many sources meet in turn; more of them
 * than the table of its buckets holds as well. Needs CAP_BPF.
 */
export async function benchLimits(
  rounds: number,
  io: BenchIo,
): Promise<{ tables: Table[]; notes: string[] }> {
  const gates: RuleTables[] = [];
  const variants: Variant[] = [];
  try {
    for (const action of ACTIONS)
      for (const sources of SOURCES) {
        const gate = new RuleTables(false);
        gates.push(gate);
        await gate.live.apply([
          { rule: parseRule({ id: 'r', expr: 'udp', action: parseAction(action) }), on: true },
        ]);
        const front = loadObject(bpfObjectPath('bench_bare'), {
          constants: { cfg_source_mask: sources - 1 },
        });
        front.map('next').set(new Uint8Array(4), new Uint8Array(Uint32Array.of(gate.program.fd).buffer));
        variants.push({ action, sources, front });
      }
    setThreadAffinity(0);
    const values = await interleaved(
      variants,
      rounds,
      io,
      ({ front }) => front.program('bench_sources').testRun({ data: FRAME, repeat: REPEAT }).durationNs,
    );
    const of = (action: string, sources: number): number[] =>
      values[variants.findIndex((one) => one.action === action && one.sources === sources)];
    return {
      tables: [
        {
          title:
            'Rate limits that packets of many sources meet in turn: ns per packet, and over a rule that drops them',
          columns: [
            { key: 'action', title: 'action' },
            { key: 'sources', title: 'sources' },
            { key: 'ns', title: 'ns', digits: 1 },
            { key: 'over', title: 'over drop, ns', digits: 1 },
            { key: 'times', title: '\u00d7 drop', digits: 2 },
          ],
          rows: variants.map(({ action, sources }, at) => ({
            action,
            sources,
            ns: median(values[at]),
            over: paired(values[at], of(PLAIN, sources), difference),
            times: paired(values[at], of(PLAIN, sources), ratio),
          })),
        },
      ],
      notes: [
        'The table of single addresses holds 65,536: of 16,777,216 sources nearly each packet makes a bucket and forgets another one.',
      ],
    };
  } finally {
    for (const { front } of variants) front.close();
    for (const gate of gates) await gate.close();
  }
}
