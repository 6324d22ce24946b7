import { mkdirSync } from 'node:fs';
import { SluiceError } from '../base/errors.ts';
import { BpfMap, errnoName, interfaceState, interfaces } from '../kernel/index.ts';
import { GateClient } from './client.ts';
import { type Place, placeOf } from './control-places.ts';
import {
  PROTOCOL_VERSION,
  type Request,
  type RequestOf,
  type ShuntRow,
  type StatusReport,
} from './control-protocol.ts';
import { ControlServer, type Conversation, type Peer } from './control-server.ts';
import { AuditLog } from './daemon-audit.ts';
import { readState, removeState, writeState } from './daemon-state.ts';
import { type Shunt, ShuntTable, type Wanted } from './daemon-table.ts';
import { flowKey, flowOfKey, flowText } from './flow-key.ts';
import { type AttachMode, Gate } from './gate.ts';
import { localAddresses } from './guard.ts';
import { LAYOUT_VERSION } from './layout.ts';
import { hasLocalEndpoint } from './local.ts';
import { type Owner, Owners } from './owners.ts';
import type { PinAccess } from './pins.ts';

export interface DaemonOptions {
  ifname: string;
  ifindex: number;
  mode: AttachMode | 'auto';
  maxShunts4: number;
  maxShunts6: number;
  vlanKey: boolean;
  /** Absolute; audit.log is written there. */
  logDir: string;
  pins: PinAccess;
  socketMode: number;
}

/** What `gate up --json` prints. */
export interface UpReport {
  interface: string;
  mode: string;
  programId: number;
  pins: Record<string, string>;
}

/** Seconds that an entry by hand lives unless told otherwise. */
export const DEFAULT_TTL = 300;
const CHECK_MS = 1000;
const COUNTERS_MS = 100;
/** Addresses of this host are looked up again after this time. */
const LOCAL_MS = 5000;
const MAP_FULL = new Set(['E2BIG', 'ENOSPC', 'ENOMEM']);

/** The keeper of one gate: holds its lock, serves its control socket, looks after leases and time limits. */
export class GateDaemon {
  readonly report: UpReport;
  /** Resolves when it has been told to stop, or cannot go on. */
  readonly ended: Promise<SluiceError | undefined>;
  readonly #options: DaemonOptions;
  readonly #place: Place;
  readonly #gate: Gate;
  readonly #client: GateClient;
  readonly #leases: BpfMap;
  readonly #owners: Owners;
  readonly #table: ShuntTable;
  readonly #audit: AuditLog;
  readonly #warn: (text: string) => void;
  readonly #mode: string;
  readonly #modeReason: string | undefined;
  readonly #began = performance.now();
  readonly #timers: NodeJS.Timeout[] = [];
  #server: ControlServer | undefined;
  #end: (error: SluiceError | undefined) => void = () => {};
  #local = new Set<string>();
  #localUntil = 0;
  #closed = false;

  private constructor(
    options: DaemonOptions,
    gate: Gate,
    attached: { mode: string; warning?: string },
    audit: AuditLog,
    warn: (text: string) => void,
  ) {
    this.#options = options;
    this.#gate = gate;
    this.#audit = audit;
    this.#warn = warn;
    this.#place = placeOf(options.ifindex, options.ifname);
    const handles = gate.handles(0);
    this.#client = new GateClient(handles, 0);
    this.#leases = BpfMap.adopt(handles.leases);
    // Those who come back find their place again; without the tables there is nothing to come back to.
    const before = gate.tookOver ? (readState(this.#place)?.owners ?? []) : [];
    this.#owners = new Owners(this.#leases.mmap(true), before);
    this.#table = new ShuntTable(this.#client, this.#owners, {
      started: (shunt, row) => this.#started(shunt, row),
      ended: (shunt, reason, row) => this.#ended(shunt, reason, row),
    });
    const { mode, warning } = attached;
    this.#mode = mode;
    this.#modeReason = warning;
    if (warning !== undefined) warn(warning);
    this.report = {
      interface: options.ifname,
      mode,
      programId: gate.program.id,
      pins: gate.pins,
    };
    this.ended = new Promise((resolve) => (this.#end = resolve));
  }

  /**
   * Attaches the gate and begins to serve.
   * @param warn told what people should know, one line at a time
   * @throws SluiceError INTERFACE_BUSY, KERNEL_FEATURE, PIN_FOREIGN, PRIVILEGE, FILE, VERIFIER
   */
  static async start(options: DaemonOptions, warn: (text: string) => void): Promise<GateDaemon> {
    const audit = openAudit(options.logDir, warn);
    let gate: Gate | undefined;
    let daemon: GateDaemon | undefined;
    try {
      gate = Gate.open({ ...options, workers: 2, keep: options.pins });
      daemon = new GateDaemon(options, gate, gate.attach(options.mode), audit, warn);
      await daemon.#serve();
      return daemon;
    } catch (error) {
      if (daemon !== undefined) await daemon.close();
      else {
        gate?.close();
        audit.close();
      }
      throw error;
    }
  }

  async #serve(): Promise<void> {
    if (this.#gate.orphans.length > 0) {
      this.#warn(
        `removed ${this.#gate.orphans.length} shunts that an earlier gate with other sizes had left on ${this.#options.ifname}`,
      );
    }
    await this.#table.start();
    if (this.#gate.tookOver) this.#warn(`took over a gate with ${this.#table.size} shunts`);
    this.#saveState();
    const { uid, gid } = this.#options.pins;
    const access = { uid, gid, mode: this.#options.socketMode };
    this.#server = await ControlServer.listen(this.#place.socket, access, (request, conversation) =>
      this.#perform(request, conversation),
    );
    this.#timers.push(setInterval(() => this.#checkInterface(), CHECK_MS));
    this.#timers.push(setInterval(() => this.#tellCounters(), COUNTERS_MS));
    this.#audit.write({ op: this.#gate.tookOver ? 'gate.takeover' : 'gate.up', pid: process.pid });
  }

  #saveState(): void {
    writeState(this.#place, {
      version: 1,
      interface: this.#options.ifname,
      ifindex: this.#options.ifindex,
      pid: process.pid,
      mode: this.#mode,
      modeReason: this.#modeReason ?? null,
      vlanKey: this.#options.vlanKey,
      logDir: this.#options.logDir,
      owners: this.#owners.settings(),
    });
  }

  #checkInterface(): void {
    if (interfaceState(this.#options.ifindex) !== undefined) return;
    const { ifname } = this.#options;
    this.#end(
      new SluiceError('INTERFACE_GONE', `the interface ${ifname} has gone, and the gate with it`, {
        help: `\`sluice gate up -i ${ifname}\` once it is back`,
      }),
    );
  }

  #tellCounters(): void {
    this.#server?.tellCounters(() => {
      const { seen, passed, shunted } = this.#gate.ledger();
      return {
        event: 'counters',
        ts: Date.now() / 1000,
        shunts: this.#table.size,
        ledger: { seen, passed, shunted },
      };
    });
  }

  #started(shunt: Shunt, row: () => ShuntRow): void {
    if (this.#server?.watched === true)
      this.#server.tell({ event: 'start', ts: shunt.since ?? Date.now() / 1000, shunt: row() });
  }

  #ended(shunt: Shunt, reason: string, row: ShuntRow): void {
    this.#audit.write({
      op: 'end',
      owner: row.owner === '' ? undefined : row.owner,
      key: keyOf(shunt),
      trigger: shunt.trigger,
      reason,
      pkts: row.ab.pkts + row.ba.pkts,
      ipBytes: row.ab.ipBytes + row.ba.ipBytes,
    });
    this.#server?.tell({ event: 'end', ts: Date.now() / 1000, reason, shunt: row });
  }

  async #perform(request: Request, conversation: Conversation): Promise<unknown> {
    const { peer } = conversation;
    switch (request.op) {
      case 'hello':
        return this.#hello(request);
      case 'status':
        return this.#status();
      case 'add':
        return { results: this.#add(request, peer) };
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
      case 'stop':
        this.#mustRule(peer);
        this.#audit.write({ op: 'gate.down', ...peer });
        // The answer goes out before the socket is closed.
        setImmediate(() => this.#end(undefined));
        return {};
      default:
        throw new SluiceError('INTERNAL', 'a request without its work');
    }
  }

  #hello({ version }: RequestOf<'hello'>): unknown {
    if (version !== PROTOCOL_VERSION) {
      throw new SluiceError('CONTROL', `the daemon speaks version ${PROTOCOL_VERSION}, not ${version}`, {
        help: 'use a sluice of the same version, or start the gate anew',
      });
    }
    const { ifname, ifindex } = this.#options;
    return { version: PROTOCOL_VERSION, interface: ifname, ifindex, pid: process.pid };
  }

  #mustRule({ uid }: Peer): void {
    if (uid === 0 || (uid !== undefined && uid === process.getuid?.())) return;
    throw new SluiceError('DENIED', 'only the superuser may do this');
  }

  #status(): StatusReport {
    const { ifname, ifindex, vlanKey, maxShunts4, maxShunts6 } = this.#options;
    const { reasons, ...counts } = this.#gate.ledger();
    return {
      // It may have been renamed.
      interface: interfaces().find(({ index }) => index === ifindex)?.name ?? ifname,
      ifindex,
      mode: this.#mode,
      modeReason: this.#modeReason ?? null,
      programId: this.#gate.program.id,
      layout: LAYOUT_VERSION,
      vlanKey,
      daemon: {
        alive: true,
        pid: process.pid,
        socket: this.#place.socket,
        uptime: (performance.now() - this.#began) / 1000,
      },
      ...counts,
      reasons,
      tables: {
        flows4: { entries: this.#table.entries(4), max: maxShunts4 },
        flows6: { entries: this.#table.entries(6), max: maxShunts6 },
      },
      owners: this.#owners.rows(),
      pins: this.#gate.pins,
    };
  }

  #add(request: RequestOf<'add'>, peer: Peer): unknown[] {
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
    this.#table.add(wanted).forEach((result, i) => {
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
    if (!this.#options.vlanKey && (flow.vlan !== 0 || flow.innerVlan !== 0)) {
      throw new SluiceError('REFUSED', 'VLAN ids are not part of the key of this gate', {
        help: 'leave them out, or start the gate with --vlan-key',
      });
    }
    if (flow.vni !== 0) {
      throw new SluiceError('REFUSED', 'this gate does not look into tunnels', {
        help: 'shunt the outer flow of the tunnel instead',
      });
    }
    const key = flowKey(flow);
    if (hasLocalEndpoint(this.#localAddresses(), key.family, key.bytes)) {
      throw new SluiceError('REFUSED', 'an endpoint is an address of this host', {
        help: "the host's own traffic is never dropped",
      });
    }
    if (owner === undefined)
      return { key, slot: 0, ttl: flow.ttl ?? DEFAULT_TTL, idle: undefined, seq: flow.seq, ack: flow.ack };
    if (owner.entries + more >= owner.maxEntries)
      throw new SluiceError('LIMIT', `${owner.name} has ${owner.maxEntries} entries already`);
    const idle = owner.idle === 'off' ? undefined : owner.idle;
    return { key, slot: owner.slot, ttl: flow.ttl, idle, seq: flow.seq, ack: flow.ack };
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
    // The references as they are now: the table changes while a slow client reads.
    for (const shunt of this.#table.all()) {
      if (this.#closed || this.#table.find(shunt.key) !== shunt) continue;
      const row = this.#table.row(shunt);
      if (row === undefined || (owner !== undefined && row.owner !== owner)) continue;
      rows.push(row);
      entries++;
      if (rows.length < page) continue;
      await conversation.page(rows);
      // Others want to be served in between.
      await new Promise((resolve) => setImmediate(resolve));
      rows = [];
    }
    if (rows.length > 0) await conversation.page(rows);
    return { entries };
  }

  #register(request: RequestOf<'owner.register'>, peer: Peer): unknown {
    const { name, lease, idle, maxEntries } = request;
    const owner = this.#owners.register({ name, lease, idle, maxEntries }, peer.uid);
    this.#saveState();
    this.#audit.write({ op: 'owner.register', owner: name, ...peer });
    return { slot: owner.slot, entries: owner.entries };
  }

  async #unregister({ name }: RequestOf<'owner.unregister'>, peer: Peer): Promise<unknown> {
    const owner = this.#owners.get(name, peer.uid);
    this.#audit.write({ op: 'owner.unregister', owner: name, ...peer });
    this.#owners.leave(owner);
    this.#saveState();
    const its = this.#table.all().filter(({ slot }) => slot === owner.slot);
    if (its.length === 0) this.#owners.forget(owner);
    await this.#table.end(its, 'asked');
    return { ended: its.length };
  }

  /** Takes everything down: gate, pins, socket. The second time does nothing. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const timer of this.#timers) clearInterval(timer);
    this.#gate.detach();
    await this.#table.stop();
    await this.#server?.close();
    removeState(this.#place);
    this.#audit.close();
    this.#leases.close();
    this.#client.close();
    this.#gate.close();
  }
}

function openAudit(logDir: string, warn: (text: string) => void): AuditLog {
  try {
    mkdirSync(logDir, { recursive: true });
    return new AuditLog(logDir, warn);
  } catch (cause) {
    throw new SluiceError('FILE', `cannot write logs in ${logDir}`, {
      cause,
      help: 'name another --log-dir',
    });
  }
}

function failure({ code, message, help }: SluiceError): object {
  return { error: { code, message, ...(help === undefined ? {} : { help }) } };
}

function addError(result: number): SluiceError {
  const name = errnoName(-result);
  if (name === 'EEXIST')
    return new SluiceError('EXISTS', 'this flow is shunted already', { help: 'sluice shunt rm ends it' });
  if (MAP_FULL.has(name))
    return new SluiceError('MAP_FULL', 'the table is full', {
      help: 'use a larger table (--max-shunts4, --max-shunts6), or let entries end sooner',
    });
  return new SluiceError('KERNEL_CALL', `the gate did not take it: ${name}`);
}

function keyOf({ family, key }: Shunt): string {
  return flowText(flowOfKey(family, key));
}
