import { once } from 'node:events';
import { createLab, type Lab, type LabOptions, type TapName } from '../../lab/index.ts';
import { kernelTest, PATIENCE, until } from '../support/kernel.ts';

/** A test with a lab of its own, which is taken down after it. */
export function labTest(name: string, options: LabOptions, body: (lab: Lab) => Promise<void>): void {
  kernelTest(name, ['xdpNativeVeth', 'xdpFrags', 'tcx'], async () => {
    const lab = await createLab(options);
    try {
      await body(lab);
    } finally {
      await lab.close();
    }
  });
}

/** What tcpdump took from a tap. */
export interface Seen {
  /** The frames, each cut where the watch cuts. */
  frames: Buffer[];
  /** Their lengths on the wire. */
  lengths: number[];
  /** Their time stamps, microseconds since the epoch. */
  stamps: number[];
  /** Frames that tcpdump was too slow for. */
  lost: number;
}

function parsePcap(file: Buffer): Omit<Seen, 'lost'> {
  const frames: Buffer[] = [];
  const lengths: number[] = [];
  const stamps: number[] = [];
  for (let at = 24; at + 16 <= file.length; ) {
    const length = file.readUInt32LE(at + 8);
    frames.push(file.subarray(at + 16, at + 16 + length));
    lengths.push(file.readUInt32LE(at + 12));
    stamps.push(file.readUInt32LE(at) * 1e6 + file.readUInt32LE(at + 4));
    at += 16 + length;
  }
  return { frames, lengths, stamps };
}

/** A classic pcap file, one frame a millisecond. */
export function pcapFile(frames: readonly Buffer[]): Buffer {
  const header = Buffer.alloc(24);
  header.writeUInt32LE(0xa1b2c3d4, 0);
  header.writeUInt16LE(2, 4);
  header.writeUInt16LE(4, 6);
  header.writeUInt32LE(65_535, 16);
  header.writeUInt32LE(1, 20);
  const parts: Buffer[] = [header];
  for (const [index, frame] of frames.entries()) {
    const record = Buffer.alloc(16);
    record.writeUInt32LE(1_700_000_000 + Math.floor(index / 1000), 0);
    record.writeUInt32LE((index % 1000) * 1000, 4);
    record.writeUInt32LE(frame.length, 8);
    record.writeUInt32LE(frame.length, 12);
    parts.push(record, frame);
  }
  return Buffer.concat(parts);
}

/**
 * What tcpdump, a reader that is not ours, takes from a tap between now and `stop`. Its buffer holds a quarter of a
 * million frames cut at 256 bytes, so that no test depends on how soon it is woken; more bytes, fewer frames.
 */
export async function watchTap(lab: Lab, name: TapName, snap = 256) {
  const { namespace, ifname } = lab.tap(name);
  const tuning = ['-B', '131072', '-s', String(snap), '-n', '-U', '-w', '-'];
  const argv = ['tcpdump', '-i', ifname, '--immediate-mode', ...tuning];
  const child = lab.spawn(namespace, argv, { stdio: ['ignore', 'pipe', 'pipe'] });
  const chunks: Buffer[] = [];
  let said = '';
  child.stdout?.on('data', (chunk: Buffer) => chunks.push(chunk));
  const listening = new Promise<void>((resolve) => {
    child.stderr?.on('data', (chunk: Buffer) => {
      said += chunk.toString('latin1');
      if (said.includes('listening on')) resolve();
    });
  });
  await listening;
  /** What it says of frames that it has taken, that there were, and that were lost; it does when asked by a signal. */
  const counts = async (signal: NodeJS.Signals): Promise<Record<'taken' | 'came' | 'lost', number>> => {
    const from = said.length;
    const number = (what: string): number =>
      Number(new RegExp(`(\\d+) packets? ${what}`).exec(said.slice(from))?.[1] ?? Number.NaN);
    child.kill(signal);
    await until(() => number('dropped by kernel') >= 0, 'tcpdump does not say what it has seen');
    return {
      taken: number('captured'),
      came: number('received by filter'),
      lost: number('dropped by kernel'),
    };
  };
  return {
    async stop(): Promise<Seen> {
      // At the signal it ends, and leaves what the kernel still holds for it, and what is on its way: let all come to rest first.
      for (let before = -1, late = performance.now() + PATIENCE * 1000; ; ) {
        const { backlog } = await lab.mirrorCounters(name);
        const { taken, came, lost } = await counts('SIGUSR1');
        if (backlog === 0 && taken + lost === came && came === before) break;
        if (performance.now() > late)
          throw new Error(`a tap does not come to rest: ${taken} of ${came} frames`);
        before = came;
        await new Promise((resolve) => setTimeout(resolve, 300));
      }
      const closed = once(child, 'close');
      const { lost } = await counts('SIGINT');
      await closed;
      return { ...parsePcap(Buffer.concat(chunks)), lost };
    },
  };
}

/** Whether two lists have the same frames in the same order. */
export function sameFrames(a: readonly Buffer[], b: readonly Buffer[]): boolean {
  return a.length === b.length && a.every((frame, index) => frame.equals(b[index]));
}

export const sum = (numbers: readonly number[]): number => numbers.reduce((total, n) => total + n, 0);

export const largest = (numbers: readonly number[]): number =>
  numbers.reduce((most, n) => Math.max(most, n), 0);
