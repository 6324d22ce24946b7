import { SluiceError } from '../base/errors.ts';
import { realtimeOffset } from '../kernel/index.ts';
import type { HoldRow, PairRow, Request, RequestOf } from './control-protocol.ts';
import type { Conversation, Peer } from './control-server.ts';
import type { AuditLog } from './daemon-audit.ts';
import type { PairKeeper } from './daemon-pairs.ts';
import { failure, noTunnelIds, noVlans } from './daemon-refusals.ts';
import type { EntryTable } from './daemon-shunt.ts';
import { pairTest } from './exceptions.ts';
import { type FlowKey, flowKey, flowText } from './flow-key.ts';
import type { HeldFlows } from './held-flows.ts';
import { type Hold, Holds, heldError } from './holds.ts';
import type { Owners } from './owners.ts';
import { nextTurn, Portion } from './turns.ts';

/** Seconds that a hold by hand lives unless told otherwise. */
const DEFAULT_TTL = 300;
/** Why a shunt ends that a hold ends. */
export const VETO = 'hold';
/** Holds that are handled between two turns of the event loop. */
const PORTION = 64;

/** What else has to know which flows are held: the workers of a run. */
export interface HoldListener {
  /** These flows are held from now on: ends their shunts, and says for each whether there was one. */
  held(keys: readonly FlowKey[]): Promise<readonly boolean[]>;
  /** Nobody holds these any more. */
  free(keys: readonly FlowKey[]): Promise<void>;
}

export interface HoldParts {
  vlanKey: boolean;
  tunnelKey: boolean;
  table: EntryTable;
  owners: Owners;
  pairs: PairKeeper;
  audit: Pick<AuditLog, 'write'>;
  pairEnded: (pair: PairRow, reason: string) => void;
  listener?: HoldListener | undefined;
  /** Where the gate shunts flows that nobody has asked for. */
  held?: HeldFlows | undefined;
}

/** What is asked of holds, worked out. */
export class HoldKeeper {
  readonly holds: Holds;
  #parts: HoldParts;

  constructor(parts: HoldParts) {
    this.#parts = parts;
    this.holds = new Holds((slot) => parts.owners.lapsed(slot));
  }

  /** The same holds, over other tables. */
  follow({ table, pairs, pairEnded }: Pick<HoldParts, 'table' | 'pairs' | 'pairEnded'>): void {
    this.#parts = { ...this.#parts, table, pairs, pairEnded };
  }

  /** @throws SluiceError whatever the answer to it is then */
  async perform(request: Request, conversation: Conversation): Promise<unknown> {
    switch (request.op) {
      case 'hold.add':
        return await this.#add(request, conversation.peer);
      case 'hold.remove':
        return await this.#remove(request, conversation.peer);
      case 'hold.list':
        return await this.#list(request, conversation);
      default:
        throw new SluiceError('INTERNAL', `no work for ${request.op}`);
    }
  }

  /** @throws SluiceError HELD, and counts that the flow was wanted */
  check(key: FlowKey, text: () => string): void {
    if (this.holds.size === 0 || !this.holds.covers(key.bytes)) return;
    this.holds.keep(key.bytes);
    throw heldError(text());
  }

  /** The same for all between two addresses or networks. @throws SluiceError HELD */
  checkPair(a: string, b: string): void {
    if (this.holds.size === 0) return;
    const covers = pairTest(a, b);
    const flow = this.holds.find(({ bytes }) => covers(bytes));
    if (flow === undefined) return;
    this.holds.keep(flowKey(flow).bytes);
    throw heldError(flowText(flow));
  }

  async #add(request: RequestOf<'hold.add'>, peer: Peer): Promise<{ results: object[] }> {
    const { owners, vlanKey, tunnelKey } = this.#parts;
    const owner = request.owner === undefined ? undefined : owners.get(request.owner, peer.uid);
    const holder =
      owner === undefined ? { slot: 0, name: userName(peer) } : { slot: owner.slot, name: owner.name };
    const results: object[] = [];
    const fresh: { place: number; key: FlowKey }[] = [];
    const portion = new Portion(PORTION);
    for (const [place, { ttl, ...flow }] of request.flows.entries()) {
      let refused: SluiceError | undefined;
      try {
        if (!vlanKey && (flow.vlan !== 0 || flow.innerVlan !== 0)) throw noVlans();
        if (!tunnelKey && (flow.vni !== 0 || (flow.geneveVni ?? 0) !== 0)) throw noTunnelIds();
        const key = flowKey(flow);
        const limit = ttl ?? (owner === undefined || owner.lease === 'off' ? DEFAULT_TTL : undefined);
        this.holds.add(flow, key, holder, limit, request.why);
        fresh.push({ place, key });
      } catch (error) {
        if (!(error instanceof SluiceError)) throw error;
        refused = error;
        results[place] = failure(error);
      }
      this.#note('hold.add', flowText(flow), peer, request, refused?.code);
      if (portion.full()) await nextTurn();
    }
    const released = await this.#release(fresh.map(({ key }) => key));
    for (const [i, { place }] of fresh.entries()) results[place] = { released: released[i] };
    return { results };
  }

  /** Ends whatever drops packets of these flows now; for each whether there was something. */
  async #release(keys: readonly FlowKey[]): Promise<boolean[]> {
    if (keys.length === 0) return [];
    const { table, pairs, listener, held } = this.#parts;
    await held?.put(keys);
    // What the gate has made unseen is told of when it is looked at, and vetoed.
    const shunts = keys.map((key) => table.look(key));
    const live = shunts.flatMap((shunt) =>
      shunt !== undefined && shunt.reason === undefined ? [shunt] : [],
    );
    const vetoed = shunts.map((shunt) => shunt?.reason === VETO);
    const driven = (await listener?.held(keys)) ?? [];
    await table.end(live, VETO);
    const covered = await pairs.release(keys, this.#parts.pairEnded);
    return keys.map((_, i) => {
      const shunt = shunts[i];
      const was = (driven[i] ?? false) || covered[i] || (shunt !== undefined && live.includes(shunt));
      if (was) this.holds.released++;
      return was || vetoed[i];
    });
  }

  async #remove(request: RequestOf<'hold.remove'>, peer: Peer): Promise<{ results: object[] }> {
    const { owners } = this.#parts;
    const owner = request.owner === undefined ? undefined : owners.get(request.owner, peer.uid);
    const results: object[] = [];
    const free: FlowKey[] = [];
    const portion = new Portion(PORTION);
    for (const flow of request.flows) {
      const key = flowKey(flow);
      const own = this.holds.remove(key.bytes, owner?.name ?? userName(peer));
      // By hand the superuser lets go of anybody's.
      const others =
        own === undefined && owner === undefined && peer.uid === 0 ? this.holds.of(key.bytes) : [];
      for (const { holder } of others) this.holds.remove(key.bytes, holder.name);
      const found = own !== undefined || others.length > 0;
      if (found && this.holds.of(key.bytes).length === 0) free.push(key);
      const error = found ? undefined : this.#notHeld(flowText(flow), key);
      results.push(error === undefined ? {} : failure(error));
      this.#note('hold.remove', flowText(flow), peer, request, error?.code);
      if (portion.full()) await nextTurn();
    }
    await this.#free(free);
    return { results };
  }

  /** Nobody holds these any more. */
  async #free(keys: readonly FlowKey[]): Promise<void> {
    const { held, listener } = this.#parts;
    for (const key of keys) this.holds.kept += held?.drop(key) ?? 0;
    if (keys.length > 0) await listener?.free(keys);
  }

  /** How often the gate itself was kept from shunting them. */
  async #readKept(): Promise<void> {
    await this.#parts.held?.news((key, times) => this.holds.keep(key, times));
  }

  #notHeld(flow: string, key: FlowKey): SluiceError {
    if (this.holds.of(key.bytes).length > 0)
      return new SluiceError('DENIED', `${flow} is held by another user or owner`);
    return new SluiceError('NOT_FOUND', `${flow} is not held`);
  }

  #note(
    op: string,
    key: string,
    { uid, pid }: Peer,
    { owner, why }: { owner?: string | undefined; why?: string | undefined },
    refused: string | undefined,
  ): void {
    this.#parts.audit.write({ op, owner, uid, pid, key, why, refused });
  }

  async #list({ page }: RequestOf<'hold.list'>, conversation: Conversation): Promise<{ holds: number }> {
    await this.#readKept();
    const offset = realtimeOffset();
    const rows = [...this.holds.all()].map((hold) => holdRow(hold, offset));
    for (let from = 0; from < rows.length; from += page)
      await conversation.page(rows.slice(from, from + page));
    return { holds: rows.length };
  }

  /** To be called now and then: lets go of what is over. */
  expire(): void {
    const free: FlowKey[] = [];
    for (const { hold, reason } of this.holds.expire()) {
      this.#parts.audit.write({ op: 'hold.end', key: flowText(hold.flow), reason });
      if (this.holds.of(hold.key.bytes).length === 0) free.push(hold.key);
    }
    this.#free(free).catch(() => {});
  }

  async status(): Promise<{ live: number; kept: number; released: number }> {
    await this.#readKept();
    const { size, kept, released } = this.holds;
    return { live: size, kept, released };
  }
}

function userName({ uid }: Peer): string {
  return `user ${uid ?? 'unknown'}`;
}

function holdRow({ flow, holder, why, since, expires, kept }: Hold, offset: number): HoldRow {
  const { proto, a, b, vlan, innerVlan, vni, geneveVni } = flow;
  return {
    proto,
    a,
    b,
    vlan,
    innerVlan,
    vni,
    ...(geneveVni === undefined || geneveVni === 0 ? {} : { geneveVni }),
    owner: holder.slot === 0 ? '' : holder.name,
    holder: holder.name,
    why: why ?? '',
    since,
    expires: expires === undefined ? null : expires + offset,
    kept,
  };
}
