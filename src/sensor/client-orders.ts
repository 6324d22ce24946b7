import type { FlowEngine } from '../flow/index.ts';
import { prefixTest } from '../gate/exceptions.ts';
import { keyText } from '../gate/flow-key.ts';
import type { EndReason } from '../gate/layout.ts';
import type { Threshold } from '../gate/ops.ts';
import type { ShuntTotals } from './episode.ts';
import type { Shunter } from './shunter.ts';

/** A flow by its key in the gate. */
export interface FlowRef {
  family: 4 | 6;
  key: Uint8Array;
}

/** What clients of the control socket want of the workers; each part may be left out. */
export interface Orders {
  /** What is known of these; nothing is done. */
  look?: readonly FlowRef[];
  /** Shunt these. */
  take?: readonly (FlowRef & { trigger: string; after?: Threshold | undefined })[];
  /** Let these go. */
  release?: readonly FlowRef[];
  /** Policies do not shunt those again, until they are loaded anew. */
  settle?: boolean;
  /** Somebody needs these: let them go, and shunt none of them until `free`. */
  hold?: readonly FlowRef[];
  free?: readonly FlowRef[];
  /** All prefixes that are never shunted, in place of those before. */
  exceptions?: readonly string[];
  /** Tell of all shunts from now on, or only of those that clients have asked for. */
  watch?: boolean;
}

/** What a worker answers for one flow. */
export const Order = {
  /** It does not know the flow. */
  unknown: 0,
  /** Done; of a release or hold: it was shunted. */
  done: 1,
  /** It is shunted already. */
  exists: 2,
  /** Half-open, closing, or with a hole that may still be filled. */
  notNow: 3,
  held: 4,
  /** An endpoint is this host's, or under an exception. */
  excepted: 5,
} as const;

/** A shunt of a worker that has begun or ended. */
export interface ToldShunt extends FlowRef {
  trigger: string;
  /** Of an end. */
  reason?: string;
  /** Dropped, by the sides of the key. */
  sides?: readonly [{ pkts: number; ipBytes: number }, { pkts: number; ipBytes: number }];
}

/** What is told to the main thread from time to time. */
export interface OrderNews {
  told: ToldShunt[];
  /** Shunts that somebody watches and was not told of. */
  lost: number;
  /** How often holds kept flows from being shunted. */
  kept: (FlowRef & { times: number })[];
}

/** News that are kept between two times of telling. */
const MOST_NEWS = 4096;
/** Names that clients may give; all others are one. */
const MOST_TRIGGERS = 1024;
const OTHER_TRIGGER = 'control';

export interface OrderParts {
  engine: FlowEngine;
  shunter: () => Shunter;
  /** Policies are asked about this flow again. */
  again(slot: number): void;
  /** How logs name a trigger, as a number. */
  place(trigger: string): number;
}

/** The flows of one worker that clients of the control socket have a say in. */
export class ClientOrders {
  readonly #parts: OrderParts;
  readonly #triggers = new Set<string>();
  readonly #own = new Set<string>();
  readonly #held = new Set<string>();
  /** Held flows that a policy wanted: how often since the last telling. */
  readonly #kept = new Map<string, FlowRef & { times: number }>();
  #exceptions: ReturnType<typeof prefixTest>[] = [];
  #watched = false;
  #told: ToldShunt[] = [];
  #lost = 0;

  constructor(parts: OrderParts) {
    this.#parts = parts;
  }

  /** For each flow of the one list that is asked about an answer, see Order. */
  carryOut({ look, take, release, settle, hold, free, exceptions, watch }: Orders): number[] {
    if (watch !== undefined) this.#watched = watch;
    if (exceptions !== undefined) this.#except(exceptions);
    for (const { key } of free ?? []) this.#free(key);
    if (look !== undefined) return look.map((flow) => this.#known(flow));
    if (take !== undefined) return take.map((flow) => this.#take(flow));
    if (release !== undefined) return release.map((flow) => this.#release(flow, settle === true));
    return (hold ?? []).map((flow) => {
      this.#held.add(keyText(flow.key));
      return this.#release(flow, false);
    });
  }

  #slotOf({ family, key }: FlowRef): number {
    return this.#parts.engine.find(family, key, 0);
  }

  #known(flow: FlowRef): number {
    const slot = this.#slotOf(flow);
    if (slot < 0) return Order.unknown;
    return this.#parts.engine.isMarked(slot) ? Order.exists : Order.done;
  }

  #take(flow: FlowRef & { trigger: string; after?: Threshold | undefined }): number {
    const { engine, shunter } = this.#parts;
    const slot = this.#slotOf(flow);
    if (slot < 0) return Order.unknown;
    const text = keyText(flow.key);
    if (this.#held.has(text)) return Order.held;
    if (this.excepts(flow.family, flow.key)) return Order.excepted;
    if (engine.isMarked(slot)) return shunter().isRefused(slot) ? Order.excepted : Order.exists;
    if (!engine.isShuntable(slot)) return Order.notNow;
    shunter().request(slot, this.#place(flow.trigger), Date.now() / 1000, flow.after);
    if (!engine.isMarked(slot)) return Order.unknown;
    if (shunter().isRefused(slot)) return Order.excepted;
    this.#own.add(text);
    return Order.done;
  }

  #place(trigger: string): number {
    if (!this.#triggers.has(trigger) && this.#triggers.size >= MOST_TRIGGERS)
      return this.#parts.place(OTHER_TRIGGER);
    this.#triggers.add(trigger);
    return this.#parts.place(trigger);
  }

  #release(flow: FlowRef, settle: boolean): number {
    const slot = this.#slotOf(flow);
    if (slot < 0) return Order.unknown;
    if (settle) this.#parts.engine.setSettled(slot, true);
    return this.#parts.shunter().release(slot) ? Order.done : Order.unknown;
  }

  #free(key: Uint8Array): void {
    if (!this.#held.delete(keyText(key))) return;
    const slot = this.#slotOf({ family: key.length === 16 ? 4 : 6, key });
    if (slot >= 0) this.#parts.again(slot);
  }

  #except(prefixes: readonly string[]): void {
    this.#exceptions = prefixes.map(prefixTest);
    this.#parts.shunter().releaseWhere((family, key) => this.excepts(family, key));
  }

  /** Whether a flow has an address that is never shunted. */
  excepts(family: 4 | 6, key: Uint8Array): boolean {
    if (this.#exceptions.length === 0) return false;
    const size = family === 4 ? 4 : 16;
    return this.#exceptions.some((covers) => covers(key, 0, size) || covers(key, size, size));
  }

  /** A policy wants this flow: true when somebody needs it, and it is left alone until they let go. */
  keeps(slot: number): boolean {
    if (this.#held.size === 0) return false;
    const { engine } = this.#parts;
    const { family, bytes } = engine.key(slot);
    const text = keyText(bytes);
    if (!this.#held.has(text)) return false;
    engine.setSettled(slot, true);
    const known = this.#kept.get(text);
    if (known === undefined) this.#kept.set(text, { family, key: bytes, times: 1 });
    else known.times++;
    return true;
  }

  started(slot: number, trigger: string): void {
    if (!this.#watched) return;
    const { family, bytes } = this.#parts.engine.key(slot);
    // Of what clients have asked for the main thread knows.
    if (!this.#own.has(keyText(bytes))) this.#tell({ family, key: bytes, trigger });
  }

  ended(slot: number, trigger: string, reason: EndReason, dropped: ShuntTotals): void {
    const { engine } = this.#parts;
    if (this.#own.size === 0 && !this.#watched) return;
    const { family, bytes } = engine.key(slot);
    const own = this.#own.delete(keyText(bytes));
    if (!own && !this.#watched) return;
    const orig = { pkts: dropped.origPkts, ipBytes: dropped.origIpBytes };
    const resp = { pkts: dropped.respPkts, ipBytes: dropped.respIpBytes };
    const sides = engine.origSide(slot) === 0 ? ([orig, resp] as const) : ([resp, orig] as const);
    this.#tell({ family, key: bytes, trigger, reason: reason || 'asked', sides }, own);
  }

  /** The flow has ended: what was asked for is over, whether it came to a shunt or not. */
  closed(slot: number): void {
    if (this.#own.size === 0) return;
    const { family, bytes } = this.#parts.engine.key(slot);
    if (this.#own.delete(keyText(bytes)))
      this.#tell({ family, key: bytes, trigger: '', reason: 'idle' }, true);
  }

  #tell(shunt: ToldShunt, always = false): void {
    if (always || this.#told.length < MOST_NEWS) this.#told.push(shunt);
    else this.#lost++;
  }

  /** What has happened since the last time; undefined: nothing. */
  news(): OrderNews | undefined {
    if (this.#told.length === 0 && this.#kept.size === 0 && this.#lost === 0) return undefined;
    const news = { told: this.#told, lost: this.#lost, kept: [...this.#kept.values()] };
    this.#told = [];
    this.#lost = 0;
    this.#kept.clear();
    return news;
  }
}
