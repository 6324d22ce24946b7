import type { Histories } from './history.ts';
import { FLAGS, Flag, Seen, WORDS } from './layout.ts';
import type { ConnRecord, TunnelAction, TunnelRecord, TunnelType } from './types.ts';

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

/** One tunnel: a UDP flow that carries packets, or a pair of addresses that exchange GRE or IP in IP. */
export interface Tunnel {
  readonly uid: string;
  readonly type: TunnelType;
  readonly origHost: string;
  readonly origPort: number;
  readonly respHost: string;
  readonly respPort: number;
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
  stack: Tunnel[];
  /** uids of all innermost tunnels that it was seen in. */
  parents: string[];
  changes: number;
  vni: number;
}

/** Which tunnels are around the packet in work, and around every connection; what is logged of them. */
export class Tunnels {
  /** Of the packet in work: how many tunnels are around it. */
  depth = 0;
  /** Tunnel ids for its key, 0 without: 1 in the top byte, the VNI below. */
  vxlan = 0;
  geneve = 0;
  /** When `sweep` has something to do. */
  sweepAt = Number.POSITIVE_INFINITY;

  readonly #words: Int32Array;
  readonly #histories: Histories;
  readonly #log: ((record: TunnelRecord) => void) | undefined;
  readonly #newUid: () => string;
  readonly #stack: Tunnel[] = [];
  /** Of each level: the key ids outside of it, and its VNI or -1. */
  readonly #ids = new Int32Array(3 * MAX_DEPTH);
  readonly #flows = new Map<number, Encapsulation>();
  readonly #ipTunnels = new Map<string, IpTunnel>();
  readonly #active = new Set<Tunnel>();

  constructor(
    words: Int32Array,
    histories: Histories,
    newUid: () => string,
    log: ((record: TunnelRecord) => void) | undefined,
  ) {
    this.#words = words;
    this.#histories = histories;
    this.#newUid = newUid;
    this.#log = log;
  }

  /** The innermost tunnel of the packet in work. */
  get innermost(): Tunnel | undefined {
    return this.#stack[this.depth - 1];
  }

  /** What follows lies inside of this tunnel too, until `leave`. */
  enter(tunnel: Tunnel, vni: number): void {
    this.#stack[this.depth] = tunnel;
    const at = 3 * this.depth;
    this.#ids[at] = this.vxlan;
    this.#ids[at + 1] = this.geneve;
    this.#ids[at + 2] = vni;
    this.depth++;
    if (tunnel.type === 'VXLAN') this.vxlan = 0x0100_0000 | vni;
    else if (tunnel.type === 'GENEVE') this.geneve = 0x0100_0000 | vni;
  }

  leave(): void {
    this.depth--;
    this.vxlan = this.#ids[3 * this.depth];
    this.geneve = this.#ids[3 * this.depth + 1];
  }

  /** The tunnel between two addresses, which `key` names whatever their order, if it is known. */
  between(key: string, now: number): Tunnel | undefined {
    const known = this.#ipTunnels.get(key);
    if (known === undefined || now - known.last >= IP_TUNNEL_TIMEOUT) return undefined;
    known.last = now;
    return known.tunnel;
  }

  /** A new tunnel between two addresses: for both directions, whatever is inside. */
  remember(key: string, type: TunnelType, origHost: string, respHost: string, now: number): Tunnel {
    this.#forget(key, now);
    for (const oldest of this.#ipTunnels.keys()) {
      if (this.#ipTunnels.size < MAX_IP_TUNNELS) break;
      this.#forget(oldest, now);
    }
    const uid = this.#newUid();
    const tunnel = { uid, type, origHost, origPort: 0, respHost, respPort: 0, active: false, used: now };
    this.#ipTunnels.set(key, { tunnel, last: now });
    return tunnel;
  }

  #forget(key: string, now: number): void {
    const known = this.#ipTunnels.get(key);
    if (known?.tunnel.active === true) this.#write(known.tunnel, 'EXPIRE', now);
    this.#ipTunnels.delete(key);
  }

  /** A flow begins with the packet in work, which has a tunnel around it. */
  opened(slot: number, now: number): void {
    this.#around(slot, 0, now);
  }

  /** The packet in work belongs to a flow that had a tunnel around it before, or has one now (Conn.cc). */
  seen(slot: number, now: number): void {
    const flow = this.#flows.get(slot);
    if (flow === undefined) {
      this.#around(slot, 1, now);
      return;
    }
    const stack = flow.stack;
    let same = stack.length === this.depth;
    for (let i = 0; same && i < this.depth; i++) same = stack[i] === this.#stack[i];
    if (same) return;
    flow.stack = this.#stack.slice(0, this.depth);
    if (flow.changes === MAX_CHANGES) {
      this.limit(slot);
      return;
    }
    flow.changes++;
    if (this.depth === 0) return;
    const uid = flow.stack[this.depth - 1].uid;
    if (!flow.parents.includes(uid)) flow.parents.push(uid);
    this.#use(now);
  }

  /** A limit was hit for this flow: X, once. */
  limit(slot: number): void {
    this.#histories.once(slot, Seen.limit, LETTER_X, true);
  }

  /** The uids of a flow's tunnels, and the VNI of the innermost VXLAN or GENEVE that was first around it. */
  describe(slot: number, record: ConnRecord): void {
    const flow = this.#flows.get(slot);
    record.tunnelParents = flow?.parents.slice();
    record.vni = flow === undefined || flow.vni < 0 ? undefined : flow.vni;
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
  #around(slot: number, changes: number, now: number): void {
    const stack = this.#stack.slice(0, this.depth);
    let vni = -1;
    for (let level = this.depth - 1; level >= 0 && vni < 0; level--) vni = this.#ids[3 * level + 2];
    this.#flows.set(slot, { stack, parents: [stack[stack.length - 1].uid], changes, vni });
    this.#words[slot * WORDS + FLAGS] = this.#words[slot * WORDS + FLAGS] | Flag.tunnelled;
    this.#use(now);
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
