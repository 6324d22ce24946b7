import type { Transform } from 'node:stream';
import * as zlib from 'node:zlib';
import { SluiceError } from '../base/errors.ts';
import type { ByteInput } from './input.ts';
import { ZstdFrames, ZstdPart } from './zstd-frames.ts';

export type Packing = 'gzip' | 'zstd';

/** What Node's zlib gives out at a time. */
const OUTPUT_BYTES = 131_072;
/** Unpacked bytes that wait to be read; beyond, nothing more is unpacked. */
const MOST_WAITING = 4 * 2 ** 20;
/** Packed bytes of gzip at a time: at its best ratio (1032) that is 32 MiB unpacked. */
const PIECE = 32_768;
/** How much smaller the pieces are when damage is approached again. */
const CLOSER = 256;
const RAW_BYTES = 2 ** 19;

/** Whether this Node.js can unpack it; zstd came with 22.15. */
export function canUnpack(packing: Packing): boolean {
  return packing === 'gzip' || typeof zlib.createZstdDecompress === 'function';
}

/**
 * Unpacks gzip (any number of members) and zstd (any number of frames) as it is read, in the thread pool, with a bounded
 * amount ahead. Damaged or cut data end with FILE_FORMAT after everything before the damage: zlib throws away what it has
 * unpacked in the call that fails, so a file that can be opened again is unpacked again up to there, in ever smaller
 * pieces; of a pipe at most the last 32 KiB before the damage are lost.
 */
export class UnpackedInput implements ByteInput {
  readonly #packing: Packing;
  readonly #reopen: (() => ByteInput) | undefined;
  #input: ByteInput;
  readonly #raw: Uint8Array;
  #from = 0;
  #to = 0;
  /** Offset in the file of #raw[#from]. */
  #offset = 0;
  #most = 0;

  readonly #queue: Buffer[] = [];
  #queued = 0;
  /** Unpacked bytes that have come so far, and those that come for the second time. */
  #delivered = 0;
  #skip = 0;
  #ended = false;
  #closed = false;
  #error: SluiceError | undefined;
  #wake: (() => void) | undefined;
  #room: (() => void) | undefined;

  #stream: Transform | undefined;
  #fail: (error: Error) => void = () => {};
  #piece = PIECE;
  /** From here on pieces are small. */
  #careful = Number.POSITIVE_INFINITY;

  /**
   * @param head bytes that have been read from the input already
   * @param reopen opens the same file again from its beginning
   */
  constructor(packing: Packing, input: ByteInput, head: Uint8Array, reopen: (() => ByteInput) | undefined) {
    this.#packing = packing;
    this.#input = input;
    this.#reopen = reopen;
    this.#raw = new Uint8Array(Math.max(RAW_BYTES, head.length));
    this.#raw.set(head);
    this.#to = head.length;
    void this.#run();
  }

  get readBytes(): number {
    this.#most = Math.max(this.#most, this.#offset);
    return this.#most;
  }

  read(buffer: Uint8Array, at: number): number {
    let filled = at;
    while (filled < buffer.length && this.#queue.length > 0) {
      const first = this.#queue[0];
      const part = first.subarray(0, buffer.length - filled);
      buffer.set(part, filled);
      filled += part.length;
      if (part.length < first.length) this.#queue[0] = first.subarray(part.length);
      else this.#queue.shift();
    }
    const n = filled - at;
    this.#queued -= n;
    if (this.#queued < MOST_WAITING) this.#room?.();
    if (n > 0) return n;
    if (this.#error !== undefined) throw this.#error;
    return this.#ended ? -1 : 0;
  }

  async wait(): Promise<void> {
    if (this.#queue.length > 0 || this.#ended || this.#closed) return;
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
    });
    this.#wake = undefined;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#stream?.destroy();
    this.#input.close();
    this.#fail(new Error('closed'));
    this.#room?.();
    this.#wake?.();
  }

  async #run(): Promise<void> {
    for (;;) {
      try {
        await (this.#packing === 'gzip' ? this.#gzip() : this.#zstd());
        break;
      } catch (thrown) {
        if (this.#closed) return;
        const error = thrown as Error;
        if (this.#comeCloser(error)) continue;
        this.#error = error instanceof SluiceError ? error : this.#damage(error.message);
        break;
      }
    }
    this.#ended = true;
    this.#wake?.();
  }

  async #gzip(): Promise<void> {
    const stream = this.#begin(zlib.createGunzip({ chunkSize: OUTPUT_BYTES }));
    for (;;) {
      const left = this.#careful - this.#offset;
      const most = left <= 0 ? this.#piece : Math.min(PIECE, left);
      if (!(await this.#have(1))) break;
      await this.#feed(stream, Math.min(most, this.#to - this.#from));
    }
    await this.#finish(stream);
  }

  async #zstd(): Promise<void> {
    const frames = new ZstdFrames();
    let stream: Transform | undefined;
    for (;;) {
      const part = frames.next(this.#raw, this.#from, this.#to);
      if (part === ZstdPart.more) {
        if (await this.#have(frames.length)) continue;
        if (this.#from === this.#to && frames.between) return;
        throw new Error('unexpected end of file');
      }
      if (part === ZstdPart.none) throw new Error('what follows is no zstd data');
      if (part === ZstdPart.skippable) {
        for (let left = frames.length; left > 0; ) {
          if (!(await this.#have(1))) throw new Error('unexpected end of file');
          const n = Math.min(left, this.#to - this.#from);
          this.#take(n);
          left -= n;
        }
        continue;
      }
      stream ??= this.#begin(zlib.createZstdDecompress({ chunkSize: OUTPUT_BYTES }));
      await this.#feed(stream, frames.length);
      if (part !== ZstdPart.last) continue;
      await this.#finish(stream);
      stream = undefined;
    }
  }

  #begin(stream: Transform): Transform {
    this.#stream?.destroy();
    this.#stream = stream;
    stream.on('data', (chunk: Buffer) => {
      if (stream === this.#stream) this.#deliver(chunk);
    });
    stream.on('error', (error) => {
      if (stream === this.#stream) this.#fail(error);
    });
    return stream;
  }

  #deliver(chunk: Buffer): void {
    const again = Math.min(this.#skip, chunk.length);
    this.#skip -= again;
    if (again === chunk.length) return;
    const fresh = chunk.subarray(again);
    this.#delivered += fresh.length;
    this.#queued += fresh.length;
    this.#queue.push(fresh);
    this.#wake?.();
  }

  /** Unpacks the next bytes of #raw; resolves when all that is in them has been delivered. */
  async #feed(stream: Transform, bytes: number): Promise<void> {
    while (this.#queued >= MOST_WAITING && !this.#closed) {
      await new Promise<void>((resolve) => {
        this.#room = resolve;
      });
      this.#room = undefined;
    }
    const piece = this.#raw.subarray(this.#from, this.#from + bytes);
    await this.#settled((resolve) => void stream.write(piece, resolve));
    this.#take(bytes);
  }

  /** Ends a stream: an error when it is not whole. */
  async #finish(stream: Transform): Promise<void> {
    await this.#settled((resolve) => {
      stream.once('end', resolve);
      stream.end();
    });
  }

  #settled(start: (resolve: () => void) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#fail = reject;
      if (this.#closed) reject(new Error('closed'));
      else start(resolve);
    });
  }

  #take(bytes: number): void {
    this.#from += bytes;
    this.#offset += bytes;
  }

  /** Makes at least `bytes` be there in #raw; false when the file ends before. */
  async #have(bytes: number): Promise<boolean> {
    while (this.#to - this.#from < bytes) {
      this.#raw.copyWithin(0, this.#from, this.#to);
      this.#to -= this.#from;
      this.#from = 0;
      const n = this.#input.read(this.#raw, this.#to);
      if (n < 0) return false;
      this.#to += n;
      if (n === 0) await this.#input.wait();
      if (this.#closed) throw new Error('closed');
    }
    return true;
  }

  /** Begins again, to unpack up to just before the piece that failed; false when there is nothing to gain. */
  #comeCloser(error: Error): boolean {
    if (this.#packing !== 'gzip' || this.#reopen === undefined || error instanceof SluiceError) return false;
    // What is missing at the end of the file has cost nothing: the last piece was empty.
    if (this.#piece === 1 || this.#from === this.#to) return false;
    this.#careful = this.#offset;
    this.#piece = Math.max(1, Math.floor(this.#piece / CLOSER));
    this.#skip = this.#delivered;
    this.#input.close();
    this.#input = this.#reopen();
    this.#from = 0;
    this.#to = 0;
    this.#offset = 0;
    return true;
  }

  #damage(what: string): SluiceError {
    return new SluiceError('FILE_FORMAT', `damaged ${this.#packing} data at byte ${this.#offset}: ${what}`, {
      help: 'what came before was read; if the file is still being written or copied, read it again when it is complete',
    });
  }
}
