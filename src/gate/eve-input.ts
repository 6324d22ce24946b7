import { chmodSync, closeSync, fstatSync, lstatSync, openSync, read, rmSync, statSync } from 'node:fs';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { promisify } from 'node:util';
import { SluiceError } from '../base/errors.ts';
import { fileError } from '../base/file-error.ts';
import { UnixDatagrams } from '../kernel/index.ts';
import { EVE_LIMITS } from './eve-event.ts';

const CHUNK = 65_536;
const FOLLOW_MS = 100;
const MAX_CLIENTS = 16;
const NEWLINE = 0x0a;
const readFd = promisify(read);

/** Where EVE records come from: Suricata's file types `unix_stream` and `unix_dgram`, or a file that is followed. */
export interface EveSource {
  kind: 'unix_stream' | 'unix_dgram' | 'file';
  /** Absolute. */
  path: string;
}

export interface EveInput {
  close(): Promise<void>;
}

/** Told of each line, and of those that were too long. */
export interface EveSink {
  line(text: string): void;
  tooLong(): void;
  failed(error: Error): void;
}

/** Opens the source. @throws SluiceError FILE, ADDRESS_IN_USE */
export async function openEve(source: EveSource, mode: number, sink: EveSink): Promise<EveInput> {
  if (source.kind === 'file') return new FollowedFile(source.path, sink);
  await clearSocket(source.path);
  return source.kind === 'unix_stream'
    ? await listen(source.path, mode, sink)
    : new Datagrams(source.path, mode, sink);
}

/** Cuts bytes into lines; of a line that is too long nothing is kept. */
export class LineCutter {
  readonly #sink: Pick<EveSink, 'line' | 'tooLong'>;
  #held: Buffer[] = [];
  #size = 0;
  #skipping = false;

  constructor(sink: Pick<EveSink, 'line' | 'tooLong'>) {
    this.#sink = sink;
  }

  push(bytes: Buffer): void {
    let from = 0;
    for (;;) {
      const end = bytes.indexOf(NEWLINE, from);
      if (end < 0) break;
      this.#keep(bytes.subarray(from, end));
      this.flush();
      from = end + 1;
    }
    if (from < bytes.length) this.#keep(Buffer.from(bytes.subarray(from)));
  }

  /** What is held is a line. */
  flush(): void {
    if (this.#skipping) this.#sink.tooLong();
    else if (this.#size > 0) this.#sink.line(Buffer.concat(this.#held, this.#size).toString('utf8'));
    this.#held = [];
    this.#size = 0;
    this.#skipping = false;
  }

  #keep(part: Buffer): void {
    if (this.#skipping || this.#size + part.length > EVE_LIMITS.line) {
      this.#skipping = true;
      this.#held = [];
      this.#size = 0;
      return;
    }
    this.#held.push(part);
    this.#size += part.length;
  }
}

/** Removes the socket of somebody who has ended. */
async function clearSocket(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket())
    throw new SluiceError('FILE', `${path} is there already, and is no socket`, {
      help: 'name another path, or a file without unix_stream: or unix_dgram:',
    });
  const lives = await new Promise<boolean>((resolve) => {
    const probe = connect(path, () => {
      probe.destroy();
      resolve(true);
    });
    // EPROTOTYPE: a socket for datagrams; whose daemon is known by its lock.
    probe.on('error', () => resolve(false));
  });
  if (lives)
    throw new SluiceError('ADDRESS_IN_USE', `another program listens at ${path}`, {
      help: 'choose another path',
    });
  rmSync(path, { force: true });
}

async function listen(path: string, mode: number, sink: EveSink): Promise<EveInput> {
  const clients = new Set<Socket>();
  const server: Server = createServer((socket) => {
    if (clients.size >= MAX_CLIENTS) {
      socket.destroy();
      return;
    }
    clients.add(socket);
    const cutter = new LineCutter(sink);
    socket.on('data', (bytes: Buffer) => cutter.push(bytes));
    socket.on('error', () => socket.destroy());
    socket.on('close', () => {
      cutter.flush();
      clients.delete(socket);
    });
  });
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause) =>
      reject(new SluiceError('FILE', `cannot listen at ${path}`, { cause, help: 'check its directory' })),
    );
    server.listen(path, resolve);
  });
  server.on('error', (error) => sink.failed(error));
  chmodSync(path, mode);
  return {
    close: async () => {
      for (const socket of clients) socket.destroy();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** A record in each datagram. */
class Datagrams implements EveInput {
  readonly #socket: UnixDatagrams;
  readonly #path: string;

  constructor(path: string, mode: number, sink: EveSink) {
    const cutter = new LineCutter(sink);
    const buffer = Buffer.alloc(EVE_LIMITS.line + 1);
    this.#path = path;
    this.#socket = new UnixDatagrams(path, () => {
      // No more than a portion: others want the event loop too, and are woken again.
      for (let i = 0; i < 256; i++) {
        const size = this.#socket.receive(buffer);
        if (size < 0) return;
        cutter.push(buffer.subarray(0, size));
        cutter.flush();
      }
    });
    chmodSync(path, mode);
  }

  close(): Promise<void> {
    this.#socket.close();
    rmSync(this.#path, { force: true });
    return Promise.resolve();
  }
}

/** What is appended to a file from now on; through rotation by renaming and by truncation. It need not be there yet. */
class FollowedFile implements EveInput {
  readonly #path: string;
  readonly #sink: EveSink;
  readonly #buffer = Buffer.alloc(CHUNK);
  #cutter: LineCutter;
  #fd: number | undefined;
  #inode = 0;
  #at = 0;
  #timer: NodeJS.Timeout | undefined;
  #working: Promise<void> | undefined;
  #closed = false;

  constructor(path: string, sink: EveSink) {
    this.#path = path;
    this.#sink = sink;
    this.#cutter = new LineCutter(sink);
    this.#open(true);
    this.#timer = setInterval(() => {
      this.#working ??= this.#read()
        .catch((error: Error) => this.#sink.failed(error))
        .finally(() => (this.#working = undefined));
    }, FOLLOW_MS);
  }

  /** `skip`: what is in it is old. */
  #open(skip: boolean): void {
    try {
      const fd = openSync(this.#path, 'r');
      const found = fstatSync(fd);
      if (!found.isFile()) {
        closeSync(fd);
        throw new SluiceError('FILE', `${this.#path} is no file`, {
          help: 'a socket is named unix_stream:PATH or unix_dgram:PATH',
        });
      }
      this.#fd = fd;
      this.#inode = found.ino;
      this.#at = skip ? found.size : 0;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      if (error instanceof SluiceError) throw error;
      throw fileError(this.#path, error);
    }
  }

  async #read(): Promise<void> {
    for (;;) {
      if (this.#fd === undefined) this.#open(false);
      if (this.#fd === undefined) return;
      for (;;) {
        const { bytesRead } = await readFd(this.#fd, this.#buffer, 0, CHUNK, this.#at);
        if (bytesRead === 0 || this.#closed) break;
        this.#at += bytesRead;
        this.#cutter.push(this.#buffer.subarray(0, bytesRead));
      }
      if (this.#closed) return;
      const now = statSync(this.#path, { throwIfNoEntry: false });
      if (now === undefined || now.ino === this.#inode) {
        // Truncated: it begins anew.
        if (now !== undefined && now.size < this.#at) {
          this.#at = 0;
          this.#cutter = new LineCutter(this.#sink);
        }
        return;
      }
      // Another file of the name: what was left of the old one has been read.
      this.#cutter.flush();
      closeSync(this.#fd);
      this.#fd = undefined;
    }
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    await this.#working;
    if (this.#fd !== undefined) closeSync(this.#fd);
    this.#fd = undefined;
  }
}
