import type { LogWatch } from '../log/log-watch.ts';
import type { LogName } from '../log/target.ts';
import type { LiveRun } from '../sensor/live.ts';
import { type Attack, attackShape } from './board-shapes.ts';

/** What the stream brings beside rates, for who asks for it. */
export const TOPICS = ['flows', 'shunts', 'notices', 'attacks'] as const;
export type Topic = (typeof TOPICS)[number];

/** The logs whose lines are events. */
const LOGS = { conn: 'flows', shunt: 'shunts', notice: 'notices' } as const satisfies Partial<
  Record<LogName, Topic>
>;
const WATCHED = Object.keys(LOGS) as (keyof typeof LOGS)[];

/** Attacks that are told of. */
const MOST_ATTACKS = 200;
/** Bytes of log lines that a second may bring; what is beyond is left out, and told of. A sink has all. */
const MOST_A_SECOND = 512 * 1024;

/** Takes the text of one event. */
export type EventSender = (topic: Topic | 'skipped', data: string) => void;

/** What happens in a run, one thing after the other, for as long as somebody wants to hear of it. */
export class EventFeed {
  readonly #run: LiveRun;
  readonly #send: EventSender;
  #wanted: ReadonlySet<Topic> = new Set();
  #watched = '';
  #watch: LogWatch | undefined;
  #room = MOST_A_SECOND;
  #skipped = 0;
  #toldSkipped = 0;
  /** The attacks that have been told of, as they were then. */
  #attacks = new Map<string, string>();
  #looking = false;

  constructor(run: LiveRun, send: EventSender) {
    this.#run = run;
    this.#send = send;
  }

  /** Whether lines of logs can be told of. */
  get hasRecords(): boolean {
    return this.#run.jsonLogs;
  }

  /** From now on these topics are to be told of. */
  want(topics: ReadonlySet<Topic>): void {
    this.#wanted = topics;
    if (!topics.has('attacks')) this.#attacks.clear();
    const logs = WATCHED.filter((log) => topics.has(LOGS[log]));
    if (logs.join() === this.#watched) return;
    this.#watched = logs.join();
    this.#stop();
    this.#watch =
      logs.length === 0
        ? undefined
        : this.#run.watchLogs(logs, (log, lines, count) => this.#lines(log, lines, count));
  }

  /** The attacks that are known, for who has just come. */
  get attacks(): string | undefined {
    return this.#attacks.size === 0 ? undefined : `[${[...this.#attacks.values()].join()}]`;
  }

  /** Once a second. */
  look(): void {
    this.#room = MOST_A_SECOND;
    this.#tellSkipped();
    if (this.#wanted.has('attacks') && !this.#looking) void this.#lookForAttacks();
  }

  #lines(log: LogName, lines: Uint8Array, count: number): void {
    const topic = LOGS[log as keyof typeof LOGS];
    if (!this.#wanted.has(topic)) return;
    if (lines.length > this.#room) {
      this.#skipped += count;
      return;
    }
    this.#room -= lines.length;
    this.#send(
      topic,
      `[${Buffer.from(lines.buffer, lines.byteOffset, lines.length).toString().trimEnd().replaceAll('\n', ',')}]`,
    );
  }

  async #lookForAttacks(): Promise<void> {
    this.#looking = true;
    const known = await attacksOf(this.#run);
    this.#looking = false;
    if (!this.#wanted.has('attacks')) return;
    const now = new Map(known.map((attack) => [`${attack.interface} ${attack.id}`, JSON.stringify(attack)]));
    const news = [...now].filter(([key, text]) => this.#attacks.get(key) !== text).map(([, text]) => text);
    this.#attacks = now;
    if (news.length > 0) this.#send('attacks', `[${news.join()}]`);
  }

  #tellSkipped(): void {
    const skipped = this.#skipped + (this.#watch?.skipped ?? 0);
    if (skipped > this.#toldSkipped)
      this.#send('skipped', JSON.stringify({ records: skipped - this.#toldSkipped }));
    this.#toldSkipped = skipped;
  }

  #stop(): void {
    this.#watch?.close();
    this.#skipped += this.#watch?.skipped ?? 0;
    this.#watch = undefined;
  }

  /** Tells of what has come by now, and hears no more. */
  close(): void {
    this.#stop();
    this.#tellSkipped();
  }
}

/** The attacks that the gates of a run know, the latest first. */
export async function attacksOf(run: LiveRun): Promise<Attack[]> {
  const attacks: Attack[] = [];
  for (const gate of run.gates())
    for (const known of await gate.attacks()) {
      const attack = attackShape.safeParse({ ...(known as object), interface: gate.name });
      if (attack.success) attacks.push(attack.data);
    }
  return attacks.toSorted((a, b) => b.began - a.began).slice(0, MOST_ATTACKS);
}
