import { type KV, Kvm, type KvWatchEntry } from '@nats-io/kv';
import type { NatsConnection } from '@nats-io/transport-node';
import { connectOnce, type NatsPlace } from './nats-place.ts';
import { ProgramWatch } from './nats-programs.ts';
import { Pause, pauseAfter, type RuleSource, type SourceLine, type SourceSink } from './source.ts';

/** Seconds between questions whether the server is there. */
const ASK_EVERY = 1;
const BATCH = 1024;
/** Milliseconds that a line waits for others. */
const GATHER = 50;

/** A key of a bucket; rules' ids have no `=`, and may have dots where keys must not. */
export const keyOf = (id: string): string => id.replace(/[^A-Za-z0-9_-]/g, '=');

/**
 * Signed rules in a key-value bucket of NATS. With each connection all of them come anew, then what changes: what was
 * missed meanwhile comes with it, and what is known costs no more than being compared.
 */
export class NatsSource implements RuleSource {
  readonly name: string;
  readonly #place: NatsPlace;
  readonly #node: string;
  readonly #programs: boolean;
  readonly #pause = new Pause();
  #connection: NatsConnection | undefined;
  #report: string | undefined;
  #ended = false;
  #work: Promise<void> | undefined;

  /** @param node what it is called in the bucket of results @param programs whether compiled programs are asked for as well */
  constructor(place: NatsPlace, node: string, programs = false) {
    this.#programs = programs;
    this.name = place.name;
    this.#place = place;
    this.#node = node;
  }

  start(sink: SourceSink): void {
    this.#work = this.#run(sink);
  }

  report(text: string): void {
    this.#report = text;
  }

  async #run(sink: SourceSink): Promise<void> {
    for (let failures = 0; !this.#ended; ) {
      try {
        this.#connection = await connectOnce(this.#place);
        await this.#follow(this.#connection, sink, () => (failures = 0));
        if (!this.#ended) throw new Error('the connection was closed');
      } catch (error) {
        if (this.#ended) break;
        failures++;
        sink.failed(error instanceof Error ? error.message : String(error));
      }
      await this.#connection?.close().catch(() => {});
      this.#connection = undefined;
      if (!this.#ended) await this.#pause.wait(pauseAfter(failures));
    }
    await this.#connection?.close().catch(() => {});
  }

  /** Until the connection ends. */
  async #follow(connection: NatsConnection, sink: SourceSink, good: () => void): Promise<void> {
    const kvm = new Kvm(connection);
    // Before the rules: what is in them need not be compiled.
    const programs = this.#programs ? new ProgramWatch(kvm, this.#place.programs, sink) : undefined;
    await programs?.look();
    const rules = await kvm.open(this.#place.rules);
    const watch = await rules.watch();
    const closed = connection.closed().then(() => watch.stop());
    const read = this.#read(watch, sink);
    let results: KV | undefined;
    try {
      results = await kvm.open(this.#place.results);
    } catch {
      // Who may read rules need not be allowed to tell what became of them.
    }
    let told: string | undefined;
    while (!this.#ended && !connection.isClosed()) {
      await Promise.race([connection.flush(), closed, read]);
      if (connection.isClosed()) break;
      sink.heard();
      good();
      if (results !== undefined && this.#report !== told) {
        told = this.#report;
        try {
          await Promise.race([results.put(this.#node, told as string), closed]);
        } catch {
          results = undefined;
        }
      }
      await Promise.race([this.#pause.wait(ASK_EVERY), closed, read]);
      void programs?.look();
    }
    watch.stop();
    await programs?.close();
    await read;
  }

  async #read(watch: AsyncIterable<KvWatchEntry>, sink: SourceSink): Promise<void> {
    let lines: SourceLine[] = [];
    let handing = Promise.resolve();
    let timer: NodeJS.Timeout | undefined;
    const hand = (): Promise<void> => {
      clearTimeout(timer);
      timer = undefined;
      const now = lines;
      lines = [];
      if (now.length > 0) handing = handing.then(() => sink.lines(now));
      return handing;
    };
    for await (const entry of watch) {
      // That a key is gone says nothing: a withdrawal is signed.
      if (entry.operation === 'PUT') lines.push({ where: entry.key, text: entry.string() });
      // nats-server 2.9 miscounts what is pending for good where somebody writes while a consumer is made: no line waits for that.
      if (lines.length >= BATCH || entry.delta === 0) await hand();
      // What it throws, the next one throws too.
      else timer ??= setTimeout(() => void hand().catch(() => {}), GATHER);
    }
    await hand();
  }

  async close(): Promise<void> {
    this.#ended = true;
    this.#pause.end();
    await this.#connection?.close().catch(() => {});
    await this.#work;
  }
}
