import { open } from 'node:fs/promises';
import { basename } from 'node:path';
import { Pause, pauseAfter, type RuleSource, type SourceLine, type SourceSink } from './source.ts';

/** Of a document of rules. */
const MAX_BYTES = 64 << 20;
const TIMEOUT_MS = 10_000;

/** The text, or undefined when it is still what it was. */
type Ask = (signal: AbortSignal) => Promise<string | undefined>;

/** Lines that are not empty. */
export function linesOf(text: string, name: string): SourceLine[] {
  return text
    .split('\n')
    .map((line, at) => ({ where: `${name}:${at + 1}`, text: line.trim() }))
    .filter((line) => line.text !== '');
}

/** A document that is asked for again and again. */
class PolledSource implements RuleSource {
  readonly name: string;
  readonly #short: string;
  readonly #every: number;
  readonly #ask: Ask;
  readonly #pause = new Pause();
  readonly #stop = new AbortController();
  #work: Promise<void> | undefined;

  constructor(name: string, short: string, every: number, ask: Ask) {
    this.name = name;
    this.#short = short;
    this.#every = every;
    this.#ask = ask;
  }

  start(sink: SourceSink): void {
    this.#work = this.#run(sink);
  }

  async #run(sink: SourceSink): Promise<void> {
    for (let failures = 0; !this.#stop.signal.aborted; ) {
      try {
        const text = await this.#ask(this.#stop.signal);
        if (text !== undefined) await sink.lines(linesOf(text, this.#short));
        failures = 0;
        sink.heard();
      } catch (error) {
        if (this.#stop.signal.aborted) return;
        failures++;
        const { message, cause } = error as Error;
        sink.failed(
          cause instanceof Error && cause.message !== '' ? `${message}: ${cause.message}` : message,
        );
      }
      if (this.#stop.signal.aborted) return;
      const jitter = this.#every * (0.9 + 0.2 * Math.random());
      await this.#pause.wait(failures === 0 ? jitter : Math.max(jitter, pauseAfter(failures)));
    }
  }

  async close(): Promise<void> {
    this.#stop.abort();
    this.#pause.end();
    await this.#work;
  }
}

/** A file of lines; read when it has changed. */
export function fileSource(path: string, every: number): RuleSource {
  let seen = '';
  return new PolledSource(path, basename(path), every, async () => {
    await using file = await open(path);
    const { size, mtimeNs, ino } = await file.stat({ bigint: true });
    const now = `${ino} ${size} ${mtimeNs}`;
    if (now === seen) return undefined;
    if (size > MAX_BYTES) throw new Error(`${path} is larger than ${MAX_BYTES} bytes`);
    const text = await file.readFile('utf8');
    seen = now;
    return text;
  });
}

/** A document of a web server; asked for by its ETag or date when it has one. A user and password in the URL are sent along (Basic). */
export function httpSource(url: URL, every: number): RuleSource {
  const { username, password } = url;
  const bare = new URL(url);
  bare.username = '';
  bare.password = '';
  const who = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  const login: Record<string, string> =
    username === '' ? {} : { authorization: `Basic ${Buffer.from(who).toString('base64')}` };
  let known: Record<string, string> = {};
  return new PolledSource(bare.href, basename(bare.pathname) || bare.host, every, async (signal) => {
    const response = await fetch(bare, {
      headers: { ...login, ...known },
      signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
    });
    if (response.status === 304) return undefined;
    if (!response.ok) {
      await response.body?.cancel();
      throw new Error(`${bare.host} answers ${response.status}`);
    }
    const text = await bodyOf(response);
    const [tag, date] = ['etag', 'last-modified'].map((name) => response.headers.get(name));
    known = tag !== null ? { 'if-none-match': tag } : date !== null ? { 'if-modified-since': date } : {};
    return text;
  });
}

async function bodyOf({ body }: Response): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of body ?? []) {
    bytes += part.length;
    if (bytes > MAX_BYTES) throw new Error(`the answer is larger than ${MAX_BYTES} bytes`);
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}
