import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Contender, isInstalled, type Run, run } from './contender.ts';
import { type ManyFlowsOptions, writeManyFlows } from './many-flows.ts';
import { type BenchIo, median, paired, ratio, type Table } from './measure.ts';
import { heapGrowth, type ReadPass, readPass } from './read.ts';
import { BARE, FULL, PEERS } from './read-peers.ts';

const STAGES: Readonly<Record<ReadPass['what'], string>> = {
  source: 'reading alone',
  bare: 'flows, without protocol analyzers (--bare)',
  flow: 'flows',
};

/** How fast a synthetic capture file is read, beside the flow tools that are installed, round by round. */
export async function readTables(
  rounds: number,
  io: BenchIo,
  options: ManyFlowsOptions = {},
): Promise<{ tables: Table[]; notes: string[] }> {
  const dir = mkdtempSync(join(tmpdir(), 'sluice-bench-'));
  try {
    io.progress('writing the file');
    const path = join(dir, 'many-flows.pcap');
    const file = writeManyFlows(path, options);
    const peers = PEERS.filter(({ command }) => isInstalled(command));
    const absent = PEERS.filter((peer) => !peers.includes(peer));
    const { runs, failed } = await contest([BARE, FULL, ...peers], path, rounds, io);
    const stages = inProcess(path, rounds, io);
    const grown = heapGrowth(path);
    const size = `${file.packets.toLocaleString('en-US')} packets, ${file.flows.toLocaleString('en-US')} connections`;
    return {
      tables: [contestTable(size, file.packets, runs), stageTable(file.packets, stages)],
      notes: [
        'Each program is a process of its own on one processor, its start included; Sluice writes conn.log. Rates and ' +
          'ratios are by processor time, user and system, of all threads; memory is the peak of the process.',
        `In the hot loop, flows that begin and end included, ${Math.round(grown / 1024)} KiB of garbage per million packets.`,
        ...failed.map((name) => `${name}: failed or took longer than two minutes`),
        ...(absent.length === 0
          ? []
          : [
              `not installed, not measured: ${absent.map((peer) => `${peer.command} (${peer.package})`).join(', ')}`,
            ]),
      ],
    };
  } finally {
    rmSync(dir, { recursive: true });
  }
}

/** All of them in each round, beginning with another one each time. */
async function contest(
  contenders: readonly Contender[],
  path: string,
  rounds: number,
  io: BenchIo,
): Promise<{ runs: Map<Contender, Run[]>; failed: string[] }> {
  const runs = new Map<Contender, Run[]>(contenders.map((each) => [each, []]));
  const failed: string[] = [];
  for (let round = 0; round < rounds; round++) {
    for (let i = 0; i < contenders.length && !io.stop.aborted; i++) {
      const contender = contenders[(i + round) % contenders.length];
      const soFar = contender === undefined ? undefined : runs.get(contender);
      if (contender === undefined || soFar === undefined) continue;
      if (contender.once === true && soFar.length > 0) continue;
      io.progress(`round ${round + 1} of ${rounds}: ${contender.name}`);
      const result = await run(contender, path);
      if (result !== undefined) soFar.push(result);
      else {
        runs.delete(contender);
        failed.push(contender.name);
      }
    }
  }
  return { runs, failed };
}

function contestTable(size: string, packets: number, runs: Map<Contender, Run[]>): Table {
  const cpuOf = (contender: Contender): number[] =>
    (runs.get(contender) ?? []).map(({ cpuSeconds }) => cpuSeconds);
  const times = (contender: Contender, reference: Contender): number | undefined => {
    const [own, theirs] = [cpuOf(contender), cpuOf(reference)];
    return own.length === 0 || theirs.length === 0 ? undefined : paired(own, theirs, ratio);
  };
  const rows = [...runs]
    .filter(([, each]) => each.length > 0)
    .map(([contender, each]) => ({
      name: contender.name,
      rate: packets / median(cpuOf(contender)) / 1e6,
      cpu: median(cpuOf(contender)),
      seconds: median(each.map(({ seconds }) => seconds)),
      bare: times(contender, BARE),
      full: times(contender, FULL),
      memory: median(each.map(({ peakMiB }) => peakMiB)),
      flows: each.at(-1)?.flows,
    }));
  return {
    title: `reading a capture file of ${size}, whole programs`,
    columns: [
      { key: 'name', title: 'what' },
      { key: 'rate', title: 'Mpackets/s', digits: 2 },
      { key: 'cpu', title: 'CPU s', digits: 2 },
      { key: 'seconds', title: 's', digits: 2 },
      { key: 'bare', title: '× time of --bare', digits: 2 },
      { key: 'full', title: '× time of read', digits: 2 },
      { key: 'memory', title: 'MiB' },
      { key: 'flows', title: 'flows' },
    ],
    rows,
  };
}

function inProcess(path: string, rounds: number, io: BenchIo): Map<ReadPass['what'], ReadPass[]> {
  const passes = new Map<ReadPass['what'], ReadPass[]>([
    ['source', []],
    ['bare', []],
    ['flow', []],
  ]);
  // The first round warms up.
  for (let round = -1; round < rounds && !io.stop.aborted; round++)
    for (const [what, each] of passes) {
      io.progress(STAGES[what]);
      const pass = readPass(path, what);
      if (round >= 0) each.push(pass);
    }
  return passes;
}

function stageTable(packets: number, stages: Map<ReadPass['what'], ReadPass[]>): Table {
  return {
    title: 'the same file within one process that is warm, no log',
    columns: [
      { key: 'name', title: 'what' },
      { key: 'rate', title: 'Mpackets/s', digits: 2 },
      { key: 'ns', title: 'ns per packet' },
      { key: 'flows', title: 'flows' },
    ],
    rows: [...stages].map(([what, passes]) => {
      const seconds = median(passes.map((pass) => pass.seconds));
      return {
        name: STAGES[what],
        rate: packets / seconds / 1e6,
        ns: (seconds * 1e9) / packets,
        flows: what === 'source' ? undefined : passes[0]?.flows,
      };
    }),
  };
}
