import { spawn } from 'node:child_process';
import { closeSync, openSync, truncateSync } from 'node:fs';
import { type Context, HOST_NAME, serverAddress } from './client-context.ts';
import type { Job } from './plan.ts';
import { diesWithParent } from './process.ts';
import { endpoints } from './topology.ts';
import { ports } from './wire.ts';

/** ICMP echoes and their answers. */
export async function ping(job: Job, context: Context): Promise<void> {
  const pace = ['-i', '0.02', '-W', '2'];
  const argv = ['ping', '-n', '-q', '-c', `${job.echoes}`, ...pace, '-s', `${job.bytes}`, serverAddress(job)];
  await command(argv, context);
}

/** The same over curl: a client that is not ours. */
export async function curl(job: Job, context: Context): Promise<void> {
  const host = job.family === 4 ? endpoints.server.ipv4 : `[${endpoints.server.ipv6}]`;
  const argv = ['curl', '-q', '-sS', '-k', '--http1.1', '--noproxy', '*', '-o', '/dev/null'];
  argv.push('--max-time', `${context.maxSeconds}`);
  argv.push('--resolve', `${HOST_NAME}:${job.kind === 'https' ? ports.https : ports.http}:${host}`);
  argv.push('-w', '%{http_code} %{size_download} %{size_upload}');
  if (job.kind === 'https') argv.push(`--tlsv${job.tls}`, '--tls-max', job.tls);
  if (job.close === 'server-fin') argv.push('-H', 'Connection: close');
  if (job.direction === 'upload')
    argv.push('-T', zeros(context.directory, job.bytes), `${job.kind}://${HOST_NAME}/upload`);
  else argv.push(`${job.kind}://${HOST_NAME}/bytes/${job.bytes}`);
  const [status, down, up] = (await command(argv, context)).split(' ').map(Number);
  const moved = job.direction === 'upload' ? up : down;
  if (status !== 200 || moved !== job.bytes) throw new Error(`curl: status ${status}, ${moved} bytes`);
  if (job.direction === 'upload') context.tally.uploaded += job.bytes;
  else context.tally.downloaded += job.bytes;
}

/** A file of so many zero bytes, which takes no room. */
function zeros(directory: string, bytes: number): string {
  const path = `${directory}/zeros-${bytes}`;
  // Another upload may be reading it: it must never be shorter.
  closeSync(openSync(path, 'a'));
  truncateSync(path, bytes);
  return path;
}

/** Runs a client program that dies with this process; its standard output. */
function command(argv: readonly string[], context: Context): Promise<string> {
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
      else reject(new Error(`${argv[0]} ended with ${code}: ${said.trim()}`));
    });
  });
}
