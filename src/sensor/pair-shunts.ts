import { asSluiceError } from '../base/errors.ts';
import { GateClient } from '../gate/client.ts';
import { monotonicSeconds } from '../gate/clock.ts';
import { pairTest } from '../gate/exceptions.ts';
import type { Gate } from '../gate/index.ts';
import { Pairs } from '../gate/pairs.ts';
import { realtimeOffset } from '../kernel/index.ts';
import type { ShuntLogRecord } from '../log/other-logs.ts';

/** Both addresses of a connection, for which a policy says to shunt all between them. */
export interface PairRequest {
  orig: string;
  resp: string;
  vlan: number;
  innerVlan: number;
  seconds: number;
  trigger: string;
}

interface Live extends PairRequest {
  /** CLOCK_MONOTONIC seconds. */
  until: number;
}

/** Pairs that wait for a flow to be let go: each is held against all holds now and then. */
const MOST_WAITING = 64;

export interface PairEvents {
  /** Whether somebody needs a flow between these addresses. `wanted`: asked for the first time. */
  held(orig: string, resp: string, wanted: boolean): boolean;
  log(record: ShuntLogRecord): void;
  /** There is no room, or the gate does not take it. */
  refused(message: string): void;
}

/**
 * Address pairs that policies shunt for a time: what is dropped between two addresses belongs to no connection's record, and
 * is told in shunt.log when the time is over. The gate lets go by itself when nobody is there to do it.
 */
export class PairShunts {
  readonly #gate: Gate;
  readonly #client: GateClient;
  readonly #pairs: Pairs;
  readonly #events: PairEvents;
  readonly #live = new Map<string, Live>();
  /** Those that a hold keeps: they begin when it is over, if their time is not. */
  readonly #waiting = new Map<string, Live>();
  #ending = Promise.resolve();

  /** `number`: of the gate's workers, one that no worker is. */
  constructor(gate: Gate, number: number, events: PairEvents) {
    this.#gate = gate;
    this.#client = new GateClient(gate.handles(number), 'off');
    // Each pair has a time of its own.
    this.#client.lease.renew();
    this.#pairs = new Pairs(gate.table('pairs'), this.#client.ops, () => this.#client.grace());
    this.#events = events;
  }

  add(request: PairRequest): void {
    const { orig, resp, vlan, innerVlan, seconds } = request;
    const name = `${[orig, resp].sort().join(' ')} ${vlan} ${innerVlan}`;
    if (this.#live.has(name) || this.#waiting.has(name)) return;
    const pair = { ...request, until: monotonicSeconds() + seconds };
    if (this.#events.held(orig, resp, true)) this.#wait(name, pair);
    else this.#begin(name, pair);
  }

  #wait(name: string, pair: Live): void {
    if (this.#waiting.size < MOST_WAITING) this.#waiting.set(name, pair);
    else
      this.#events.refused(
        `a flow between ${pair.orig} and ${pair.resp} is held, and many pairs wait already`,
      );
  }

  #begin(name: string, pair: Live): void {
    const { orig, resp, vlan, innerVlan, until } = pair;
    try {
      if (!this.#pairs.add(orig, resp, { vlan, innerVlan, limit: until, owner: this.#client.owner })) return;
      this.#gate.enable({ pairs: true });
    } catch (error) {
      this.#events.refused(asSluiceError(error).message);
      return;
    }
    this.#live.set(name, pair);
    this.#events.log({ ...endsOf(pair), event: 'start' });
  }

  /** To be called now and then: ends those whose time is over, begins those that nobody holds any more. */
  lookAfter(): void {
    const now = monotonicSeconds();
    for (const [name, pair] of this.#live) if (now > pair.until) this.#end(name, pair, 'limit');
    for (const [name, pair] of this.#waiting) {
      const over = now > pair.until;
      if (!over && this.#events.held(pair.orig, pair.resp, false)) continue;
      this.#waiting.delete(name);
      if (!over) this.#begin(name, pair);
    }
  }

  /** Somebody needs the flows with these keys: ends what drops them; for each whether there was something. */
  async release(keys: readonly Uint8Array[]): Promise<boolean[]> {
    const was = keys.map(() => false);
    for (const [name, pair] of this.#live) {
      const covers = pairTest(pair.orig, pair.resp);
      const over = keys.map((key) => covers(key));
      if (!over.includes(true)) continue;
      over.forEach((one, i) => (was[i] ||= one));
      this.#end(name, pair, 'hold');
      this.#wait(name, pair);
    }
    await this.#ending;
    return was;
  }

  /** Ends all of them, and lets go of the gate. */
  async close(): Promise<void> {
    for (const [name, pair] of this.#live) this.#end(name, pair, 'asked');
    await this.#ending;
    this.#client.lease.drop();
    this.#client.close();
  }

  #end(name: string, pair: Live, reason: string): void {
    this.#live.delete(name);
    const end = async (): Promise<void> => {
      const counts = await this.#pairs.remove(pair.orig, pair.resp, pair);
      if (counts === undefined) return;
      const forth = counts.a === pair.orig ? counts.ab : counts.ba;
      const back = counts.a === pair.orig ? counts.ba : counts.ab;
      const last = Math.max(forth.last, back.last);
      this.#events.log({
        ...endsOf(pair),
        event: 'end',
        reason,
        origPkts: forth.pkts,
        origBytes: forth.ipBytes,
        respPkts: back.pkts,
        respBytes: back.ipBytes,
        last: last === 0 ? undefined : last + realtimeOffset(),
      });
    };
    // One after the other: they share their rows of operations.
    this.#ending = this.#ending
      .then(end)
      .catch((error: unknown) => this.#events.refused(asSluiceError(error).message));
  }
}

function endsOf({ orig, resp, trigger }: PairRequest): Omit<ShuntLogRecord, 'event'> {
  return {
    ts: Date.now() / 1000,
    uid: undefined,
    origHost: orig,
    origPort: 0,
    respHost: resp,
    respPort: 0,
    proto: 'pair',
    trigger,
  };
}
