import { SluiceError } from '../../base/errors.ts';
import { inputOf, openFile } from '../../capture/input.ts';
import { canUnpack, type Packing, UnpackedInput } from '../../capture/unpack.ts';

const NEWLINE = 10;
const CHUNK = 2 ** 18;
/** A longer line is no record: it goes by in pieces. */
const LONGEST = 4 * 2 ** 20;

/** A line without its newline, or a piece of what is too long for one. */
export interface Line {
  bytes: Buffer;
  /** A newline follows it. */
  ended: boolean;
  /** It is all of the line. */
  whole: boolean;
}

/** What the first bytes say that the rest is packed with. */
function packingOf(head: Buffer): Packing | undefined {
  if (head.length < 4) return undefined;
  if (head.readUInt16BE(0) === 0x1f8b) return 'gzip';
  return head.readUInt32BE(0) === 0x28b52ffd ? 'zstd' : undefined;
}

/**
 * The lines of a log, plain, gzip or zstd, of which no more than one is held in memory.
 * @throws SluiceError FILE, FILE_FORMAT
 */
export async function* logFileLines(path: string): AsyncGenerator<Line> {
  const open = () => inputOf(openFile(path));
  let input = open();
  try {
    const head = Buffer.alloc(CHUNK);
    let filled = 0;
    while (filled < 4) {
      const n = input.read(head, filled);
      if (n < 0) break;
      if (n === 0) await input.wait();
      filled += Math.max(0, n);
    }
    let first: Buffer = head.subarray(0, filled);
    const packing = packingOf(first);
    if (packing !== undefined) {
      if (!canUnpack(packing))
        throw new SluiceError(
          'FILE_FORMAT',
          `${path} is packed with ${packing}, which this Node.js cannot unpack`,
          {
            help: `${packing === 'zstd' ? 'zstdcat' : 'zcat'} ${path} > plain.log`,
          },
        );
      input = new UnpackedInput(packing, input, first, path === '-' ? undefined : open);
      first = Buffer.alloc(0);
    }
    yield* split(first, async (buffer) => {
      for (;;) {
        const n = input.read(buffer, 0);
        if (n !== 0) return n;
        await input.wait();
      }
    });
  } finally {
    input.close();
  }
}

async function* split(first: Buffer, read: (buffer: Uint8Array) => Promise<number>): AsyncGenerator<Line> {
  let rest = first;
  let broken = false;
  const buffer = Buffer.alloc(CHUNK);
  for (;;) {
    let begin = 0;
    for (let end = rest.indexOf(NEWLINE); end >= 0; end = rest.indexOf(NEWLINE, begin)) {
      yield { bytes: rest.subarray(begin, end), ended: true, whole: !broken };
      broken = false;
      begin = end + 1;
    }
    rest = rest.subarray(begin);
    if (rest.length > LONGEST) {
      yield { bytes: rest, ended: false, whole: false };
      broken = true;
      rest = Buffer.alloc(0);
    }
    const n = await read(buffer);
    if (n < 0) break;
    rest = Buffer.concat([rest, buffer.subarray(0, n)]);
  }
  if (rest.length > 0) yield { bytes: rest, ended: false, whole: !broken };
}
