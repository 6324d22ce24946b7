import { closeSync, fstatSync, openSync, readSync } from 'node:fs';
import { SluiceError } from '../base/errors.ts';
import { Packet, type PacketSink } from '../packet/packet.ts';
import { isPcapMagic, PcapReader } from '../packet/pcap.ts';
import { PCAPNG_MAGIC, PcapngReader } from '../packet/pcapng.ts';
import { type CaptureReader, MAX_BLOCK_BYTES, Read } from '../packet/reader.ts';
import type { PacketSource } from './source.ts';

/** What is read at a time: large enough that the calls do not show, small enough to stay near the cache. */
const CHUNK_BYTES = 8 * 1024 * 1024;
const STDIN = 0;

export interface FileSourceOptions {
  /** Bytes per read; 8 MiB unless told. */
  chunkBytes?: number;
}

/** A pcap or pcapng file, or standard input, as a source of packets. */
export class FileSource implements PacketSource {
  readonly name: string;
  readonly format: 'pcap' | 'pcapng';
  /** Size of the file, for progress; undefined when it is a pipe or a device. */
  readonly totalBytes: number | undefined;
  /** Bytes read from the file so far. */
  readBytes = 0;
  problem: SluiceError | undefined;

  readonly #fd: number;
  readonly #reader: CaptureReader;
  readonly #packet = new Packet();
  readonly #chunk: number;
  #buffer: Uint8Array;
  #filled: number;
  #ended = false;
  #closed = false;

  private constructor(
    name: string,
    fd: number,
    totalBytes: number | undefined,
    reader: CaptureReader,
    first: { buffer: Uint8Array; filled: number; chunk: number },
  ) {
    this.name = name;
    this.format = reader.format;
    this.totalBytes = totalBytes;
    this.readBytes = first.filled;
    this.#fd = fd;
    this.#reader = reader;
    this.#buffer = first.buffer;
    this.#filled = first.filled;
    this.#chunk = first.chunk;
    reader.window(first.buffer, 0, first.filled, 0);
  }

  /**
   * Opens a file, or standard input as `-`.
   *
   * Errors: FILE when it cannot be opened or read; FILE_FORMAT when it is empty or no capture file. Damage that
   * shows up later is not thrown: `drain` ends and `problem` says what it met.
   */
  static open(path: string, options: FileSourceOptions = {}): FileSource {
    const name = path === '-' ? 'standard input' : path;
    const chunk = Math.max(64, options.chunkBytes ?? CHUNK_BYTES);
    const fd = path === '-' ? STDIN : openFile(path);
    try {
      const stat = fstatSync(fd);
      if (stat.isDirectory())
        throw new SluiceError('FILE', `${name} is a directory`, { help: 'name the capture files in it' });
      const buffer = new Uint8Array(chunk);
      let filled = 0;
      while (filled < 4) {
        const n = readFile(fd, name, buffer, filled);
        if (n === 0) break;
        filled += n;
      }
      return new FileSource(
        name,
        fd,
        stat.isFile() ? stat.size : undefined,
        readerFor(name, buffer, filled),
        { buffer, filled, chunk },
      );
    } catch (error) {
      if (fd !== STDIN) closeSync(fd);
      throw error;
    }
  }

  get packets(): number {
    return this.#reader.packets;
  }

  drain(sink: PacketSink, maxPackets: number): boolean {
    if (this.#ended || this.#closed) return false;
    const reader = this.#reader;
    const packet = this.#packet;
    for (let n = 0; n < maxPackets; ) {
      const state = reader.next(packet);
      if (state === Read.packet) {
        sink(packet);
        n++;
      } else if (state === Read.damaged) {
        return this.#end(reader.damage);
      } else if (!this.#refill()) {
        return false;
      }
    }
    return true;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#fd !== STDIN) closeSync(this.#fd);
  }

  /** Carries the unread rest to the front and reads behind it; false at the end of the file or on an error. */
  #refill(): boolean {
    const reader = this.#reader;
    const rest = this.#filled - reader.position;
    const wanted = Math.max(this.#chunk, Math.min(reader.need, MAX_BLOCK_BYTES + 64));
    if (wanted > this.#buffer.length) {
      const larger = new Uint8Array(wanted);
      larger.set(this.#buffer.subarray(reader.position, this.#filled));
      this.#buffer = larger;
    } else {
      this.#buffer.copyWithin(0, reader.position, this.#filled);
    }
    this.#filled = rest;
    const before = this.readBytes - rest;
    let n = 0;
    try {
      n = readFile(this.#fd, this.name, this.#buffer, rest);
    } catch (error) {
      reader.window(this.#buffer, 0, rest, before);
      if (!(error instanceof SluiceError)) throw error;
      return this.#end(error);
    }
    this.#filled += n;
    this.readBytes += n;
    reader.window(this.#buffer, 0, this.#filled, before);
    return n > 0 || this.#end(reader.finish());
  }

  #end(problem: SluiceError | undefined): false {
    this.#ended = true;
    if (problem !== undefined) {
      this.problem = new SluiceError(problem.code, `${this.name}: ${problem.message}`, {
        cause: problem,
        ...(problem.help === undefined ? {} : { help: problem.help }),
      });
    }
    return false;
  }
}

function openFile(path: string): number {
  try {
    return openSync(path, 'r');
  } catch (error) {
    throw fileError(path, error);
  }
}

function readFile(fd: number, name: string, buffer: Uint8Array, at: number): number {
  for (;;) {
    try {
      return readSync(fd, buffer, at, buffer.length - at, null);
    } catch (error) {
      const code = (error as NodeJS.ErrnoException).code;
      if (code === 'EOF') return 0;
      if (code !== 'EAGAIN' && code !== 'EINTR') throw fileError(name, error);
      // Somebody has made the pipe non-blocking: wait for its writer.
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5);
    }
  }
}

function fileError(name: string, error: unknown): SluiceError {
  const code = (error as NodeJS.ErrnoException).code ?? 'unknown error';
  switch (code) {
    case 'ENOENT':
    case 'ENOTDIR':
      return new SluiceError('FILE', `there is no file ${name}`, {
        cause: error,
        help: 'check the path; - reads standard input',
      });
    case 'EACCES':
    case 'EPERM':
      return new SluiceError('FILE', `no permission to read ${name}`, {
        cause: error,
        help: 'give this user the right to read it, or run as a user who has it',
      });
    case 'EISDIR':
      return new SluiceError('FILE', `${name} is a directory`, {
        cause: error,
        help: 'name the capture files in it',
      });
    case 'EMFILE':
    case 'ENFILE':
      return new SluiceError('FILE', `too many open files to read ${name}`, {
        cause: error,
        help: 'raise the limit (ulimit -n)',
      });
    default:
      return new SluiceError('FILE', `${name} cannot be read: ${code}`, {
        cause: error,
        help: 'check the medium that the file lies on',
      });
  }
}

function readerFor(name: string, u8: Uint8Array, length: number): CaptureReader {
  if (length === 0)
    throw new SluiceError('FILE_FORMAT', `${name} is empty`, {
      help: 'a capture file begins with a header even when it holds no packet',
    });
  const magic = length < 4 ? 0 : new DataView(u8.buffer, u8.byteOffset).getUint32(0, false);
  if (magic === PCAPNG_MAGIC) return new PcapngReader();
  if (isPcapMagic(magic)) return new PcapReader();
  const packer = packerOf(magic);
  if (packer !== undefined) {
    throw new SluiceError('FILE_FORMAT', `${name} is compressed (${packer.name})`, {
      help: `unpack it on the way: ${packer.command} ${name} | sluice read -`,
    });
  }
  throw new SluiceError('FILE_FORMAT', `${name} is neither pcap nor pcapng`, {
    help: 'convert it, for example with: editcap -F pcapng IN OUT',
  });
}

function packerOf(magic: number): { name: string; command: string } | undefined {
  if (magic >>> 16 === 0x1f8b) return { name: 'gzip', command: 'zcat' };
  if (magic === 0x28b52ffd) return { name: 'zstd', command: 'zstdcat' };
  if (magic === 0xfd377a58) return { name: 'xz', command: 'xzcat' };
  if (magic >>> 8 === 0x425a68) return { name: 'bzip2', command: 'bzcat' };
  return undefined;
}
