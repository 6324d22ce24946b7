import type { Point } from '../../src/api/point.ts';
import type { Tick } from '../../src/api/shapes.ts';
import { backOff } from './freshness.ts';
import { EventParser } from './sse.ts';

/** Nothing for so long: the connection is dead, whatever TCP says of it. */
const SILENCE_MS = 10_000;
/** After the end of a run another one may begin at the same address. */
const AFTER_END = 3;

export class Denied extends Error {}

export interface FeedEvents {
  tick(tick: Tick): void;
  history(points: readonly Point[]): void;
  /** The run has ended; these were its last numbers. */
  ended(tick: Tick): void;
  /** The next try is in so many milliseconds; undefined: it is connected. */
  retry(ms: number | undefined): void;
  /** A token is needed. */
  denied(): void;
}

/** Asks the API. @throws Denied, Error with what it says */
export async function ask<T>(
  path: string,
  token: string | undefined,
  options: { signal?: AbortSignal; body?: object } = {},
): Promise<T> {
  const { signal, body } = options;
  const response = await fetch(path, {
    headers: headersOf(token, body !== undefined),
    cache: 'no-store',
    ...(signal === undefined ? {} : { signal }),
    ...(body === undefined ? {} : { method: 'POST', body: JSON.stringify(body) }),
  });
  const value = (await response.json()) as T & { error?: { message: string; help?: string } };
  if (response.status === 401) throw new Denied(value.error?.message);
  if (!response.ok) {
    const { message = `HTTP ${response.status}`, help } = value.error ?? {};
    throw new Error(help === undefined ? message : `${message}: ${help}`);
  }
  return value;
}

function headersOf(token: string | undefined, hasBody = false): Record<string, string> {
  return {
    ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
    ...(hasBody ? { 'content-type': 'application/json' } : {}),
  };
}

/** The stream of a run: connected again whenever it breaks, later each time. Returns what ends it. */
export function follow(token: string | undefined, events: FeedEvents): () => void {
  const over = new AbortController();
  void run(token, events, over.signal);
  return () => over.abort();
}

async function run(token: string | undefined, events: FeedEvents, over: AbortSignal): Promise<void> {
  for (let attempt = 0; !over.aborted; attempt++) {
    try {
      const ended = await read(token, events, over, () => {
        attempt = 0;
      });
      if (ended) attempt = AFTER_END;
    } catch (error) {
      if (error instanceof Denied) {
        if (!over.aborted) events.denied();
        return;
      }
    }
    if (over.aborted) return;
    const wait = backOff(attempt);
    events.retry(wait);
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

/** Until it breaks; true: the run has said that it ends. */
async function read(
  token: string | undefined,
  events: FeedEvents,
  over: AbortSignal,
  connected: () => void,
): Promise<boolean> {
  const broken = new AbortController();
  const stop = (): void => broken.abort();
  over.addEventListener('abort', stop, { once: true });
  let silence = setTimeout(stop, SILENCE_MS);
  try {
    const response = await fetch('/v1/stream', {
      headers: headersOf(token),
      cache: 'no-store',
      signal: broken.signal,
    });
    if (response.status === 401) throw new Denied();
    if (!response.ok || response.body === null) return false;
    const { points } = await ask<{ points: Point[] }>('/v1/history', token, { signal: broken.signal });
    events.history(points);
    events.retry(undefined);
    connected();
    const parser = new EventParser();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return false;
      clearTimeout(silence);
      silence = setTimeout(stop, SILENCE_MS);
      for (const { event, data } of parser.push(value)) {
        const tick = JSON.parse(data) as Tick;
        if (event === 'tick') events.tick(tick);
        else if (event === 'end') {
          events.ended(tick);
          return true;
        }
      }
    }
  } finally {
    clearTimeout(silence);
    over.removeEventListener('abort', stop);
    broken.abort();
  }
}
