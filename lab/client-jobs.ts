import { spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { truncateSync, writeFileSync } from 'node:fs';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { Job } from './plan.ts';
import { diesWithParent } from './process.ts';
import { endpoints } from './topology.ts';
import { ports, type TrafficRequest, type TrafficTally } from './wire.ts';

const PROGRESS_MS = 250;
/** A transfer in which nothing moves for this long has failed. */
const SILENCE_MS = 15_000;
/** UDP ports come from here, one after the other: no two flows of a run share one (TCP's lie above). */
const FIRST_UDP_PORT = 10_000;
const UDP_PORTS = 10_000;
const HOST_NAME = 'lab.example';

const block = Buffer.alloc(65_536, 'Sluice lab. ');
let nextUdpPort = 0;
let stop = new AbortController();

interface Context {
  tally: TrafficTally;
  signal: AbortSignal;
  directory: string;
  maxSeconds: number;
}

const serverAddress = (job: Job) => (job.family === 4 ? endpoints.server.ipv4 : endpoints.server.ipv6);

/** Ends what is running; runJobs then resolves with what was done. */
export function stopJobs(): void {
  stop.abort();
}

/** Works through the jobs. Never rejects for a job that failed: failures are counted. */
export async function runJobs(
  request: TrafficRequest,
  directory: string,
  progress: (tally: TrafficTally) => void,
): Promise<TrafficTally> {
  stop = new AbortController();
  const begin = performance.now();
  const seconds = () => (performance.now() - begin) / 1000;
  const tally: TrafficTally = {
    seconds: 0,
    done: { https: 0, http: 0, tcp: 0, udp: 0, dns: 0, ping: 0 },
    active: 0,
    open: 0,
    downloaded: 0,
    uploaded: 0,
    lost: 0,
    failures: 0,
    errors: [],
    cut: false,
  };
  const context = { tally, signal: stop.signal, directory, maxSeconds: request.maxSeconds };
  let next = 0;
  let planned = 0;
  const more = (): Job | undefined => {
    const { jobs, repeatSeconds } = request;
    if (stop.signal.aborted || (repeatSeconds === undefined ? next >= jobs.length : seconds() >= repeatSeconds)) return undefined;
    const job = jobs[next % jobs.length] as Job;
    if (planned + job.bytes > request.maxBytes) {
      tally.cut = true;
      return undefined;
    }
    next++;
    planned += job.bytes;
    return job;
  };
  const lane = async () => {
    for (let job = more(); job !== undefined; job = more()) {
      tally.active++;
      try {
        await run(job, context);
        tally.done[job.kind]++;
      } catch (error) {
        if (!stop.signal.aborted) {
          tally.failures++;
          if (tally.errors.length < 10) {
            tally.errors.push(`${job.kind} ${job.direction} ${job.bytes} ${job.close}: ${(error as Error).message}`);
          }
        }
      }
      tally.active--;
    }
  };
  const timer = setInterval(() => progress({ ...tally, seconds: seconds() }), PROGRESS_MS);
  const limit = setTimeout(() => stop.abort(), request.maxSeconds * 1000);
  await Promise.all(Array.from({ length: request.concurrency }, lane));
  clearInterval(timer);
  clearTimeout(limit);
  tally.cut ||= stop.signal.aborted;
  tally.seconds = seconds();
  return tally;
}

function run(job: Job, context: Context): Promise<void> {
  if (job.with === 'curl') return curl(job, context);
  switch (job.kind) {
    case 'tcp':
      return stream(job, context);
    case 'http':
    case 'https':
      return stream(job, context);
    case 'udp':
      return datagrams(job, context);
    case 'dns':
      return query(job, context);
    case 'ping':
      return command(job, context, [
        ...['ping', '-n', '-q', '-c', `${job.echoes}`, '-i', '0.02', '-W', '2', '-s', `${job.bytes}`],
        serverAddress(job),
      ]).then(() => undefined);
  }
}

/** What the client says first. */
function opening(job: Job): string {
  if (job.kind === 'tcp') return `${job.direction} ${job.bytes} ${job.close === 'server-fin' ? 'end' : 'hold'}\n`;
  const connection = job.close === 'server-fin' ? 'close' : 'keep-alive';
  return job.direction === 'download'
    ? `GET /bytes/${job.bytes} HTTP/1.1\r\nHost: ${HOST_NAME}\r\nConnection: ${connection}\r\n\r\n`
    : `PUT /upload HTTP/1.1\r\nHost: ${HOST_NAME}\r\nContent-Length: ${job.bytes}\r\nConnection: ${connection}\r\n\r\n`;
}

const resetRequest = (job: Job) => (job.kind === 'tcp' ? 'R' : `GET /reset HTTP/1.1\r\nHost: ${HOST_NAME}\r\n\r\n`);

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
      if (!this.#head.startsWith('HTTP/1.1 200') || length === null) throw new Error('not the answer expected');
      this.#left = Number(length[1]);
      size = this.#head.length - end - 4;
    }
    this.#left -= size;
    this.body += size;
    if (this.#left < 0) throw new Error('more than was asked for');
  }
}

/** One TCP connection: plain, HTTP, or HTTPS. */
function stream(job: Job, context: Context): Promise<void> {
  const { tally, signal } = context;
  const raw = connect({ host: serverAddress(job), port: ports[job.kind as 'tcp' | 'http' | 'https'], noDelay: true });
  const version = `TLSv${job.tls}` as const;
  const socket: Socket =
    job.kind === 'https'
      ? connectTls({ socket: raw, servername: HOST_NAME, rejectUnauthorized: false, minVersion: version, maxVersion: version })
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

function udpSocket(job: Job) {
  const socket = createSocket({ type: job.family === 4 ? 'udp4' : 'udp6', recvBufferSize: 4 << 20, sendBufferSize: 4 << 20 });
  socket.bind(FIRST_UDP_PORT + (nextUdpPort++ % UDP_PORTS));
  return socket;
}

/** One stream of datagrams at a steady rate. */
function datagrams(job: Job, context: Context): Promise<void> {
  const { tally, signal } = context;
  const socket = udpSocket(job);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  let timer: NodeJS.Timeout | undefined;
  const end = (error?: Error) => {
    clearInterval(timer);
    signal.removeEventListener('abort', abort);
    socket.removeAllListeners();
    socket.close();
    if (error === undefined) resolve();
    else reject(error);
  };
  const abort = () => end(new Error('stopped'));
  signal.addEventListener('abort', abort, { once: true });
  socket.on('error', end);
  let left = job.bytes;
  socket.on('message', (message) => {
    left -= message.length;
    tally.downloaded += message.length;
    timer?.refresh();
    if (left <= 0) end();
  });
  socket.once('listening', () => {
    if (job.direction === 'download') {
      timer = setTimeout(() => {
        tally.lost += left;
        end(left === job.bytes ? new Error('nothing came of a stream') : undefined);
      }, 1000);
      socket.send(`send ${job.bytes} ${job.datagram} ${job.mbps}`, ports.udp, serverAddress(job));
      return;
    }
    const begin = performance.now();
    timer = setInterval(() => {
      const due = ((performance.now() - begin) * job.mbps * 1000) / 8;
      while (left > 0 && job.bytes - left < due) {
        const piece = Math.min(job.datagram, left);
        left -= piece;
        tally.uploaded += piece;
        socket.send(block, 0, piece, ports.udp, serverAddress(job));
      }
      if (left === 0) {
        clearInterval(timer);
        // Datagrams are handed over asynchronously; closing at once would drop the last.
        timer = setTimeout(() => end(), 20);
      }
    }, 4);
  });
  return promise;
}

/** One DNS question and its answer; asked again like a resolver would when nothing comes. */
function query(job: Job, context: Context): Promise<void> {
  const socket = udpSocket(job);
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const number = nextUdpPort;
  const name = Buffer.concat([
    ...`host-${number}.${HOST_NAME}`.split('.').map((label) => Buffer.from([label.length, ...Buffer.from(label)])),
    Buffer.from([0, 0, 1, 0, 1]),
  ]);
  const header = Buffer.from([number >> 8, number & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
  let tries = 0;
  let timer: NodeJS.Timeout | undefined;
  const end = (error?: Error) => {
    clearTimeout(timer);
    context.signal.removeEventListener('abort', abort);
    socket.removeAllListeners();
    socket.close();
    if (error === undefined) resolve();
    else reject(error);
  };
  const abort = () => end(new Error('stopped'));
  context.signal.addEventListener('abort', abort, { once: true });
  const ask = () => {
    if (tries++ === 3) end(new Error('no answer'));
    else {
      timer = setTimeout(ask, 1000);
      socket.send(Buffer.concat([header, name]), ports.dns, serverAddress(job));
    }
  };
  socket.on('error', end);
  socket.on('message', () => end());
  socket.once('listening', ask);
  return promise;
}

/** The same over curl: a client that is not ours. */
async function curl(job: Job, context: Context): Promise<void> {
  const host = job.family === 4 ? endpoints.server.ipv4 : `[${endpoints.server.ipv6}]`;
  const argv = ['curl', '-q', '-sS', '-k', '--noproxy', '*', '--http1.1', '-o', '/dev/null', '--max-time', `${context.maxSeconds}`];
  argv.push('--resolve', `${HOST_NAME}:${job.kind === 'https' ? ports.https : ports.http}:${host}`);
  argv.push('-w', '%{http_code} %{size_download} %{size_upload}');
  if (job.kind === 'https') argv.push(`--tlsv${job.tls}`, '--tls-max', job.tls);
  if (job.close === 'server-fin') argv.push('-H', 'Connection: close');
  if (job.direction === 'upload') argv.push('-T', zeros(context.directory, job.bytes), `${job.kind}://${HOST_NAME}/upload`);
  else argv.push(`${job.kind}://${HOST_NAME}/bytes/${job.bytes}`);
  const [status, down, up] = (await command(job, context, argv)).split(' ').map(Number);
  const moved = job.direction === 'upload' ? up : down;
  if (status !== 200 || moved !== job.bytes) throw new Error(`curl: status ${status}, ${moved} bytes`);
  if (job.direction === 'upload') context.tally.uploaded += job.bytes;
  else context.tally.downloaded += job.bytes;
}

/** A file of so many zero bytes, which takes no room. */
function zeros(directory: string, bytes: number): string {
  const path = `${directory}/zeros-${bytes}`;
  writeFileSync(path, '');
  truncateSync(path, bytes);
  return path;
}

/** Runs a client program that dies with this process; its standard output. */
function command(job: Job, context: Context, argv: readonly string[]): Promise<string> {
  const [program = '', ...args] = diesWithParent(argv);
  const child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const abort = () => child.kill('SIGKILL');
  context.signal.addEventListener('abort', abort, { once: true });
  let out = '';
  let said = '';
  child.stdout.on('data', (chunk: Buffer) => {
    out += chunk.toString('latin1');
  });
  child.stderr.on('data', (chunk: Buffer) => {
    said += chunk.toString('latin1');
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      context.signal.removeEventListener('abort', abort);
      if (code === 0) resolve(out);
      else reject(new Error(`${job.with === 'curl' ? 'curl' : 'ping'} ended with ${code}: ${said.trim()}`));
    });
  });
}
