import { Bucket, pause } from './bucket.ts';
import { Connection } from './connection.ts';
import { GateError, gateError, type WireError } from './errors.ts';
import { socketOf } from './places.ts';
import {
  type Flow,
  type FlowToAdd,
  type GateEvent,
  type Hold,
  type OwnerSettings,
  PROTOCOL_VERSION,
  type Shunt,
} from './protocol.ts';

export interface ClientOptions {
  /** Path of the control socket; without it that of `interface`, or of the only gate that is up. */
  socket?: string;
  interface?: string;
  /** Milliseconds that an answer may take; 10,000 by default. */
  answerMs?: number;
  /** Milliseconds to try to connect again after the gate has gone: 30,000 by default, 0: not at all. */
  reconnectMs?: number;
  /** Requests a second, below what the gate takes; 900 by default, 1,800 saved up. */
  requestsPerSecond?: number;
}

/** How often what was refused as too much is asked again. */
const RETRIES = 20;
const LONGEST_WAIT_MS = 1000;
const FIRST_PAUSE_MS = 50;
const LONGEST_PAUSE_MS = 2000;
/** Flows in one request. */
const FLOWS = 256;
/** An owner's lease is renewed this often before it is over. */
const RENEWALS = 3;

interface Held {
  flow: Flow & { ttl?: number };
  owner: string | undefined;
  why: string | undefined;
  /** Of `performance.now`: when its time is over; then it is not set again. */
  until: number;
}

/**
 * The control socket of a gate. What an owner has registered, what is held and what is watched is set again after a connection
 * was lost; a request that was under way then fails with GATE_DOWN, as nobody knows what has become of it.
 */
export class GateClient {
  readonly #path: string;
  readonly #answerMs: number;
  readonly #reconnectMs: number;
  readonly #bucket: Bucket;
  readonly #owners = new Map<string, { settings: OwnerSettings; timer: NodeJS.Timeout | undefined }>();
  readonly #held = new Map<string, Held>();
  readonly #watchers = new Set<(event: GateEvent) => void>();
  #interval = 0;
  #connection: Connection | undefined;
  #connecting: Promise<Connection> | undefined;
  #closed = false;

  private constructor(options: ClientOptions) {
    this.#path = options.socket ?? socketOf(options.interface);
    this.#answerMs = options.answerMs ?? 10_000;
    this.#reconnectMs = options.reconnectMs ?? 30_000;
    const rate = options.requestsPerSecond ?? 900;
    this.#bucket = new Bucket(rate, 2 * rate);
  }

  /** @throws GateError GATE_DOWN, PRIVILEGE, CONTROL when it speaks another version */
  static async connect(options: ClientOptions = {}): Promise<GateClient> {
    const client = new GateClient(options);
    client.#connection = await client.#open();
    return client;
  }

  async #open(): Promise<Connection> {
    const connection = await Connection.open(
      this.#path,
      this.#answerMs,
      (event) => {
        for (const told of this.#watchers) told(event);
      },
      () => {
        if (this.#watchers.size > 0 || this.#owners.size > 0) void this.#ready().catch(() => {});
      },
    );
    try {
      await connection.ask('hello', { version: PROTOCOL_VERSION });
      return connection;
    } catch (error) {
      connection.close();
      throw error;
    }
  }

  /** A connection that is open: this one, or a new one on which all is set as it was. */
  async #ready(): Promise<Connection> {
    if (this.#closed) throw new GateError('CLOSED', 'the client was closed');
    if (this.#connection?.open === true) return this.#connection;
    this.#connecting ??= this.#again().finally(() => (this.#connecting = undefined));
    return await this.#connecting;
  }

  async #again(): Promise<Connection> {
    const end = performance.now() + this.#reconnectMs;
    for (let wait = FIRST_PAUSE_MS; ; wait = Math.min(2 * wait, LONGEST_PAUSE_MS)) {
      try {
        const connection = await this.#open();
        await this.#restore(connection);
        this.#connection = connection;
        return connection;
      } catch (error) {
        const gone = error instanceof GateError && error.code === 'GATE_DOWN';
        if (!gone || this.#closed || performance.now() + wait > end) throw error;
      }
      await pause(wait);
    }
  }

  async #restore(connection: Connection): Promise<void> {
    for (const { settings } of this.#owners.values()) await connection.ask('owner.register', settings);
    for (const { flow, owner, why, until } of this.#held.values()) {
      const left = (until - performance.now()) / 1000;
      if (left > 1)
        await connection.ask('hold.add', { flows: [{ ...flow, ...timeLeft(left) }], ...named(owner, why) });
    }
    if (this.#watchers.size > 0) await connection.ask('watch', { interval: this.#interval });
  }

  /**
   * Any request of the protocol. Waits where the gate would refuse it as too many, and asks again where it has.
   * @throws GateError
   */
  async request<T = Record<string, unknown>>(
    op: string,
    fields: object = {},
    page?: (rows: unknown[]) => void,
  ): Promise<T> {
    for (let tries = 0; ; tries++) {
      await this.#bucket.take();
      const connection = await this.#ready();
      try {
        return (await connection.ask(op, fields, page)) as T;
      } catch (error) {
        const wait = error instanceof GateError ? error.retryAfter : undefined;
        if (wait === undefined || tries >= RETRIES) throw error;
        this.#bucket.slow();
        await pause(Math.min(LONGEST_WAIT_MS, Math.ceil(wait * 1000) * 2 ** tries));
      }
    }
  }

  async #each(
    op: string,
    flows: readonly Flow[],
    fields: object,
  ): Promise<{ error?: WireError; released?: boolean }[]> {
    const results = [];
    for (let from = 0; from < flows.length; from += FLOWS) {
      const part = flows.slice(from, from + FLOWS);
      const { results: some } = await this.request<{ results: object[] }>(op, { flows: part, ...fields });
      results.push(...some);
    }
    return results;
  }

  /** Shunts flows; for each what was wrong, undefined: nothing. @throws GateError when all of it is refused */
  async add(
    flows: readonly FlowToAdd[],
    options: { owner?: string; why?: string } = {},
  ): Promise<(GateError | undefined)[]> {
    return (await this.#each('add', flows, options)).map(errorOf);
  }

  /** Lets flows pass again. */
  async remove(flows: readonly Flow[], options: { why?: string } = {}): Promise<(GateError | undefined)[]> {
    return (await this.#each('remove', flows, options)).map(errorOf);
  }

  async list(owner?: string): Promise<Shunt[]> {
    const rows: Shunt[] = [];
    const take = (page: unknown[]): void => void rows.push(...(page as Shunt[]));
    await this.request('list', owner === undefined ? {} : { owner }, take);
    return rows;
  }

  /** Events from now on, also after the gate was away; `stop` of what it answers ends that. `interval`: of counters, 0: none. */
  async watch(told: (event: GateEvent) => void, interval = 1): Promise<{ stop(): Promise<void> }> {
    this.#watchers.add(told);
    this.#interval = interval;
    await this.request('watch', { interval });
    return {
      stop: async () => {
        this.#watchers.delete(told);
        if (this.#watchers.size === 0 && !this.#closed) await this.request('unwatch');
      },
    };
  }

  /**
   * Keeps flows from being shunted until `release`, or their time is over; what is shunted now ends: for each whether it was.
   * Set again when the gate was away.
   */
  async hold(
    flows: readonly (Flow & { ttl?: number })[],
    options: { owner?: string; why?: string } = {},
  ): Promise<(GateError | { released: boolean })[]> {
    const results = await this.#each('hold.add', flows, options);
    return results.map((result, i) => {
      const error = errorOf(result);
      if (error !== undefined) return error;
      const flow = flows[i];
      const { owner, why } = options;
      const seconds = flow.ttl ?? (owner === undefined ? 300 : Number.POSITIVE_INFINITY);
      this.#held.set(keyOf(flow, owner), { flow, owner, why, until: performance.now() + seconds * 1000 });
      return { released: result.released === true };
    });
  }

  async release(
    flows: readonly Flow[],
    options: { owner?: string; why?: string } = {},
  ): Promise<(GateError | undefined)[]> {
    for (const flow of flows) this.#held.delete(keyOf(flow, options.owner));
    return (await this.#each('hold.remove', flows, options)).map(errorOf);
  }

  async holds(): Promise<Hold[]> {
    const rows: Hold[] = [];
    await this.request('hold.list', {}, (page) => void rows.push(...(page as Hold[])));
    return rows;
  }

  /** Never shunt what has an address of this network; how many shunts that has ended. */
  async except(prefix: string, why?: string): Promise<number> {
    return (await this.request<{ ended: number }>('exception.add', { prefix, ...named(undefined, why) }))
      .ended;
  }

  async unexcept(prefix: string, why?: string): Promise<void> {
    await this.request('exception.remove', { prefix, ...named(undefined, why) });
  }

  async exceptions(): Promise<string[]> {
    return (await this.request<{ exceptions: string[] }>('exception.list')).exceptions;
  }

  /**
   * Registers an owner, whose entries last as long as its lease. `renew: true` renews it by a timer as long as this process has
   * turns of its event loop; who wants its entries to end when its work hangs calls `renew` from that work instead.
   */
  async own(settings: OwnerSettings, options: { renew?: boolean } = {}): Promise<void> {
    await this.request('owner.register', settings);
    clearInterval(this.#owners.get(settings.name)?.timer);
    const { lease = 2 } = settings;
    const timer =
      options.renew === true && lease !== 'off'
        ? setInterval(() => void this.renew(settings.name).catch(() => {}), (lease * 1000) / RENEWALS)
        : undefined;
    timer?.unref();
    this.#owners.set(settings.name, { settings, timer });
  }

  async renew(name: string): Promise<void> {
    await this.request('renew', { owner: name });
  }

  /** The owner's entries end; how many there were. */
  async disown(name: string): Promise<number> {
    clearInterval(this.#owners.get(name)?.timer);
    this.#owners.delete(name);
    return (await this.request<{ ended: number }>('owner.unregister', { name })).ended;
  }

  async status(): Promise<Record<string, unknown>> {
    return await this.request('status');
  }

  close(): void {
    this.#closed = true;
    for (const { timer } of this.#owners.values()) clearInterval(timer);
    this.#connection?.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

function errorOf({ error }: { error?: WireError }): GateError | undefined {
  return error === undefined ? undefined : gateError(error);
}

function named(owner: string | undefined, why: string | undefined): object {
  return { ...(owner === undefined ? {} : { owner }), ...(why === undefined ? {} : { why }) };
}

function timeLeft(seconds: number): object {
  return Number.isFinite(seconds) ? { ttl: seconds } : {};
}

function keyOf({ proto, a, b, vlan, innerVlan, vni, geneveVni }: Flow, owner: string | undefined): string {
  return JSON.stringify([proto, a, b, vlan, innerVlan, vni, geneveVni, owner]);
}
