/** Captured traffic as what is usual: played over and over, at a set rate. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '../src/base/errors.ts';
import { FileSource } from '../src/capture/file.ts';
import { Random } from './attack-traffic.ts';
import { type Usual, usualTraffic } from './usual-traffic.ts';

const ETHERNET = 1;
const LONGEST = 1514;
const SHORTEST = 34;
/** Of one capture, and captures of the corpus. */
const MOST_PACKETS = 50_000;
const MOST_FILES = 60;
const FEWEST_PACKETS = 40;

/** Whole Ethernet frames of a capture file that a cable takes. @throws SluiceError FILE and what FileSource says */
function framesOf(path: string): Uint8Array[] {
  const source = FileSource.open(path);
  const frames: Uint8Array[] = [];
  try {
    const more = (): boolean =>
      source.drain(({ u8, offset, caplen, wirelen, linkType }) => {
        if (linkType === ETHERNET && caplen === wirelen && caplen >= SHORTEST && caplen <= LONGEST)
          frames.push(u8.slice(offset, offset + caplen));
      }, 8192);
    while (frames.length < MOST_PACKETS && more());
    if (source.problem !== undefined) throw source.problem;
  } finally {
    source.close();
  }
  return frames;
}

/** Captures of Ethernet in the corpus that SLUICE_CORPUS names; none without it. */
function corpusFiles(env: NodeJS.ProcessEnv): string[] {
  const root = env['SLUICE_CORPUS'];
  if (root === undefined || !existsSync(join(root, 'cases.json'))) return [];
  const cases = JSON.parse(readFileSync(join(root, 'cases.json'), 'utf8')) as {
    name: string;
    packets: number;
    format: string;
    linktype: string;
  }[];
  return cases
    .filter(({ format, packets }) => format === 'pcap' && packets >= FEWEST_PACKETS)
    .toSorted((a, b) => b.packets - a.packets)
    .slice(0, MOST_FILES)
    .map(({ name }) => join(root, name, 'trace.pcap'));
}

/** IPv4 targets, those with most packets first. */
function targets(frames: readonly Uint8Array[]): string[] {
  const counts = new Map<string, number>();
  for (const frame of frames) {
    if (frame[12] !== 8 || frame[13] !== 0) continue;
    const first = frame[30];
    if (first === 0 || first === 127 || first >= 224) continue;
    const target = frame.subarray(30, 34).join('.');
    counts.set(target, (counts.get(target) ?? 0) + 1);
  }
  return [...counts].toSorted((a, b) => b[1] - a[1]).map(([target]) => target);
}

/** The capture file, or those of the corpus (SLUICE_CORPUS), all at a time; without either, made-up traffic of servers. */
export function usualTrace(
  file: string | undefined,
  env: NodeJS.ProcessEnv,
): { name: string; of(seed: number): Usual } {
  const files = file === undefined ? corpusFiles(env) : [file];
  const traces = files.map(framesOf).filter((frames) => frames.length >= FEWEST_PACKETS);
  if (traces.length === 0) {
    if (file !== undefined)
      throw new SluiceError('FILE', `${file} has fewer than ${FEWEST_PACKETS} whole Ethernet frames`);
    return { name: 'made-up traffic of servers', of: (seed) => usualTraffic(seed, '198.51.100') };
  }
  const servers = targets(traces.flat());
  if (servers.length === 0)
    throw new SluiceError('FILE', `there is no IPv4 traffic to one host in ${files.join(', ')}`);
  return {
    name: file ?? `${traces.length} captures of the corpus`,
    of: (seed) => {
      const random = new Random(seed);
      const places = traces.map((frames) => random.int(0, frames.length - 1));
      return {
        servers,
        packet: () => {
          const which = random.int(0, traces.length - 1);
          const frames = traces[which];
          places[which] = (places[which] + 1) % frames.length;
          return frames[places[which]];
        },
      };
    },
  };
}
