import { chmodSync, mkdirSync, rmSync } from 'node:fs';
import { connect, createServer, type Socket } from 'node:net';
import { dirname } from 'node:path';
import { asSluiceError, ERROR_CODES, type ErrorCode, SluiceError } from '../src/base/errors.ts';
import type { Lab } from './lab.ts';
import { presets } from './plan.ts';
import { runTraffic } from './traffic.ts';

/** What another process may ask of a running lab. `down` is answered when the lab is gone. */
export type LabRequest =
  | { command: 'info' }
  | { command: 'traffic'; preset: string; seconds: number }
  | { command: 'replay'; file: string; mbps?: number; pps?: number; topspeed?: boolean; loops?: number }
  | { command: 'down' };

/** A line of the answer: any number of `progress`, then one of the others. */
interface Answer {
  progress?: unknown;
  result?: unknown;
  error?: { code: ErrorCode; message: string; help: string | undefined };
}

/** The lab as it is told to others. */
export interface LabInfo {
  pid: number;
  options: Lab['options'];
  namespaces: Record<string, { pid: number; path: string }>;
  taps: Record<'a' | 'b', { pid: number; netns: string; ifname: string }>;
}

const MAX_LINE = 65_536;
/** Milliseconds to say what is wanted. */
const REQUEST_MS = 5000;

/** Where a lab listens unless told otherwise: a place of this user's own. */
export function defaultSocket(): string {
  const base = process.getuid?.() === 0 ? '/run' : (process.env['XDG_RUNTIME_DIR'] ?? '/tmp');
  return `${base}/sluice/lab.sock`;
}

export function labInfo(lab: Lab): LabInfo {
  const names = ['client', 'server', 'hub', 'tapA', 'tapB', 'replay'] as const;
  const tap = (name: 'a' | 'b') => {
    const { pid, netns, ifname } = lab.tap(name);
    return { pid, netns, ifname };
  };
  return {
    pid: process.pid,
    options: lab.options,
    namespaces: Object.fromEntries(
      names.map((name) => [name, { pid: lab.namespace(name).pid, path: lab.namespace(name).path }]),
    ),
    taps: { a: tap('a'), b: tap('b') },
  };
}

/**
 * Lets other processes of the same user use a lab, over a Unix socket that only its owner may open.
 * @param down called when one asks for the lab's end; settles when it is gone
 * @returns a function that closes the socket, once everyone has been answered, and removes it
 * @throws SluiceError LAB when a lab is already listening there
 */
export async function serveLab(
  lab: Lab,
  path: string,
  down: () => Promise<void>,
): Promise<() => Promise<void>> {
  if (await answers(path)) {
    throw new SluiceError('LAB', `a lab is already up at ${path}`, {
      help: '`sluice lab down` ends it; `--socket PATH` lets a second one live beside it',
    });
  }
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  // Left by a process that was killed.
  rmSync(path, { force: true });
  const attended = new Set<Promise<void>>();
  const server = createServer((socket) => {
    const visit = attend(lab, socket, down);
    attended.add(visit);
    void visit.then(() => attended.delete(visit));
  });
  // The file must at no time be open to others, not even between its making and a chmod.
  const mask = process.umask(0o177);
  const listening = new Promise<void>((resolve, reject) => {
    server.once('error', (error) =>
      reject(new SluiceError('LAB', `cannot listen at ${path}`, { cause: error })),
    );
    server.listen(path, resolve);
  });
  process.umask(mask);
  await listening;
  chmodSync(path, 0o600);
  return async () => {
    const closed = new Promise((resolve) => server.close(resolve));
    await Promise.all(attended);
    await closed;
  };
}

/** Reads one request from a connection and answers it. Never rejects. */
async function attend(lab: Lab, socket: Socket, down: () => Promise<void>): Promise<void> {
  const gone = new AbortController();
  socket.on('error', () => undefined);
  const closed = new Promise<void>((resolve) =>
    socket.once('close', () => {
      gone.abort();
      resolve();
    }),
  );
  const say = (answer: Answer) => socket.writable && socket.write(`${JSON.stringify(answer)}\n`);
  // Who says nothing must not hold up the lab's end.
  socket.setTimeout(REQUEST_MS, () => socket.destroy());
  const line = await Promise.race([firstLine(socket), closed]);
  if (line !== undefined) {
    socket.setTimeout(0);
    socket.resume();
    try {
      say({ result: await perform(lab, line, gone.signal, (progress) => say({ progress }), down) });
    } catch (thrown) {
      const { code, message, help } = asSluiceError(thrown);
      say({ error: { code, message, help } });
    }
    socket.end();
  }
  await closed;
}

/** The first line; empty when it is too long for a request. */
function firstLine(socket: Socket): Promise<string> {
  return new Promise((resolve) => {
    let text = '';
    const take = (chunk: Buffer) => {
      text += chunk.toString('utf8');
      const end = text.indexOf('\n');
      if (end < 0 && text.length < MAX_LINE) return;
      socket.off('data', take);
      resolve(end < 0 ? '' : text.slice(0, end));
    };
    socket.on('data', take);
  });
}

async function perform(
  lab: Lab,
  line: string,
  signal: AbortSignal,
  progress: (value: unknown) => void,
  down: () => Promise<void>,
): Promise<unknown> {
  const request = parse(line);
  switch (request.command) {
    case 'info':
      return labInfo(lab);
    case 'traffic': {
      const preset = Object.hasOwn(presets, request.preset) ? presets[request.preset] : undefined;
      if (preset === undefined || !(request.seconds > 0)) throw unknownRequest(`no preset ${request.preset}`);
      return runTraffic(lab, preset(request.seconds), { signal, onProgress: progress });
    }
    case 'replay': {
      const { command: _, file, ...options } = request;
      if (typeof file !== 'string') throw unknownRequest('a replay needs a file');
      return lab.replay(file, { ...options, signal });
    }
    case 'down':
      await down();
      return true;
    default:
      throw unknownRequest('no such request');
  }
}

function parse(line: string): LabRequest {
  try {
    const request = JSON.parse(line) as LabRequest | null;
    if (typeof request === 'object' && request !== null) return request;
  } catch {
    // Told below, like anything else that is not a request.
  }
  throw unknownRequest('the request is not a JSON object');
}

function unknownRequest(what: string): SluiceError {
  return new SluiceError('USAGE', `lab: ${what}`, { help: `presets: ${Object.keys(presets).join(', ')}` });
}

/** Whether something listens at this socket. */
function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/**
 * Asks a running lab for something and waits for the answer.
 * @throws SluiceError LAB when none is running there, or as the lab answered
 */
export function askLab<T>(
  path: string,
  request: LabRequest,
  options: { onProgress?: (value: unknown) => void; signal?: AbortSignal } = {},
): Promise<T> {
  return new Promise<T>((resolve, reject) => {
    const socket = connect(path);
    let text = '';
    const stop = () => socket.destroy();
    options.signal?.addEventListener('abort', stop, { once: true });
    socket.once('connect', () => socket.write(`${JSON.stringify(request)}\n`));
    socket.on('error', (error) =>
      reject(
        new SluiceError('LAB', `no lab answers at ${path}`, {
          cause: error,
          help: 'start one with `sluice lab up`',
        }),
      ),
    );
    socket.once('close', () => {
      options.signal?.removeEventListener('abort', stop);
      reject(new SluiceError('LAB', 'the lab hung up before it had answered'));
    });
    socket.on('data', (chunk: Buffer) => {
      text += chunk.toString('utf8');
      for (let end = text.indexOf('\n'); end >= 0; end = text.indexOf('\n')) {
        const { progress, result, error } = JSON.parse(text.slice(0, end)) as Answer;
        text = text.slice(end + 1);
        if (progress !== undefined) options.onProgress?.(progress);
        else if (error === undefined) resolve(result as T);
        else {
          const code = Object.hasOwn(ERROR_CODES, error.code) ? error.code : 'LAB';
          reject(new SluiceError(code, error.message, error.help === undefined ? {} : { help: error.help }));
        }
      }
    });
  });
}
