import { asSluiceError } from '../base/errors.ts';
import { GateClient } from '../gate/client.ts';
import { monotonicSeconds } from '../gate/clock.ts';
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

export interface PairEvents {
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
    if (this.#live.has(name)) return;
    const until = monotonicSeconds() + seconds;
    try {
      if (!this.#pairs.add(orig, resp, { vlan, innerVlan, limit: until, owner: this.#client.owner })) return;
      this.#gate.enable({ pairs: true });
    } catch (error) {
      this.#events.refused(asSluiceError(error).message);
      return;
    }
    this.#live.set(name, { ...request, until });
    this.#events.log({ ...endsOf(request), event: 'start' });
  }

  /** To be called now and then: ends those whose time is over. */
  lookAfter(): void {
    const now = monotonicSeconds();
    for (const [name, pair] of this.#live) if (now > pair.until) this.#end(name, pair, 'limit');
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
