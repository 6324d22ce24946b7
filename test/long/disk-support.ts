import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { Ledger } from '../../src/gate/index.ts';
import { conversation } from '../../src/packet/conversation.ts';
import type { FrameToWrite } from '../../src/packet/pcap.ts';
import type { ConnLine } from '../sensor/compare.ts';
import { documentOf, type Ended, Feed, LedgerReader, mixed, Run } from '../sensor/run.ts';

export const FEATURES = ['xdpFrags', 'xdpNativeVeth', 'syscallProgram', 'packetRing'] as const;
/** Frames a second. */
export const RATE = 6000;
/** Seconds that a step may take on a machine that is busy. */
export const PATIENCE = 120;

export function ledgerOf(ended: Ended): Ledger {
  const { ledger } = documentOf(ended);
  if (ledger === undefined) throw new Error('a run without a gate');
  return ledger;
}

/** Short connections, each with a client port of its own. */
export const short = (from: number, n: number): FrameToWrite[][] =>
  Array.from({ length: n }, (_, i) =>
    conversation({
      client: { address: '10.1.0.1', port: from + i },
      server: { address: '10.2.0.1', port: 8080 },
      turns: [
        { from: 'client', data: 100 },
        { from: 'server', data: 100 },
      ],
    }),
  );

/** One that is shunted. */
export const long = (port: number): FrameToWrite[] =>
  conversation({
    client: { address: '10.1.0.2', port },
    server: { address: '10.2.0.1', port: 8080 },
    turns: [
      { from: 'client', data: 100 },
      { from: 'server', data: 1_000_000 },
    ],
    mss: 1400,
  });

/** Sends what is mixed with something long, of which the gate has dropped something before the end. */
export async function feedShunted(
  between: { a: string; b: string },
  connections: readonly (readonly FrameToWrite[])[],
): Promise<void> {
  using ledger = new LedgerReader(between.a);
  const frames = mixed(connections);
  await new Feed(between.b, frames, RATE, {
    from: frames.length >> 1,
    to: frames.length - (frames.length >> 3),
    until: () => ledger.read().shunted.pkts > 0,
    what: 'nothing is shunted',
  }).done;
}

/** Records of a log with the files that were kept aside; throws for a line that is not whole. */
export function records(name: string, at: string): ConnLine[] {
  return readdirSync(at)
    .filter((file) => file.startsWith(`${name}.`))
    .flatMap((file) => readFileSync(join(at, file), 'utf8').split('\n').slice(0, -1))
    .map((line) => JSON.parse(line) as ConnLine);
}

export const ports = (lines: readonly ConnLine[]): number[] =>
  lines.map((line) => Number(line['id.orig_p'])).sort((a, b) => a - b);
export const count = (from: number, n: number): number[] => Array.from({ length: n }, (_, i) => from + i);

/** A run with a gate that writes its logs there. */
export const runInto = (dir: string, ifname: string, ...more: string[]): Promise<Run> =>
  new Run(
    ['run', '-i', ifname, '--tap', '--policy', 'bulk=20kB', '--json', '--log-dir', dir].concat(more),
  ).ready();
