import { asSluiceError, SluiceError } from '../base/errors.ts';
import { BpfMap } from '../kernel/index.ts';
import { GateClient } from './client.ts';
import { interfacesText, type Place, placeOf, placeWith } from './control-places.ts';
import {
  PROTOCOL_VERSION,
  type Request,
  type RequestOf,
  type ShuntRow,
  type StatusReport,
} from './control-protocol.ts';
import { aloneWith, ControlServer, type Conversation, mustRule } from './control-server.ts';
import { EveKeeper } from './daemon-eve.ts';
import { Exclusion } from './daemon-exclusion.ts';
import type { HoldKeeper } from './daemon-holds.ts';
import { InterfaceKeeper } from './daemon-interfaces.ts';
import { DaemonJournal } from './daemon-journal.ts';
import type { DaemonOptions, UpReport } from './daemon-options.ts';
import { PairKeeper } from './daemon-pairs.ts';
import { DaemonRequests } from './daemon-requests.ts';
import { type LeftRules, leftRules, RuleKeeper } from './daemon-rules.ts';
import { DaemonServices } from './daemon-services.ts';
import type { Shunt } from './daemon-shunt.ts';
import { SlotKeeper } from './daemon-slots.ts';
import { readState, removeState, writeState } from './daemon-state.ts';
import { statusReport, tableSizes } from './daemon-status.ts';
import { ShuntTable } from './daemon-table.ts';
import { Exceptions } from './exceptions.ts';
import { Gate } from './gate.ts';
import { HeldFlows } from './held-flows.ts';
import type { Attached } from './links.ts';
import { GateLosses } from './losses/index.ts';
import { Owners } from './owners.ts';
import { Pairs, PrefixPairs } from './pairs.ts';
import { PeerKeeper } from './peer-keeper.ts';
import { removePeerPins } from './peer-pins.ts';
import { RuleRequests } from './rule-requests.ts';
import { ZeekBridge } from './zeek-bridge.ts';

/** Why an entry ends that was there when the gate went. */
const DOWN = 'down';
const CHECK_MS = 1000;
const COUNTERS_MS = 100;
/** Seconds: of what the gate shunts by itself, while this process keeps the books. */
const ALONE_LEASE = 5;
const ALONE_RENEW_MS = 250;

/** The keeper of one gate: holds its locks, serves its control socket, looks after leases and time limits. */
export class GateDaemon {
  readonly report: UpReport;
  /** Resolves when it has been told to stop, or cannot go on. */
  readonly ended: Promise<SluiceError | undefined>;
  readonly #options: DaemonOptions;
  readonly #place: Place;
  readonly #gate: Gate;
  #client: GateClient;
  readonly #leases: BpfMap;
  readonly #owners: Owners;
  readonly #table: ShuntTable;
  readonly #journal: DaemonJournal;
  #pairs: PairKeeper;
  readonly #slots: SlotKeeper;
  readonly #rules: RuleKeeper;
  readonly #ruleRequests: RuleRequests;
  readonly #peers: PeerKeeper | undefined;
  #eve: EveKeeper | undefined;
  readonly #services = new DaemonServices();
  #requests: DaemonRequests;
  /** While the tables are exchanged, whoever wants to change them waits. */
  readonly #work = new Exclusion();
  readonly #warn: (text: string) => void;
  readonly #interfaces: InterfaceKeeper;
  readonly #losses: GateLosses;
  readonly #began = performance.now();
  readonly #timers: NodeJS.Timeout[] = [];
  #server: ControlServer | undefined;
  #zeek: ZeekBridge | undefined;
  #end: (error: SluiceError | undefined) => void = () => {};
  #closed = false;

  private constructor(
    options: DaemonOptions,
    place: Place,
    gate: Gate,
    attached: readonly Attached[],
    journal: DaemonJournal,
    warn: (text: string) => void,
  ) {
    this.#options = options;
    this.#gate = gate;
    this.#journal = journal;
    this.#warn = warn;
    this.#place = place;
    const handles = gate.handles(0);
    this.#client = new GateClient(handles, 0);
    this.#leases = BpfMap.adopt(handles.leases);
    // Those who come back find their place again; without the tables there is nothing to come back to.
    const before = gate.tookOver ? (readState(this.#place)?.owners ?? []) : [];
    this.#owners = new Owners(this.#leases.mmap(true), before);
    const { watch } = options;
    if (watch !== undefined) {
      const maxEntries = options.maxShunts4 + options.maxShunts6;
      this.#owners.itself('alone', watch.owner, { lease: ALONE_LEASE, idle: watch.idle, maxEntries });
    }
    this.#table = new ShuntTable(
      this.#client,
      this.#owners,
      {
        started: (shunt, row) => this.#started(shunt, row),
        ended: (shunt, reason, row, first) => this.#journal.ended(shunt, reason, row, first),
        failed: (error) => warn(`the tables could not be looked after: ${error.message}`),
      },
      watch !== undefined,
    );
    this.#interfaces = new InterfaceKeeper(gate, attached);
    this.#losses = new GateLosses(gate, () => this.#interfaces.rows());
    this.#slots = new SlotKeeper(gate);
    this.#rules = new RuleKeeper({
      gate,
      place: this.#place,
      grace: () => this.#client.grace(),
      site: options.site,
      roles: options.roles,
      warn,
    });
    this.#ruleRequests = new RuleRequests(this.#rules, this.#journal.audit);
    [this.#pairs, this.#requests] = this.#assemble();
    if (options.peers !== undefined)
      this.#peers = new PeerKeeper(options.peers, (name) => gate.table(name), this.#journal.ofPeers());
    for (const warning of this.#interfaces.warnings) warn(warning);
    const rows = this.#interfaces.rows();
    this.report = {
      interface: rows[0].interface,
      mode: rows[0].mode,
      interfaces: rows,
      programId: gate.program.id,
      pins: gate.pins,
    };
    this.ended = new Promise((resolve) => (this.#end = resolve));
  }

  /** What works on the tables as they are now. */
  #assemble(holds?: HoldKeeper): [PairKeeper, DaemonRequests] {
    const gate = this.#gate;
    const client = this.#client;
    const grace = (): Promise<void> => client.grace();
    const exceptions = new Exceptions(gate.table('exceptions'));
    const prefixes = new PrefixPairs(gate.table('prefixes'), client.ops, grace);
    const keeper = new PairKeeper(
      new Pairs(gate.table('pairs'), client.ops, grace),
      prefixes,
      exceptions,
      this.#owners,
      (features) => gate.enable(features),
    );
    const requests = new DaemonRequests({
      vlanKey: this.#options.vlanKey,
      tunnelKey: this.#options.tunnels?.inKey === true,
      table: this.#table,
      owners: this.#owners,
      pairs: keeper,
      exceptions,
      audit: this.#journal.audit,
      holds,
      held:
        this.#options.watch &&
        new HeldFlows(
          () => this.#gate.table('held'),
          () => this.#client.grace(),
        ),
      save: () => this.#saveState(),
      thresholds: () => gate.enable({ thresholds: true }),
    });
    return [keeper, requests];
  }

  /** Flow tables of another size, with all entries and counts; while they are exchanged everything passes. */
  async #resize({ maxShunts4, maxShunts6 }: RequestOf<'resize'>): Promise<StatusReport['tables']> {
    const sizes = {
      flows4: maxShunts4 ?? this.#gate.table('flows4').maxEntries,
      flows6: maxShunts6 ?? this.#gate.table('flows6').maxEntries,
    };
    if (this.#table.entries(4) > sizes.flows4 || this.#table.entries(6) > sizes.flows6)
      throw new SluiceError('LIMIT', 'the tables have more entries than that');
    const next = this.#gate.prepare(sizes);
    try {
      await this.#table.pause();
      await this.#table.copy(next.tables);
    } catch (error) {
      next.discard();
      this.#table.resume(this.#client);
      throw error;
    }
    const before = this.#client;
    next.commit();
    this.#client = new GateClient(this.#gate.handles(0), 0);
    [this.#pairs, this.#requests] = this.#assemble(this.#requests.holds);
    this.#table.resume(this.#client);
    before.close();
    return tableSizes(this.#gate, this.#table);
  }

  /**
   * Attaches the gate and begins to serve.
   * @param warn told what people should know, one line at a time
   * @throws SluiceError INTERFACE_BUSY, KERNEL_FEATURE, PIN_FOREIGN, PRIVILEGE, FILE, VERIFIER
   */
  static async start(options: DaemonOptions, warn: (text: string) => void): Promise<GateDaemon> {
    const journal = new DaemonJournal(options.logDir, warn);
    let gate: Gate | undefined;
    let daemon: GateDaemon | undefined;
    try {
      const { ifindex, ifname, others } = options;
      const given = [{ ifindex, ifname }, ...others];
      // Of a gate that is taken over, the first interface may have gone, or come in another place.
      const home = given.flatMap((each) => placeWith(each.ifindex) ?? []).at(0)?.ifindex ?? ifindex;
      const all = given.toSorted((a, b) => Number(b.ifindex === home) - Number(a.ifindex === home));
      const place = placeOf(home, all[0].ifname, all);
      const left = leftRules(place);
      const before = readState(place)?.peers ?? [];
      gate = Gate.open({ ...options, ...all[0], others: all.slice(1), home, workers: 2, keep: options.pins });
      const { peerPins } = gate;
      removePeerPins(
        before.filter((path) => !peerPins.includes(path)),
        place.name,
      );
      // Before it is attached, so that no packet gets around it.
      if (options.next !== undefined) new SlotKeeper(gate).setNext({ pin: options.next });
      daemon = new GateDaemon(options, place, gate, gate.attach(options.mode), journal, warn);
      await daemon.#serve(left);
      return daemon;
    } catch (error) {
      if (daemon !== undefined) await daemon.close();
      else {
        gate?.close();
        journal.close();
      }
      throw error;
    }
  }

  async #serve(left: LeftRules | undefined): Promise<void> {
    if (this.#gate.leftovers.orphans.length > 0) {
      this.#warn(
        `removed ${this.#gate.leftovers.orphans.length} shunts that an earlier gate with other sizes had left on ${this.#options.ifname}`,
      );
    }
    await this.#table.start();
    if (this.#gate.tookOver) this.#warn(`took over a gate with ${this.#table.size} shunts`);
    if (left !== undefined) await this.#takeOverRules(left);
    const { eve } = this.#options;
    if (eve !== undefined)
      this.#eve = await EveKeeper.start(
        eve,
        { vlanKey: this.#options.vlanKey, mode: this.#options.socketMode },
        (request, peer) => this.#perform(request, aloneWith(peer)),
        this.#warn,
      );
    this.#services.start({
      options: this.#options,
      gate: this.#gate,
      place: this.#place,
      rules: this.#rules,
      journal: this.#journal,
      warn: this.#warn,
    });
    this.#saveState();
    const { uid, gid } = this.#options.pins;
    const access = { uid, gid, mode: this.#options.socketMode };
    this.#server = await ControlServer.listen(this.#place.socket, access, (request, conversation) =>
      this.#perform(request, conversation),
    );
    this.#journal.tells(this.#server);
    const { zeek: url } = this.#options;
    if (url !== undefined) {
      const { vlanKey } = this.#options;
      this.#zeek = await ZeekBridge.start({ url, place: this.#place, vlanKey, warn: this.#warn });
    }
    const { watch } = this.#options;
    if (watch !== undefined) this.#every(ALONE_RENEW_MS, () => this.#owners.renewItself(watch.owner));
    this.#every(COUNTERS_MS, () => this.#tellCounters());
    this.#every(CHECK_MS, () => {
      this.#checkInterfaces();
      this.#lookAfterPairs();
      this.#slots.check();
      this.#losses.look();
      this.#lookAfterRules();
      this.#peers
        ?.tick()
        .catch((error: Error) => this.#warn(`other sensors' tables could not be read: ${error.message}`));
    });
    this.#journal.audit.write({ op: this.#gate.tookOver ? 'gate.takeover' : 'gate.up', pid: process.pid });
  }

  #every(ms: number, look: () => void): void {
    this.#timers.push(setInterval(look, ms));
  }

  async #takeOverRules(left: LeftRules): Promise<void> {
    try {
      await this.#rules.takeOver(left);
      this.#warn(`took over ${this.#rules.size} rules`);
    } catch (error) {
      this.#warn(`the rules of the daemon before are not in force: ${(error as Error).message}`);
    }
  }

  #lookAfterRules(): void {
    const work = this.#ruleRequests
      .expire()
      .catch((error: Error) => this.#warn(`rules could not be looked after: ${error.message}`));
    this.#work.begin(work);
  }

  #saveState(): void {
    writeState(this.#place, {
      version: 1,
      interfaces: this.#interfaces.rows(),
      pid: process.pid,
      vlanKey: this.#options.vlanKey,
      logDir: this.#options.logDir,
      ...(this.#gate.peerPins.length === 0 ? {} : { peers: [...this.#gate.peerPins] }),
      owners: this.#owners.settings(),
    });
  }

  #checkInterfaces(): void {
    let gone: string[];
    try {
      gone = this.#interfaces.dropGone();
    } catch (error) {
      this.#end(asSluiceError(error));
      return;
    }
    if (gone.length === 0) return;
    this.#warn(
      `${interfacesText(gone)} has gone; the gate stays on ${interfacesText(this.#interfaces.rows().map((row) => row.interface))}`,
    );
    for (const key of gone) this.#journal.audit.write({ op: 'interface.gone', key });
    this.#saveState();
  }

  #lookAfterPairs(): void {
    if (this.#work.closed) return;
    this.#requests.holds.expire();
    try {
      this.#requests.protectHost();
    } catch (error) {
      this.#warn(`the host's own addresses are not all protected: ${(error as Error).message}`);
    }
    const work = this.#pairs
      .expire((pair, reason) => this.#requests.notePairEnd(pair, reason))
      .catch((error: Error) => this.#warn(`pairs could not be looked after: ${error.message}`));
    this.#work.begin(work);
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
    this.#journal.started(shunt, row);
    // An exception or a hold has come just now.
    const veto = shunt.orig === undefined ? undefined : this.#requests.veto(shunt);
    if (veto !== undefined) void this.#table.end([shunt], veto);
  }

  async #perform(request: Request, conversation: Conversation): Promise<unknown> {
    const { peer } = conversation;
    if (this.#closed) throw new SluiceError('GATE_DOWN', 'the gate is going down');
    switch (request.op) {
      case 'hello':
        return this.#hello(request);
      case 'status':
        return await this.#status();
      case 'losses':
        return this.#losses.table();
      case 'stop':
        mustRule(peer);
        this.#journal.audit.write({ op: 'gate.down', ...peer });
        // The answer goes out before the socket is closed.
        setImmediate(() => this.#end(undefined));
        return {};
      case 'next': {
        mustRule(peer);
        const slots = this.#slots.setNext(request);
        const { uid, pid } = peer;
        this.#journal.audit.write({ op: 'next', uid, pid, key: request.pin ?? 'none' });
        return { slots };
      }
      case 'trace.start':
      case 'trace.read':
      case 'trace.stop':
        mustRule(peer);
        return this.#slots.trace(request);
      case 'resize':
        mustRule(peer);
        return await this.#work.alone(async () => {
          const tables = await this.#resize(request);
          const { uid, pid } = peer;
          this.#journal.audit.write({
            op: 'resize',
            uid,
            pid,
            key: `${tables.flows4.max} ${tables.flows6.max}`,
          });
          return { tables };
        });
      case 'rule.add':
      case 'rule.remove':
      case 'rule.switch':
        mustRule(peer);
        return await this.#amongOthers(request, () => this.#ruleRequests.perform(request, conversation));
      case 'rule.list':
        return await this.#ruleRequests.perform(request, conversation);
      case 'list':
        return await this.#list(request, conversation);
      default:
        return await this.#amongOthers(request, () => this.#requests.perform(request, conversation));
    }
  }

  /** Our own entries, and those of other sensors. */
  async #list(request: Request & { op: 'list' }, conversation: Conversation): Promise<{ entries: number }> {
    const theirs = [...(this.#peers?.rows(request.owner) ?? [])];
    for (let from = 0; from < theirs.length; from += request.page)
      await conversation.page(theirs.slice(from, from + request.page));
    const ours = await this.#amongOthers(request, () => this.#requests.perform(request, conversation));
    return { entries: theirs.length + (ours as { entries: number }).entries };
  }

  /** A request that may run beside others, but not while the tables are exchanged. */
  #amongOthers(request: Request, perform: () => Promise<unknown>): Promise<unknown> {
    // A list goes as fast as its reader reads, and copes with other tables.
    return request.op === 'list' ? this.#work.beside(perform) : this.#work.among(perform);
  }

  #hello({ version }: RequestOf<'hello'>): unknown {
    if (version !== PROTOCOL_VERSION) {
      throw new SluiceError('CONTROL', `the daemon speaks version ${PROTOCOL_VERSION}, not ${version}`, {
        help: 'use a sluice of the same version, or start the gate anew',
      });
    }
    const [{ interface: ifname, ifindex }] = this.#interfaces.rows();
    return { version: PROTOCOL_VERSION, interface: ifname, ifindex, pid: process.pid };
  }

  async #status(): Promise<StatusReport> {
    return await statusReport(this.#gate, this.#table, {
      interfaces: this.#interfaces.present(),
      vlanKey: this.#options.vlanKey,
      daemon: {
        alive: true,
        pid: process.pid,
        socket: this.#place.socket,
        uptime: (performance.now() - this.#began) / 1000,
      },
      owners: this.#owners.rows(),
      holds: await this.#requests.holds.status(),
      control: this.#server?.counts ?? null,
      peers: this.#peers?.status() ?? null,
      eve: this.#eve?.counts ?? null,
      zeek: this.#zeek?.status() ?? null,
      ...this.#services.status(),
    });
  }

  /** No packet comes here any more: whoever follows is told what was counted, and it is in the logs. */
  async #finish(): Promise<void> {
    try {
      await this.#work.settled();
      await this.#table.finish(DOWN);
      for (const pair of await this.#pairs.list()) this.#requests.notePairEnd(pair, DOWN);
      await this.#peers?.finish(DOWN);
    } catch (error) {
      this.#warn(`the last counts could not be read: ${(error as Error).message}`);
    }
  }

  /** Takes everything down: gate, pins, socket. The second time does nothing. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const timer of this.#timers) clearInterval(timer);
    this.#gate.detach();
    await this.#eve?.close();
    await this.#finish();
    await this.#zeek?.close();
    await this.#server?.close();
    await this.#services.close();
    await this.#rules.close();
    removeState(this.#place);
    this.#journal.close();
    this.#leases.close();
    this.#client.close();
    this.#gate.close();
  }
}
