import type { ConnLogRecord } from '../log/conn-log.ts';

/** Connections that have ended, and their IP bytes; `shuntedBytes` is the part that the gate dropped. */
export interface Tally {
  connections: number;
  bytes: number;
  shuntedBytes: number;
}

export type NamedTally = Tally & { name: string };

/** What one worker has counted since it told of it the last time. */
export interface TallyNews {
  services: NamedTally[];
  /** The heaviest addresses. */
  hosts: NamedTally[];
}

/** Names that are kept; of more the lightest half is forgotten. */
const MOST_NAMES = 2048;
const TOLD_HOSTS = 64;
const TELL_SECONDS = 1;
const MOST_SERVICES = 256;
const UNKNOWN_SERVICE = 'unknown';
/** Seconds that talkers are remembered, in steps. */
const REMEMBERED = 300;
const STEP = 10;

/** Sums by name in bounded memory: a name that is forgotten had less than any that was kept then. */
class Sums {
  readonly #sums = new Map<string, Tally>();
  readonly #most: number;

  constructor(most: number) {
    this.#most = most;
  }

  get size(): number {
    return this.#sums.size;
  }

  add(name: string, { connections, bytes, shuntedBytes }: Tally): void {
    const known = this.#sums.get(name);
    if (known !== undefined) {
      known.connections += connections;
      known.bytes += bytes;
      known.shuntedBytes += shuntedBytes;
      return;
    }
    this.#sums.set(name, { connections, bytes, shuntedBytes });
    if (this.#sums.size < this.#most) return;
    for (const { name: light } of this.heaviest(this.#most).slice(this.#most / 2)) this.#sums.delete(light);
  }

  heaviest(count: number): NamedTally[] {
    return [...this.#sums]
      .map(([name, sum]) => ({ name, ...sum }))
      .toSorted((a, b) => b.bytes - a.bytes)
      .slice(0, count);
  }

  clear(): void {
    this.#sums.clear();
  }
}

/** Counts the connections that end at one worker by service and by address. */
export class WorkerTallies {
  readonly #services = new Sums(MOST_SERVICES);
  readonly #hosts = new Sums(MOST_NAMES);
  readonly #told: (news: TallyNews) => void;
  #next = 0;

  constructor(told: (news: TallyNews) => void) {
    this.#told = told;
  }

  ended({ service, origHost, respHost, origIpBytes, respIpBytes, shunted }: ConnLogRecord): void {
    const bytes = origIpBytes + respIpBytes;
    const shuntedBytes = shunted === undefined ? 0 : shunted.origIpBytes + shunted.respIpBytes;
    const tally = { connections: 1, bytes, shuntedBytes };
    this.#services.add(service ?? UNKNOWN_SERVICE, tally);
    this.#hosts.add(origHost, tally);
    this.#hosts.add(respHost, tally);
  }

  /** Tells what has come since the last time, once a second at most. `now` in seconds; for ever: the last time. */
  tell(now = Number.POSITIVE_INFINITY): void {
    if (now < this.#next || this.#hosts.size === 0) return;
    this.#next = now + TELL_SECONDS;
    const news = {
      services: this.#services.heaviest(MOST_SERVICES),
      hosts: this.#hosts.heaviest(TOLD_HOSTS),
    };
    this.#services.clear();
    this.#hosts.clear();
    this.#told(news);
  }
}

/** What all workers have told: services since the start, talkers of the last minutes. */
export class RunTallies {
  readonly #services = new Sums(MOST_SERVICES);
  readonly #steps: { from: number; hosts: Sums }[] = [];

  /** Seconds that talkers are of. */
  readonly seconds = REMEMBERED;

  add({ services, hosts }: TallyNews, now = performance.now() / 1000): void {
    for (const each of services) this.#services.add(each.name, each);
    let step = this.#steps.at(-1);
    if (step === undefined || now - step.from >= STEP) {
      step = { from: now, hosts: new Sums(MOST_NAMES) };
      this.#steps.push(step);
    }
    for (const each of hosts) step.hosts.add(each.name, each);
    this.#forget(now);
  }

  #forget(now: number): void {
    while (this.#steps.length > 0 && now - this.#steps[0].from >= REMEMBERED) this.#steps.shift();
  }

  services(count: number): NamedTally[] {
    return this.#services.heaviest(count);
  }

  talkers(count: number, now = performance.now() / 1000): NamedTally[] {
    this.#forget(now);
    const sums = new Sums(MOST_NAMES);
    for (const { hosts } of this.#steps)
      for (const each of hosts.heaviest(TOLD_HOSTS)) sums.add(each.name, each);
    return sums.heaviest(count);
  }
}
