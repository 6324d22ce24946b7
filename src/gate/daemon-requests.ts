import { SluiceError } from '../base/errors.ts';
import { ipBytes, ipText } from '../packet/address.ts';
import { type PairRow, type Request, type RequestOf, type ShuntRow } from './control-protocol.ts';
import type { Conversation, Peer } from './control-server.ts';
import type { AuditLog } from './daemon-audit.ts';
import { HoldKeeper, type HoldListener, VETO } from './daemon-holds.ts';
import { excepted, type PairKeeper } from './daemon-pairs.ts';
import { addError, failure, noTunnelIds, noVlans, ownTraffic, unlimited } from './daemon-refusals.ts';
import type { EntryTable, Shunt, Wanted } from './daemon-shunt.ts';
import { type Exceptions, mappedAddress, prefixTest } from './exceptions.ts';
import { flowKey, flowOfKey, flowText } from './flow-key.ts';
import { localAddresses } from './guard.ts';
import type { HeldFlows } from './held-flows.ts';
import { hasLocalEndpoint } from './local.ts';
import type { Owner, Owners } from './owners.ts';
import { nextTurn } from './turns.ts';

/** Seconds that an entry by hand lives unless told otherwise. */
export const DEFAULT_TTL = 300;
/** Addresses of this host are looked up again after this time. */
const LOCAL_MS = 100;
/** Flows that are added in one turn of the event loop. */
const ADDED = 64;
/** Entries that a list reads in one turn of the event loop. */
const LISTED = 256;

export interface RequestParts {
  vlanKey: boolean;
  tunnelKey?: boolean | undefined;
  table: EntryTable;
  owners: Owners;
  pairs: PairKeeper;
  exceptions: Exceptions;
  audit: Pick<AuditLog, 'write'>;
  /** Of requests over the tables before these: what is held stays held. */
  holds?: HoldKeeper | undefined;
  listener?: HoldListener | undefined;
  held?: HeldFlows | undefined;
  /** The owners have changed. */
  save(): void;
  /** Entries are to wait for thresholds. @throws SluiceError where the gate cannot */
  thresholds?: (() => void) | undefined;
}

/** What is asked of the entries of a gate, worked out one by one. */
export class DaemonRequests {
  readonly #vlanKey: boolean;
  readonly #tunnelKey: boolean;
  readonly #table: EntryTable;
  readonly #owners: Owners;
  readonly #pairs: PairKeeper;
  readonly #exceptions: Exceptions;
  readonly #audit: Pick<AuditLog, 'write'>;
  readonly holds: HoldKeeper;
  readonly #save: () => void;
  readonly #thresholds: () => void;
  #local = new Set<string>();
  #localUntil = 0;

  constructor(parts: RequestParts) {
    this.#vlanKey = parts.vlanKey;
    this.#tunnelKey = parts.tunnelKey === true;
    this.#table = parts.table;
    this.#owners = parts.owners;
    this.#pairs = parts.pairs;
    this.#exceptions = parts.exceptions;
    this.#audit = parts.audit;
    this.#save = () => parts.save();
    this.#thresholds = () => parts.thresholds?.();
    this.holds =
      parts.holds ??
      new HoldKeeper({
        ...parts,
        tunnelKey: this.#tunnelKey,
        pairEnded: (pair, reason) => this.notePairEnd(pair, reason),
      });
    const pairEnded = (pair: PairRow, reason: string): void => this.notePairEnd(pair, reason);
    this.holds.follow({ ...parts, pairEnded });
    this.protectHost();
  }

  /** What is never shunted. */
  exceptionList(): string[] {
    return this.#exceptions.list();
  }

  /** @throws SluiceError whatever the answer to it is then */
  async perform(request: Request, conversation: Conversation): Promise<unknown> {
    const { peer } = conversation;
    switch (request.op) {
      case 'add':
        return { results: await this.#add(request, peer) };
      case 'remove':
        return { results: await this.#remove(request, peer) };
      case 'query':
        return { shunts: request.flows.map((flow) => this.#row(flow) ?? null) };
      case 'list':
        return await this.#list(request, conversation);
      case 'watch':
        conversation.watch(request.interval);
        return {};
      case 'unwatch':
        conversation.unwatch();
        return {};
      case 'owner.register':
        return this.#register(request, peer);
      case 'owner.unregister':
        return await this.#unregister(request, peer);
      case 'renew': {
        const { lease, entries } = this.#owners.renew(request.owner, peer.uid);
        return { lease, entries };
      }
      case 'pair.add':
        return this.#addPair(request, peer);
      case 'pair.remove':
        return await this.#removePair(request, peer);
      case 'pair.list':
        return { pairs: await this.#pairs.list() };
      case 'exception.add':
        return await this.#except(request, peer);
      case 'exception.remove':
        this.#audit.write({ op: 'exception.remove', ...who(peer), key: request.prefix, why: request.why });
        if (!this.#exceptions.remove(request.prefix))
          throw new SluiceError('NOT_FOUND', `there is no exception ${request.prefix}`);
        this.protectHost();
        return {};
      case 'exception.list':
        return { exceptions: this.#exceptions.list() };
      case 'hold.add':
      case 'hold.remove':
      case 'hold.list':
        return await this.holds.perform(request, conversation);
      default:
        throw new SluiceError('INTERNAL', `no work for ${request.op}`);
    }
  }

  /**
   * The host's own addresses are exceptions, from when it has them until the gate goes down: a pair of prefixes may cover
   * them, and what was added before must not drop what is theirs now. @throws SluiceError MAP_FULL
   */
  protectHost(): void {
    const fresh: string[] = [];
    for (const address of this.#localAddresses()) {
      const bytes = Buffer.from(address, 'hex');
      if (this.#exceptions.covers(bytes)) continue;
      const text = ipText(bytes, 0, bytes.length === 4 ? 4 : 16);
      this.#exceptions.add(text);
      fresh.push(text);
    }
    // What fails here is found out again by the look after the tables.
    if (fresh.length > 0) this.#purge(fresh).catch(() => {});
  }

  async #add(request: RequestOf<'add'>, peer: Peer): Promise<unknown[]> {
    const results: unknown[] = [];
    for (let from = 0; from < request.flows.length; from += ADDED) {
      const flows = request.flows.slice(from, from + ADDED);
      if (from > 0) await nextTurn();
      try {
        results.push(...(await this.#addSome({ ...request, flows }, peer)));
      } catch (error) {
        // The owner may have gone meanwhile: what was added before is answered for.
        if (from === 0 || !(error instanceof SluiceError)) throw error;
        results.push(...flows.map(() => failure(error)));
      }
    }
    return results;
  }

  async #addSome(request: RequestOf<'add'>, peer: Peer): Promise<unknown[]> {
    const owner = request.owner === undefined ? undefined : this.#owners.get(request.owner, peer.uid);
    const results: object[] = [];
    const wanted: Wanted[] = [];
    const places: number[] = [];
    for (const [place, flow] of request.flows.entries()) {
      const trigger = flow.trigger ?? (owner === undefined ? 'manual' : owner.name);
      let refusal: SluiceError | undefined;
      try {
        const want = this.#want(flow, owner, wanted.length);
        wanted.push({ ...want, trigger });
        places.push(place);
      } catch (error) {
        if (!(error instanceof SluiceError)) throw error;
        refusal = error;
        results[place] = failure(error);
      }
      if (refusal !== undefined) this.#noteAdd(flow, request, peer, trigger, refusal);
    }
    if (wanted.some(({ after }) => after !== undefined)) this.#thresholds();
    const added = await this.#table.add(wanted);
    added.forEach((result, i) => {
      const place = places[i];
      const refusal = result === 0 ? undefined : addError(result);
      results[place] = refusal === undefined ? {} : failure(refusal);
      this.#noteAdd(request.flows[place], request, peer, wanted[i].trigger, refusal);
    });
    return results;
  }

  #noteAdd(
    flow: RequestOf<'add'>['flows'][number],
    { owner, why }: RequestOf<'add'>,
    peer: Peer,
    trigger: string,
    refusal: SluiceError | undefined,
  ): void {
    const { uid, pid } = peer;
    this.#audit.write({
      op: 'add',
      owner,
      uid,
      pid,
      key: flowText(flow),
      trigger,
      why,
      refused: refusal?.code,
    });
  }

  /** `more`: how many of the same request come before it. @throws SluiceError */
  #want(
    flow: RequestOf<'add'>['flows'][number],
    owner: Owner | undefined,
    more: number,
  ): Omit<Wanted, 'trigger'> {
    if (!this.#vlanKey && (flow.vlan !== 0 || flow.innerVlan !== 0)) {
      throw noVlans();
    }
    if (!this.#tunnelKey && (flow.vni !== 0 || (flow.geneveVni ?? 0) !== 0)) throw noTunnelIds();
    const key = flowKey(flow);
    if (hasLocalEndpoint(this.#localAddresses(), key.family, key.bytes)) {
      throw ownTraffic();
    }
    for (const { addr } of [flow.a, flow.b])
      if (this.#exceptions.covers(mappedAddress(addr))) throw excepted(addr);
    this.holds.check(key, () => flowText(flow));
    const { seq, ack } = flow;
    const limit = flow.idle ?? owner?.idle ?? 'off';
    const idle = limit === 'off' ? undefined : limit;
    if (owner === undefined)
      return { key, slot: 0, ttl: flow.ttl ?? DEFAULT_TTL, idle, seq, ack, after: flow.after };
    if (owner.entries + more >= owner.maxEntries)
      throw new SluiceError('LIMIT', `${owner.name} has ${owner.maxEntries} entries already`);
    if (owner.lease === 'off' && idle === undefined) throw unlimited(owner.name);
    return { key, slot: owner.slot, ttl: flow.ttl, idle, seq, ack, after: flow.after };
  }

  #localAddresses(): ReadonlySet<string> {
    const now = performance.now();
    if (now >= this.#localUntil) {
      this.#local = localAddresses();
      this.#localUntil = now + LOCAL_MS;
    }
    return this.#local;
  }

  #find(flow: RequestOf<'remove'>['flows'][number]): Shunt | undefined {
    const shunt = this.#table.find(flowKey(flow).bytes);
    return shunt?.reason === undefined ? shunt : undefined;
  }

  #row(flow: RequestOf<'query'>['flows'][number]): ShuntRow | undefined {
    const shunt = this.#find(flow);
    return shunt === undefined ? undefined : this.#table.row(shunt);
  }

  async #remove(request: RequestOf<'remove'>, peer: Peer): Promise<unknown[]> {
    const found: Shunt[] = [];
    const results = request.flows.map((flow) => {
      try {
        const shunt = this.#find(flow);
        if (shunt === undefined) throw new SluiceError('NOT_FOUND', `${flowText(flow)} is not shunted`);
        if (!this.#owners.mayEnd(shunt.slot, peer.uid))
          throw new SluiceError('DENIED', `${flowText(flow)} belongs to another user's owner`);
        found.push(shunt);
        return {};
      } catch (error) {
        if (error instanceof SluiceError) return failure(error);
        throw error;
      }
    });
    const { uid, pid } = peer;
    for (const shunt of found)
      this.#audit.write({ op: 'remove', uid, pid, key: keyOf(shunt), why: request.why });
    await this.#table.end(found, 'asked');
    return results;
  }

  async #list({ owner, page }: RequestOf<'list'>, conversation: Conversation): Promise<{ entries: number }> {
    let rows: ShuntRow[] = [];
    let entries = 0;
    for await (const slice of this.#table.slices(LISTED)) {
      for (const shunt of slice) {
        if (owner !== undefined && this.#table.ownerOf(shunt) !== owner) continue;
        // The table changes while a slow client reads.
        if (!this.#table.current(shunt)) continue;
        const row = this.#table.row(shunt);
        if (row === undefined) continue;
        entries++;
        if (rows.push(row) < page) continue;
        await conversation.page(rows);
        rows = [];
      }
    }
    if (rows.length > 0) await conversation.page(rows);
    return { entries };
  }

  #register(request: RequestOf<'owner.register'>, peer: Peer): unknown {
    const { name, lease, idle, maxEntries } = request;
    const known = this.#owners.all().find((owner) => owner.name === name);
    if (lease === 'off' && known !== undefined && this.#table.hasUnlimited(known.slot)) throw unlimited(name);
    const owner = this.#owners.register({ name, lease, idle, maxEntries }, peer.uid);
    this.#save();
    this.#audit.write({ op: 'owner.register', owner: name, ...peer });
    return { slot: owner.slot, entries: owner.entries };
  }

  async #unregister({ name }: RequestOf<'owner.unregister'>, peer: Peer): Promise<unknown> {
    const owner = this.#owners.get(name, peer.uid);
    this.#audit.write({ op: 'owner.unregister', owner: name, ...peer });
    this.#owners.leave(owner);
    this.#save();
    if (owner.entries === 0) this.#owners.forget(owner);
    return { ended: await this.#table.endWhere(({ slot }) => slot === owner.slot, 'asked') };
  }

  #addPair(request: RequestOf<'pair.add'>, peer: Peer): unknown {
    const { why } = request;
    const line = {
      op: 'pair.add',
      owner: request.owner,
      ...who(peer),
      key: `${request.a} ${request.b}`,
      why,
    };
    try {
      const owner = request.owner === undefined ? undefined : this.#owners.get(request.owner, peer.uid);
      if (!this.#vlanKey && (request.vlan !== 0 || request.innerVlan !== 0)) throw noVlans();
      const local = [request.a, request.b].some((text) => {
        return (
          !text.includes('/') && this.#localAddresses().has(Buffer.from(ipBytes(text) ?? []).toString('hex'))
        );
      });
      if (local) throw ownTraffic();
      const ttl = request.ttl ?? (owner === undefined ? DEFAULT_TTL : undefined);
      this.holds.checkPair(request.a, request.b);
      this.protectHost();
      this.#pairs.add(request, owner?.slot ?? 0, ttl);
    } catch (error) {
      if (error instanceof SluiceError) this.#audit.write({ ...line, refused: error.code });
      throw error;
    }
    this.#audit.write(line);
    return {};
  }

  async #removePair(request: RequestOf<'pair.remove'>, peer: Peer): Promise<unknown> {
    const key = `${request.a} ${request.b}`;
    const pair = await this.#pairs.remove(request, peer.uid);
    this.#audit.write({ op: 'pair.remove', ...who(peer), key, why: request.why });
    this.notePairEnd(pair, 'asked');
    return { pair };
  }

  notePairEnd(pair: PairRow, reason: string): void {
    this.#audit.write({
      op: 'pair.end',
      owner: pair.owner === '' ? undefined : pair.owner,
      key: `${pair.a} ${pair.b}`,
      reason,
      pkts: pair.ab.pkts + pair.ba.pkts,
      ipBytes: pair.ab.ipBytes + pair.ba.ipBytes,
    });
  }

  async #except({ prefix, why }: RequestOf<'exception.add'>, peer: Peer): Promise<{ ended: number }> {
    this.#exceptions.add(prefix);
    this.#audit.write({ op: 'exception.add', ...who(peer), key: prefix, why });
    return { ended: await this.#purge([prefix]) };
  }

  /** Why something that the gate shunts by itself may not be; undefined: it may. */
  veto({ family, key }: Shunt): string | undefined {
    const size = family === 4 ? 4 : 16;
    const ends = [key.subarray(0, size), key.subarray(size, 2 * size)];
    if (ends.some((address) => this.#exceptions.covers(address))) return 'exception';
    const { holds } = this.holds;
    if (holds.size === 0 || !holds.covers(key)) return undefined;
    holds.released++;
    return VETO;
  }

  /** New exceptions win over what is there: flows and address pairs that one covers end. */
  async #purge(prefixes: readonly string[]): Promise<number> {
    const tests = prefixes.map(prefixTest);
    const flows = await this.#table.endWhere(({ family, key }) => {
      const size = family === 4 ? 4 : 16;
      return tests.some((covers) => covers(key, 0, size) || covers(key, size, size));
    }, 'exception');
    let pairs = 0;
    await this.#pairs.purge((pair, reason) => {
      pairs++;
      this.notePairEnd(pair, reason);
    });
    return flows + pairs;
  }
}

function who({ uid, pid }: Peer): { uid: number | undefined; pid: number | undefined } {
  return { uid, pid };
}

export function keyOf({ family, key }: Shunt): string {
  return flowText(flowOfKey(family, key));
}
