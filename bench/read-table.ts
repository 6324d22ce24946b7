import type { ManyFlowsOptions } from './many-flows.ts';
import { type BenchIo, median, paired, ratio, type Table } from './measure.ts';
import { benchRead, type ReadPass } from './read.ts';
import { isInstalled, PEERS, peerSeconds } from './read-peers.ts';

const PASSES: Readonly<Record<ReadPass['what'], string>> = {
  source: 'reading alone',
  bare: 'flows, without protocol analyzers (--bare)',
  flow: 'flows',
};

/** How fast a synthetic capture file is read, beside the flow tools that are installed, round by round. */
export function readTables(
  rounds: number,
  io: BenchIo,
  options: ManyFlowsOptions = {},
): { tables: Table[]; notes: string[] } {
  const peers = PEERS.filter((peer) => isInstalled(peer));
  const absent = PEERS.filter((peer) => !peers.includes(peer));
  const failed = new Set<string>();
  const seconds = new Map<string, number[]>();
  const add = (name: string, value: number): void => {
    seconds.set(name, [...(seconds.get(name) ?? []), value]);
  };
  io.progress('writing the file');
  const { file, passes } = benchRead({
    ...options,
    rounds,
    onPass: (pass) => {
      add(PASSES[pass.what], pass.seconds);
      io.progress(PASSES[pass.what]);
    },
    onRound: (path) => {
      for (const peer of peers) {
        if (failed.has(peer.name)) continue;
        io.progress(peer.name);
        const took = peerSeconds(peer, path);
        if (took === undefined) failed.add(peer.name);
        else add(peer.name, took);
      }
    },
  });
  const flows = seconds.get(PASSES.flow) ?? [];
  const rows = [...seconds].map(([name, values]) => ({
    name,
    rate: file.packets / median(values) / 1e6,
    ns: (median(values) * 1e9) / file.packets,
    // A peer that failed in some round is not compared round by round.
    ratio: values.length === flows.length ? paired(values, flows, ratio) : undefined,
  }));
  const size = `${file.packets.toLocaleString('en-US')} packets, ${file.flows.toLocaleString('en-US')} connections`;
  return {
    tables: [
      {
        title: `reading a capture file of ${size}`,
        columns: [
          { key: 'name', title: 'what' },
          { key: 'rate', title: 'Mpackets/s', digits: 2 },
          { key: 'ns', title: 'ns per packet' },
          { key: 'ratio', title: '× time of flows', digits: 2 },
        ],
        rows,
      },
    ],
    notes: [
      `${passes.find(({ what }) => what === 'flow')?.flows ?? 0} connections were found; most memory of this process: ` +
        `${Math.round(process.resourceUsage().maxRSS / 1024)} MiB. Peers include their start.`,
      ...[...failed].map((name) => `${name}: failed or took longer than 15 s`),
      ...(absent.length === 0
        ? []
        : [
            `not installed, not measured: ${absent.map((peer) => `${peer.command} (${peer.package})`).join(', ')}`,
          ]),
    ],
  };
}
