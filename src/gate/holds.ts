import { SluiceError } from '../base/errors.ts';
import { monotonicSeconds } from './clock.ts';
import { LIMITS } from './control-protocol.ts';
import { type FlowKey, type FlowName, keyText } from './flow-key.ts';

/** Who holds: an owner by its name, or a user by hand. */
export interface Holder {
  /** Place in the leases; 0: by hand, bound by a time limit alone. */
  slot: number;
  /** Tells holders apart. */
  name: string;
}

/** A flow that somebody still needs. */
export interface Hold {
  readonly flow: FlowName;
  readonly key: FlowKey;
  readonly holder: Holder;
  readonly why: string | undefined;
  /** Seconds since the epoch. */
  readonly since: number;
  /** CLOCK_MONOTONIC seconds; undefined: as long as the owner's lease. */
  expires: number | undefined;
  /** How often it kept the flow from being shunted. */
  kept: number;
}

/**
 * The flows that are not shunted until whoever needs them lets go: each with the holds of different holders, of which one is
 * enough. A hold is over with its time or with the lease of its owner, so that nobody who has died keeps a flow unshunted.
 */
export class Holds {
  readonly #lapsed: (slot: number) => boolean;
  readonly #flows = new Map<string, Map<string, Hold>>();
  readonly #perHolder = new Map<string, number>();
  #size = 0;
  /** Since the start: shunts that were kept from beginning, and those that a hold has ended. */
  kept = 0;
  released = 0;

  /** `lapsed`: whether the lease of a slot is over. */
  constructor(lapsed: (slot: number) => boolean) {
    this.#lapsed = lapsed;
  }

  get size(): number {
    return this.#size;
  }

  /**
   * Holds a flow; the same holder again sets the time anew. `ttl` in seconds.
   * @throws SluiceError LIMIT
   */
  add(flow: FlowName, key: FlowKey, holder: Holder, ttl: number | undefined, why: string | undefined): void {
    const text = keyText(key.bytes);
    const expires = ttl === undefined ? undefined : monotonicSeconds() + ttl;
    const known = this.#flows.get(text)?.get(holder.name);
    if (known !== undefined) {
      known.expires = expires;
      return;
    }
    const own = this.#perHolder.get(holder.name) ?? 0;
    if (own >= LIMITS.holdsPerHolder)
      throw new SluiceError('LIMIT', `${holder.name} holds ${LIMITS.holdsPerHolder} flows already`);
    if (this.#size >= LIMITS.holds) throw new SluiceError('LIMIT', `${LIMITS.holds} flows are held already`);
    const hold = { flow, key, holder, why, since: Date.now() / 1000, expires, kept: 0 };
    const holds = this.#flows.get(text);
    if (holds === undefined) this.#flows.set(text, new Map([[holder.name, hold]]));
    else holds.set(holder.name, hold);
    this.#perHolder.set(holder.name, own + 1);
    this.#size++;
  }

  /** Lets go; the hold that this was, undefined when there was none. */
  remove(key: Uint8Array, holder: string): Hold | undefined {
    const text = keyText(key);
    const holds = this.#flows.get(text);
    const hold = holds?.get(holder);
    if (holds === undefined || hold === undefined) return undefined;
    holds.delete(holder);
    if (holds.size === 0) this.#flows.delete(text);
    const left = (this.#perHolder.get(holder) ?? 1) - 1;
    if (left === 0) this.#perHolder.delete(holder);
    else this.#perHolder.set(holder, left);
    this.#size--;
    return hold;
  }

  /** The holds of a flow, whoever has them. */
  of(key: Uint8Array): Hold[] {
    if (this.#size === 0) return [];
    return [...(this.#flows.get(keyText(key))?.values() ?? [])];
  }

  /** Whether somebody needs this flow now. */
  covers(key: Uint8Array): boolean {
    return this.of(key).some((hold) => !this.#over(hold));
  }

  /** Somebody wanted to shunt it `times` times, and is kept from it. */
  keep(key: Uint8Array, times = 1): void {
    const hold = this.of(key).find((each) => !this.#over(each));
    if (hold === undefined) return;
    hold.kept += times;
    this.kept += times;
  }

  /** A flow that somebody needs and for which the test says yes. */
  find(test: (key: FlowKey, flow: FlowName) => boolean): FlowName | undefined {
    for (const hold of this.all()) if (!this.#over(hold) && test(hold.key, hold.flow)) return hold.flow;
    return undefined;
  }

  *all(): Generator<Hold> {
    for (const holds of this.#flows.values()) yield* holds.values();
  }

  /** Takes out those that are over, and answers with them. */
  expire(): { hold: Hold; reason: 'limit' | 'lease' }[] {
    if (this.#size === 0) return [];
    const over: { hold: Hold; reason: 'limit' | 'lease' }[] = [];
    for (const hold of this.all()) {
      const reason = this.#over(hold);
      if (reason !== undefined) over.push({ hold, reason });
    }
    for (const { hold } of over) this.remove(hold.key.bytes, hold.holder.name);
    return over;
  }

  #over({ expires, holder }: Hold): 'limit' | 'lease' | undefined {
    if (expires !== undefined && expires < monotonicSeconds()) return 'limit';
    return holder.slot !== 0 && this.#lapsed(holder.slot) ? 'lease' : undefined;
  }
}

/** The refusal of what somebody holds. */
export function heldError(flow: string): SluiceError {
  return new SluiceError('HELD', `${flow} is held: somebody still needs it`, {
    help: '`sluice hold ls` says who; it may be shunted when they let go, or their time or lease is over',
  });
}
