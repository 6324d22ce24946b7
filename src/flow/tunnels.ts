import { type Packet, Tunnelled } from '../packet/packet.ts';
import type { Histories } from './history.ts';
import { C_GENEVE, C_VXLAN, COLD_WORDS, FLAGS, Flag, Seen, WORDS } from './layout.ts';
import type { FlowTable } from './table.ts';
import type { ConnRecord, Side, TunnelAction, TunnelRecord, TunnelType } from './types.ts';

/** Tunnels around one another that are taken apart (Zeek: Tunnel::max_depth). */
export const MAX_DEPTH = 4;
/** Changes of a connection's tunnels that are followed (Zeek: Tunnel::max_changes_per_connection). */
const MAX_CHANGES = 5;
/** Seconds without a new connection inside after which a tunnel is logged as expired (Tunnel::expiration_interval). */
const EXPIRES_AFTER = 3600;
const SWEEP_EVERY = 60;
/** Pairs of IP tunnel endpoints that are remembered, and for how many seconds (Tunnel::ip_tunnel_timeout). */
const MAX_IP_TUNNELS = 65_536;
const IP_TUNNEL_TIMEOUT = 86_400;
const LETTER_X = 0x58;
/** In the top byte of a key's tunnel id: there is such a tunnel. */
const TUNNEL_ID = 0x0100_0000;

/** Ids for the key of a packet that a mirror's tunnel was taken off of; 0: there was none. */
export function vxlanId({ tunnel, vni }: Packet): number {
  return tunnel === Tunnelled.vxlan ? TUNNEL_ID | vni : 0;
}

export function geneveId({ tunnel, vni, outerVni }: Packet): number {
  if (tunnel === Tunnelled.geneve) return TUNNEL_ID | vni;
  return outerVni >= 0 ? TUNNEL_ID | outerVni : 0;
}

/** One tunnel: a UDP flow that carries packets, or a pair of addresses that exchange GRE or IP in IP. */
export interface Tunnel {
  readonly uid: string;
  readonly type: TunnelType;
  readonly origHost: string;
  readonly origPort: number;
  readonly respHost: string;
  readonly respPort: number;
  /** The flow that it is, and its key; without one (GRE, IP in IP) -1, and both addresses as they stand in a key. */
  readonly slot: number;
  readonly generation: number;
  readonly words: Int32Array;
  /** It was logged, and when it last was around a new connection. */
  active: boolean;
  used: number;
}

interface IpTunnel {
  tunnel: Tunnel;
  last: number;
}

/** The tunnels around one connection. */
interface Encapsulation {
  /** Of its latest packet, the outermost first. */
  stack: readonly Tunnel[];
  /** Of the latest packet of each side. */
  readonly sides: [readonly Tunnel[] | undefined, readonly Tunnel[] | undefined];
  /** uids of all innermost tunnels that it was seen in. */
  parents: string[];
  changes: number;
  /** More changes than are followed: nothing of them is in the record any more. */
  limited: boolean;
}

/** Which tunnels are around the packet in work, and around every connection; what is logged of them. */
export class Tunnels {
  /** Of the packet in work: how many tunnels are around it. */
  depth = 0;
  /** Tunnel ids for its key, 0 without: 1 in the top byte, the VNI below. Those of a mirror's packet are there at depth 0. */
  vxlan = 0;
  geneve = 0;
  /** When `sweep` has something to do. */
  sweepAt = Number.POSITIVE_INFINITY;

  readonly #table: FlowTable;
  readonly #histories: Histories;
  readonly #log: ((record: TunnelRecord) => void) | undefined;
  readonly #newUid: () => string;
  readonly #stack: Tunnel[] = [];
  /** Of each level: the key ids outside of it. */
  readonly #ids = new Int32Array(2 * MAX_DEPTH);
  readonly #flows = new Map<number, Encapsulation>();
  readonly #ipTunnels = new Map<string, IpTunnel>();
  readonly #active = new Set<Tunnel>();

  constructor(
    table: FlowTable,
    histories: Histories,
    newUid: () => string,
    log: ((record: TunnelRecord) => void) | undefined,
  ) {
    this.#table = table;
    this.#histories = histories;
    this.#newUid = newUid;
    this.#log = log;
  }

  /** The innermost tunnel of the packet in work. */
  get innermost(): Tunnel | undefined {
    return this.#stack[this.depth - 1];
  }

  /** A packet comes in from outside, from a mirror's tunnel or none. */
  arrive(packet: Packet): void {
    this.vxlan = vxlanId(packet);
    this.geneve = geneveId(packet);
  }

  /** What follows lies inside of this tunnel too, until `leave`. */
  enter(tunnel: Tunnel, vni: number): void {
    this.#stack[this.depth] = tunnel;
    const at = 2 * this.depth;
    this.#ids[at] = this.vxlan;
    this.#ids[at + 1] = this.geneve;
    this.depth++;
    if (tunnel.type === 'VXLAN') this.vxlan = TUNNEL_ID | vni;
    else if (tunnel.type === 'GENEVE') this.geneve = TUNNEL_ID | vni;
  }

  leave(): void {
    this.depth--;
    this.vxlan = this.#ids[2 * this.depth];
    this.geneve = this.#ids[2 * this.depth + 1];
  }

  /** The tunnel between two addresses, which `key` names whatever their order, if it is known. */
  between(key: string, now: number): Tunnel | undefined {
    const known = this.#ipTunnels.get(key);
    if (known === undefined || now - known.last >= IP_TUNNEL_TIMEOUT) return undefined;
    known.last = now;
    return known.tunnel;
  }

  /** A new tunnel between two addresses: for both directions, whatever is inside. */
  remember(
    key: string,
    type: TunnelType,
    origHost: string,
    respHost: string,
    words: Int32Array,
    now: number,
  ): Tunnel {
    this.#forget(key, now);
    for (const oldest of this.#ipTunnels.keys()) {
      if (this.#ipTunnels.size < MAX_IP_TUNNELS) break;
      this.#forget(oldest, now);
    }
    const uid = this.#newUid();
    const ends = { origHost, origPort: 0, respHost, respPort: 0 };
    const tunnel = { uid, type, ...ends, slot: -1, generation: 0, words, active: false, used: now };
    this.#ipTunnels.set(key, { tunnel, last: now });
    return tunnel;
  }

  #forget(key: string, now: number): void {
    const known = this.#ipTunnels.get(key);
    if (known?.tunnel.active === true) this.#write(known.tunnel, 'EXPIRE', now);
    this.#ipTunnels.delete(key);
  }

  /** A flow begins with the packet in work. */
  opened(slot: number, side: Side, now: number): void {
    if (this.depth > 0) this.#around(slot, side, 0, now);
    else this.#identify(slot);
  }

  /** The packet in work belongs to a flow that had a tunnel around it before, or has one now (Conn.cc). */
  seen(slot: number, side: Side, now: number): void {
    const flow = this.#flows.get(slot);
    if (flow === undefined) {
      this.#around(slot, side, 1, now);
      return;
    }
    if (this.#isAround(flow.stack)) {
      flow.sides[side] = flow.stack;
      return;
    }
    // Where the two directions have tunnels of their own, these come again and again.
    const before = flow.sides[side];
    flow.stack = before !== undefined && this.#isAround(before) ? before : this.#stack.slice(0, this.depth);
    flow.sides[side] = flow.stack;
    if (flow.changes === MAX_CHANGES) {
      flow.limited = true;
      this.limit(slot);
      return;
    }
    flow.changes++;
    if (this.depth === 0) return;
    const uid = flow.stack[this.depth - 1].uid;
    if (!flow.parents.includes(uid)) flow.parents.push(uid);
    this.#use(now);
  }

  #isAround(stack: readonly Tunnel[]): boolean {
    if (stack.length !== this.depth) return false;
    for (let i = 0; i < this.depth; i++) if (stack[i] !== this.#stack[i]) return false;
    return true;
  }

  /**
   * Whether the record of this flow stays the same as long as the tunnels around each direction do, all of which are of
   * these types: changes are counted up to a limit, with each packet where the two directions have different ones.
   */
  isSettled(slot: number, types: ReadonlySet<TunnelType>): boolean {
    const flow = this.#flows.get(slot);
    if (flow === undefined) return false;
    const [a, b] = flow.sides;
    if (a !== undefined && b !== undefined && a !== b && !flow.limited) return false;
    return [a, b].every((stack) => stack === undefined || stack.every(({ type }) => types.has(type)));
  }

  /** The tunnels around the latest packet of each side; none of a side that has sent none. */
  around(slot: number): readonly [readonly Tunnel[], readonly Tunnel[]] {
    const [a = [], b = []] = this.#flows.get(slot)?.sides ?? [];
    return [a, b];
  }

  /** A limit was hit for this flow: X, once. */
  limit(slot: number): void {
    this.#histories.once(slot, Seen.limit, LETTER_X, true);
  }

  /** The uids of a flow's tunnels. */
  describe(slot: number, record: ConnRecord): void {
    record.tunnelParents = this.#flows.get(slot)?.parents.slice();
  }

  /** A flow with tunnels around it has ended. */
  ended(slot: number): void {
    this.#flows.delete(slot);
  }

  /** A flow that was a tunnel has ended. */
  closed(tunnel: Tunnel, now: number): void {
    if (tunnel.active) this.#write(tunnel, 'CLOSE', now);
  }

  /** Logs tunnels that have not been around a new connection for an hour. */
  sweep(now: number): void {
    for (const tunnel of this.#active)
      if (now - tunnel.used >= EXPIRES_AFTER) this.#write(tunnel, 'EXPIRE', now);
    this.sweepAt = this.#active.size === 0 ? Number.POSITIVE_INFINITY : now + SWEEP_EVERY;
  }

  /** A flow has tunnels around it for the first time. */
  #around(slot: number, side: Side, changes: number, now: number): void {
    const stack = this.#stack.slice(0, this.depth);
    const sides: Encapsulation['sides'] = side === 0 ? [stack, undefined] : [undefined, stack];
    this.#flows.set(slot, { stack, sides, parents: [stack[stack.length - 1].uid], changes, limited: false });
    const { words } = this.#table;
    words[slot * WORDS + FLAGS] = words[slot * WORDS + FLAGS] | Flag.tunnelled;
    this.#identify(slot);
    this.#use(now);
  }

  /** Notes the tunnel ids of the packet in work, unless the flow has some. */
  #identify(slot: number): void {
    const { cold } = this.#table;
    const at = slot * COLD_WORDS;
    if ((cold[at + C_VXLAN] | cold[at + C_GENEVE]) !== 0) return;
    cold[at + C_VXLAN] = this.vxlan;
    cold[at + C_GENEVE] = this.geneve;
  }

  #use(now: number): void {
    for (let i = 0; i < this.depth; i++) {
      const tunnel = this.#stack[i];
      tunnel.used = now;
      if (!tunnel.active) this.#write(tunnel, 'DISCOVER', now);
    }
  }

  #write(tunnel: Tunnel, action: TunnelAction, ts: number): void {
    tunnel.active = action === 'DISCOVER';
    if (tunnel.active) {
      this.#active.add(tunnel);
      this.sweepAt = Math.min(this.sweepAt, ts + SWEEP_EVERY);
    } else {
      this.#active.delete(tunnel);
    }
    const { uid, type, origHost, origPort, respHost, respPort } = tunnel;
    this.#log?.({ ts, uid, origHost, origPort, respHost, respPort, type, action });
  }
}
