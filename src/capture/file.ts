import { SluiceError } from '../base/errors.ts';
import { BLOCK_PACKETS, type BlockSink, PacketBlock } from '../packet/block.ts';
import { type BatchSink, Packet, type PacketSink } from '../packet/packet.ts';
import { isPcapMagic, PcapReader } from '../packet/pcap.ts';
import { PCAPNG_MAGIC, PcapngReader } from '../packet/pcapng.ts';
import { type CaptureReader, MAX_BLOCK_BYTES, Read } from '../packet/reader.ts';
import { type ByteInput, inputOf, type OpenedFile, openFile } from './input.ts';
import type { StoredSource } from './source.ts';
import { isStreamUrl, streamInput } from './tcp-stream.ts';
import { canUnpack, type Packing, UnpackedInput } from './unpack.ts';

/** What is read at a time: large enough that the calls do not show, small enough to stay in the cache. */
const CHUNK_BYTES = 256 * 1024;
/** Bytes that decide what a file is. */
const MAGIC_BYTES = 4;
/** Packets handed out at a time: few enough that what is done with them stays in the cache. */
const BATCH_PACKETS = 32;

export interface FileSourceOptions {
  /** Bytes per read; 256 KiB unless told. */
  chunkBytes?: number;
  /** Gets the URL of a stream that is listened for, once it is. */
  onListening?: (url: string) => void;
}

/** What a refill came to. */
const Refill = { bytes: 0, starved: 1, end: 2 } as const;
type Refill = (typeof Refill)[keyof typeof Refill];

/** A pcap or pcapng file, packed with gzip or zstd or not, or standard input, as a source of packets. */
export class FileSource implements StoredSource {
  readonly name: string;
  /** Size of the file, for progress; undefined when it is a pipe or a device. */
  readonly totalBytes: number | undefined;
  /** What it is packed with; known with the first bytes. */
  packing: Packing | undefined;
  problem: SluiceError | undefined;
  starved = false;
  /** The frame that `pull` has shown last. */
  readonly packet = new Packet();
  readonly #one: readonly Packet[] = [this.packet];
  readonly #block = new PacketBlock();
  readonly #batch: readonly Packet[] = Array.from({ length: BATCH_PACKETS }, () => new Packet());

  readonly #path: string;
  readonly #chunk: number;
  #input: ByteInput;
  #reader: CaptureReader | undefined;
  #buffer: Uint8Array;
  #filled = 0;
  /** Bytes of the capture before those in the buffer. */
  #before = 0;
  #ended = false;

  private constructor(path: string, name: string, size: number | undefined, input: ByteInput, chunk: number) {
    this.name = name;
    this.totalBytes = size;
    this.#path = path;
    this.#chunk = chunk;
    this.#buffer = new Uint8Array(chunk);
    this.#input = input;
  }

  /** What an input gives, which need not be there yet: what it holds turns out when it is read, as of a pipe. */
  static over(name: string, input: ByteInput, options: FileSourceOptions = {}): FileSource {
    return new FileSource('-', name, undefined, input, chunkOf(options));
  }

  /**
   * Opens a file, standard input as `-`, or a stream of packets (`tcp://…`, `tcp-listen://…`).
   *
   * Errors: FILE when it cannot be opened or read; FILE_FORMAT when it is empty or no capture file. What a pipe or a
   * compressed file holds turns out when it is read: damage that shows up later is not thrown, `drain` ends and
   * `problem` says what it met.
   */
  static open(path: string, options: FileSourceOptions = {}): FileSource {
    if (isStreamUrl(path))
      return FileSource.over(path, streamInput(path, options.onListening ?? (() => {})), options);
    const file: OpenedFile = openFile(path);
    const source = new FileSource(path, file.name, file.size, inputOf(file), chunkOf(options));
    if (file.stream) return source;
    try {
      while (source.#filled < MAGIC_BYTES && !source.#ended) {
        const n = source.#input.read(source.#buffer, source.#filled);
        if (n < 0) break;
        source.#filled += n;
      }
      source.#recognize();
      return source;
    } catch (error) {
      source.#input.close();
      throw error;
    }
  }

  /** Known once the first bytes have been read. */
  get format(): 'pcap' | 'pcapng' | undefined {
    return this.#reader?.format;
  }

  get packets(): number {
    return this.#reader?.packets ?? 0;
  }

  get readBytes(): number {
    return this.#input.readBytes;
  }

  /** Bytes that have been read and are no whole packet yet. */
  get pendingBytes(): number {
    return this.#filled - (this.#reader?.position ?? 0);
  }

  drain(sink: PacketSink, maxPackets: number): boolean {
    const { packet } = this;
    for (let n = 0; n < maxPackets; n++) {
      const state = this.pull();
      if (state !== Read.packet) return state === Read.more;
      sink(packet);
    }
    return true;
  }

  drainBatches(sink: BatchSink, maxPackets: number): boolean {
    for (let left = maxPackets; left > 0; ) {
      const count = this.#gather(Math.min(left, BATCH_PACKETS));
      if (count > 0) {
        sink(this.#batch, count);
        left -= count;
        continue;
      }
      const state = this.pull();
      if (state !== Read.packet) return state === Read.more;
      sink(this.#one, 1);
      left--;
    }
    return true;
  }

  drainBlocks(sink: BlockSink, maxPackets: number): boolean {
    const block = this.#block;
    for (let left = maxPackets; left > 0; ) {
      if (this.#fill(Math.min(left, BLOCK_PACKETS)) === 0) {
        const state = this.pull();
        if (state !== Read.packet) return state === Read.more;
        block.count = 0;
        block.add(this.packet);
      }
      left -= block.count;
      sink(block);
    }
    return true;
  }

  /** As many frames as are in the buffer, up to `most`. */
  #fill(most: number): number {
    const reader = this.#reader;
    const block = this.#block;
    if (reader instanceof PcapReader) return reader.fill(block, most);
    block.count = 0;
    if (reader !== undefined)
      while (block.count < most && reader.next(this.packet) === Read.packet) block.add(this.packet);
    return block.count;
  }

  /** Likewise. */
  #gather(most: number): number {
    const reader = this.#reader;
    const batch = this.#batch;
    let count = 0;
    if (reader !== undefined) while (count < most && reader.next(batch[count]) === Read.packet) count++;
    return count;
  }

  /** Shows the next frame in `packet`; `more` when there is none yet (then `starved` is set), `damaged` at the end, whyever. */
  pull(): Read {
    for (;;) {
      const state = this.#reader === undefined ? Read.more : this.#reader.next(this.packet);
      if (state === Read.packet) return state;
      if (this.#ended) return Read.damaged;
      if (state === Read.damaged) {
        this.#end(this.#reader?.damage);
        return state;
      }
      const refill = this.#refill();
      this.starved = refill === Refill.starved;
      if (refill === Refill.starved) return Read.more;
      if (refill === Refill.end) return Read.damaged;
    }
  }

  async wait(): Promise<void> {
    if (this.starved) await this.#input.wait();
  }

  close(): void {
    this.#ended = true;
    this.#input.close();
  }

  /** Carries the unread rest to the front and reads behind it. */
  #refill(): Refill {
    const reader = this.#reader;
    const position = reader?.position ?? 0;
    const rest = this.#filled - position;
    const wanted = Math.max(this.#chunk, Math.min(reader?.need ?? 0, MAX_BLOCK_BYTES + 64));
    if (wanted > this.#buffer.length) {
      const larger = new Uint8Array(wanted);
      larger.set(this.#buffer.subarray(position, this.#filled));
      this.#buffer = larger;
    } else if (position > 0) {
      this.#buffer.copyWithin(0, position, this.#filled);
    }
    this.#before += position;
    this.#filled = rest;
    let n = 0;
    let problem: SluiceError | undefined;
    try {
      n = this.#input.read(this.#buffer, rest);
    } catch (error) {
      if (!(error instanceof SluiceError)) throw error;
      problem = error;
    }
    if (n > 0) this.#filled += n;
    reader?.window(this.#buffer, 0, this.#filled, this.#before);
    if (problem !== undefined) return this.#end(problem);
    if (n === 0) return Refill.starved;
    if (reader !== undefined) return n > 0 ? Refill.bytes : this.#end(reader.finish());
    if (n > 0 && this.#filled < MAGIC_BYTES) return Refill.bytes;
    try {
      this.#recognize();
    } catch (error) {
      if (!(error instanceof SluiceError)) throw error;
      return this.#end(error);
    }
    return Refill.bytes;
  }

  /** Looks at the first bytes: a capture is read on, a packed one is unpacked. Errors: FILE_FORMAT. */
  #recognize(): void {
    const magic = this.#filled < MAGIC_BYTES ? 0 : new DataView(this.#buffer.buffer).getUint32(0, false);
    if (this.#filled > 0 && (magic === PCAPNG_MAGIC || isPcapMagic(magic))) {
      this.#reader = magic === PCAPNG_MAGIC ? new PcapngReader() : new PcapReader();
      this.#reader.window(this.#buffer, 0, this.#filled, 0);
      return;
    }
    const packer = packerOf(magic);
    if (packer?.packing === undefined || this.packing !== undefined || !canUnpack(packer.packing))
      throw this.#refusal(packer);
    this.packing = packer.packing;
    const again = this.totalBytes === undefined || this.#path === '-' ? undefined : this.#path;
    this.#input = new UnpackedInput(
      packer.packing,
      this.#input,
      this.#buffer.slice(0, this.#filled),
      again === undefined ? undefined : () => inputOf(openFile(again)),
    );
    this.#filled = 0;
  }

  #refusal(packer: Packer | undefined): SluiceError {
    const what = this.packing === undefined ? '' : ` (unpacked from ${this.packing})`;
    if (this.#filled === 0)
      return new SluiceError('FILE_FORMAT', `${this.name} is empty${what}`, {
        help: 'a capture file begins with a header even when it holds no packet',
      });
    if (packer !== undefined)
      return new SluiceError('FILE_FORMAT', `${this.name} is compressed (${packer.name})${what}`, {
        help: `unpack it on the way: ${packer.command} ${this.name} | sluice read -`,
      });
    return new SluiceError('FILE_FORMAT', `${this.name} is neither pcap nor pcapng${what}`, {
      help: 'convert it, for example with: editcap -F pcapng IN OUT',
    });
  }

  #end(problem: SluiceError | undefined): typeof Refill.end {
    this.#ended = true;
    if (problem !== undefined) {
      const packets =
        this.packing !== undefined && problem !== this.#reader?.damage
          ? `, after ${this.packets} packets`
          : '';
      const message = problem.message.startsWith(this.name)
        ? problem.message
        : `${this.name}: ${problem.message}${packets}`;
      this.problem = new SluiceError(problem.code, message, {
        cause: problem,
        ...(problem.help === undefined ? {} : { help: problem.help }),
      });
    }
    return Refill.end;
  }
}

function chunkOf(options: FileSourceOptions): number {
  return Math.max(64, options.chunkBytes ?? CHUNK_BYTES);
}

interface Packer {
  name: string;
  /** What unpacks it to stdout. */
  command: string;
  /** How we unpack it ourselves. */
  packing?: Packing;
}

function packerOf(magic: number): Packer | undefined {
  if (magic >>> 16 === 0x1f8b) return { name: 'gzip', command: 'zcat', packing: 'gzip' };
  if (magic === 0x28b52ffd) return { name: 'zstd', command: 'zstdcat', packing: 'zstd' };
  if (magic === 0xfd377a58) return { name: 'xz', command: 'xzcat' };
  if (magic >>> 8 === 0x425a68) return { name: 'bzip2', command: 'bzcat' };
  return undefined;
}
