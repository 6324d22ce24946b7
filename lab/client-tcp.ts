import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { block, type Context, HOST_NAME, serverAddress } from './client-context.ts';
import type { Job } from './plan.ts';
import { ports, type TrafficTally } from './wire.ts';

/** A transfer in which nothing moves for this long has failed. */
const SILENCE_MS = 60_000;

/** What the client says first. */
function opening(job: Job): string {
  if (job.kind === 'tcp')
    return `${job.direction} ${job.bytes} ${job.close === 'server-fin' ? 'end' : 'hold'}\n`;
  const connection = job.close === 'server-fin' ? 'close' : 'keep-alive';
  return job.direction === 'download'
    ? `GET /bytes/${job.bytes} HTTP/1.1\r\nHost: ${HOST_NAME}\r\nConnection: ${connection}\r\n\r\n`
    : `PUT /upload HTTP/1.1\r\nHost: ${HOST_NAME}\r\nContent-Length: ${job.bytes}\r\nConnection: ${connection}\r\n\r\n`;
}

const resetRequest = (job: Job) =>
  job.kind === 'tcp' ? 'R' : `GET /reset HTTP/1.1\r\nHost: ${HOST_NAME}\r\n\r\n`;

/** Takes what arrives and tells when the answer is whole. */
class Answer {
  body = 0;
  #left: number;
  #head = '';

  /** @param length of the body, or undefined when an HTTP header tells */
  constructor(length: number | undefined) {
    this.#left = length ?? -1;
  }

  get whole(): boolean {
    return this.#left === 0;
  }

  take(chunk: Buffer): void {
    let size = chunk.length;
    if (this.#left < 0) {
      this.#head += chunk.toString('latin1');
      const end = this.#head.indexOf('\r\n\r\n');
      if (end < 0) return;
      const length = /^content-length: (\d+)/im.exec(this.#head);
      if (!this.#head.startsWith('HTTP/1.1 200') || length === null)
        throw new Error('not the answer expected');
      this.#left = Number(length[1]);
      size = this.#head.length - end - 4;
    }
    this.#left -= size;
    this.body += size;
    if (this.#left < 0) throw new Error('more than was asked for');
  }
}

/** One TCP connection: plain, HTTP, or HTTPS. */
export function stream(job: Job, context: Context): Promise<void> {
  const { tally, signal } = context;
  const raw = connect({
    host: serverAddress(job),
    port: ports[job.kind as 'tcp' | 'http' | 'https'],
    noDelay: true,
  });
  const version = `TLSv${job.tls}` as const;
  const socket: Socket =
    job.kind === 'https'
      ? connectTls({
          socket: raw,
          servername: HOST_NAME,
          rejectUnauthorized: false,
          minVersion: version,
          maxVersion: version,
        })
      : raw;
  const upload = job.direction === 'upload';
  const answer = new Answer(job.kind === 'tcp' ? (upload ? 1 : job.bytes) : undefined);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let ending = false;
  const finish = () => {
    if (ending) return;
    ending = true;
    switch (job.close) {
      case 'server-fin':
        return;
      case 'client-fin':
        socket.end();
        return;
      case 'server-rst':
        socket.write(resetRequest(job));
        return;
      case 'client-rst':
        raw.resetAndDestroy();
        return;
      case 'open':
        tally.open++;
        socket.setTimeout(0);
        signal.removeEventListener('abort', abort);
        resolve();
    }
  };
  const abort = () => raw.destroy();
  signal.addEventListener('abort', abort, { once: true });
  const settle = (error?: Error) => {
    signal.removeEventListener('abort', abort);
    raw.destroy();
    // Once the answer is whole, a reset is what was asked for, or comes from a close that both sides began.
    if (answer.whole) resolve();
    else reject(error ?? new Error('closed early'));
  };
  socket.setTimeout(SILENCE_MS, () => settle(new Error('nothing moved')));
  socket.on('error', settle);
  raw.on('error', settle);
  socket.on('close', () => settle());
  raw.on('close', () => settle());
  socket.on('data', (chunk: Buffer) => {
    const before = answer.body;
    try {
      answer.take(chunk);
    } catch (error) {
      settle(error as Error);
      return;
    }
    if (!upload) tally.downloaded += answer.body - before;
    if (answer.whole) finish();
  });
  socket.write(opening(job));
  if (upload) pour(socket, job.bytes, tally);
  else if (job.bytes === 0 && job.kind === 'tcp') finish();
  return promise;
}

function pour(socket: Socket, total: number, tally: TrafficTally): void {
  let left = total;
  const more = () => {
    while (left > 0) {
      const piece = left < block.length ? block.subarray(0, left) : block;
      left -= piece.length;
      tally.uploaded += piece.length;
      if (!socket.write(piece)) {
        socket.once('drain', more);
        return;
      }
    }
  };
  more();
}
