import type { Language } from '../src/filter/index.ts';
import { bpfObjectPath } from '../src/gate/index.ts';
import { SlPacket } from '../src/gate/layout.gen.ts';
import { RulesSlot } from '../src/gate/layout.ts';
import { loadGate } from '../src/gate/load.ts';
import { installOwn, occupy } from '../src/gate/slots.ts';
import { type BpfObject, type BpfProgram, possibleCpus, setThreadAffinity } from '../src/kernel/index.ts';
import { eth } from '../src/packet/build.ts';
import { LiveRules, type PlacedHere } from '../src/rules/live-rules.ts';
import { parseAction, parseRule } from '../src/rules/spec.ts';
import { type BenchIo, difference, interleaved, median, paired, type Table } from './measure.ts';

const SIZES = [1, 10, 100, 1000, 10_000] as const;
const REPEAT = 200_000;

/** A text of a rule: each number gives another one, of the kinds that mitigation makes, in the shares that it makes them. */
function expression(n: number): { lang: Language; expr: string } {
  const host = `10.${(n >> 16) & 255}.${(n >> 8) & 255}.${n & 255}`;
  const net = `172.${16 + ((n >> 8) & 15)}.${n & 255}.0/24`;
  const port = [19, 53, 123, 389, 1900, 11211][n % 6];
  const hex = n.toString(16);
  switch (n % 20) {
    case 0:
    case 1:
    case 2:
    case 3:
    case 4:
    case 5:
      return { lang: 'tcpdump', expr: `dst host ${host} and udp src port ${port}` };
    case 6:
    case 7:
      return { lang: 'tcpdump', expr: `dst net ${net} and tcp dst port ${1024 + (n % 5000)}` };
    case 8:
    case 9:
      return { lang: 'tcpdump', expr: `dst host ${host} and tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn` };
    case 10:
    case 11:
      return { lang: 'tcpdump', expr: `dst host ${host} and udp and greater ${400 + (n % 800)}` };
    case 12:
    case 13:
      return { lang: 'tcpdump', expr: `src net ${net}` };
    case 14:
      return { lang: 'tcpdump', expr: `ip6 dst host 2001:db8::${hex} and udp src port ${port}` };
    case 15:
      return { lang: 'tcpdump', expr: `src host ${host} and dst host 192.0.2.${n & 255}` };
    case 16:
      return { lang: 'tcpdump', expr: `dst host ${host} and ip[8] < 32 and tcp dst port 443` };
    case 17:
      return { lang: 'dns', expr: `n${hex}.example.com` };
    case 18:
      return { lang: 'dns', expr: `*.z${hex}.example.net` };
    default:
      return {
        lang: 'p0f',
        expr: `4:${64 + (n % 3) * 64}:0:${1000 + (n % 460)}:${1024 + n},${n % 10}:mss,nop,ws:df:0`,
      };
  }
}

export function rulesOf(count: number): PlacedHere[] {
  return Array.from({ length: count }, (_, n) => {
    const { lang, expr } = expression(n);
    return { rule: parseRule({ id: `r${n}`, expr, lang, action: parseAction('drop') }), on: true };
  });
}

const ip = { src: '198.51.100.1', dst: '203.0.113.1' };
/** Packets that match none of them. */
const PACKETS: readonly (readonly [string, Uint8Array])[] = [
  ['TCP', eth().ipv4(ip).tcp({ sport: 40_000, dport: 443, flags: 'A' }).payload('x').bytes()],
  ['UDP 53', eth().ipv4(ip).udp({ sport: 40_000, dport: 53 }).payload(query('www.example.org')).bytes()],
  [
    'SYN',
    eth()
      .ipv4(ip)
      .tcp({ sport: 40_000, dport: 443, flags: 'S', window: 64_240, mss: 1460 } as never)
      .bytes(),
  ],
];

/** A DNS query for an address. */
function query(name: string): Uint8Array {
  const labels = name.split('.').flatMap((label) => [label.length, ...Buffer.from(label)]);
  return Uint8Array.from([0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...labels, 0, 0, 1, 0, 1]);
}

/** A gate of its own that nothing is attached to. */
export class RuleTables {
  readonly object: BpfObject;
  readonly live: LiveRules;

  constructor(chain: boolean) {
    this.object = loadGate(bpfObjectPath('gate'), {
      constants: { cfg_rules: 1 },
      mapSizes: { ledger: possibleCpus() },
    });
    const rules = this.object.map('rules');
    installOwn(rules, this.object);
    this.live = new LiveRules({
      rules,
      scratch: this.object.map('scratch'),
      enter: (program) => occupy(rules, RulesSlot.entry, program),
      frameLength: SlPacket.members.frame_len,
      now: () => performance.now() / 1000,
      grace: () => Promise.resolve(),
      programs: { chain },
    });
  }

  get program(): BpfProgram {
    return this.object.program('sluice_gate');
  }

  nanoseconds(data: Uint8Array): number {
    return this.program.testRun({ data, repeat: REPEAT }).durationNs;
  }

  async close(): Promise<void> {
    await this.live.close();
    this.object.close();
  }
}

interface Variant {
  readonly rules: number;
  readonly chain: boolean;
  readonly tables: RuleTables;
  readonly row: Record<string, string | number | undefined>;
}

/**
 * Rule sets of growing size: time to load (texts to running programs), size, and nanoseconds per packet that matches none,
 * beside the same rules one after the other. Over the gate without rules, in the same rounds. Needs CAP_BPF.
 */
export async function benchRules(
  rounds: number,
  io: BenchIo,
  sizes: readonly number[] = SIZES,
): Promise<{ tables: Table[]; notes: string[] }> {
  const variants: Variant[] = [];
  const notes: string[] = [];
  const none = new RuleTables(false);
  try {
    for (const rules of sizes) {
      for (const chain of [false, true]) {
        if (io.stop.aborted) break;
        io.progress(`${rules} rules${chain ? ', one after the other' : ''}: loading`);
        const tables = new RuleTables(chain);
        const began = performance.now();
        const row: Variant['row'] = { rules, how: chain ? 'chain' : 'merged' };
        try {
          const applied = await tables.live.apply(rulesOf(rules));
          row['load'] = performance.now() - began;
          row['programs'] = applied.count;
          row['instructions'] = tables.live.translated();
          row['jited'] = tables.live.jitedBytes() / 1024;
          variants.push({ rules, chain, tables, row });
        } catch (error) {
          await tables.close();
          notes.push(`${rules} rules, ${String(row['how'])}: ${(error as Error).message}`);
        }
      }
    }
    setThreadAffinity(0);
    for (const [name, data] of PACKETS) {
      const cases = [none, ...variants.map(({ tables }) => tables)];
      const values = await interleaved(cases, rounds, io, (tables) => tables.nanoseconds(data));
      for (const [at, { row }] of variants.entries())
        row[name] = paired(values[at + 1], values[0], difference);
      notes.push(`${name} without rules: ${median(values[0]).toFixed(1)} ns`);
    }
  } finally {
    for (const { tables } of variants) await tables.close();
    await none.close();
  }
  return {
    tables: [
      {
        title: 'Rules that match nothing: ns per packet over the gate without rules',
        columns: [
          { key: 'rules', title: 'rules' },
          { key: 'how', title: 'how' },
          { key: 'load', title: 'load ms', digits: 1 },
          { key: 'programs', title: 'programs' },
          { key: 'instructions', title: 'translated' },
          { key: 'jited', title: 'jited KiB', digits: 1 },
          ...PACKETS.map(([name]) => ({ key: name, title: `${name} ns`, digits: 1 })),
        ],
        rows: variants.map(({ row }) => row),
      },
    ],
    notes,
  };
}
