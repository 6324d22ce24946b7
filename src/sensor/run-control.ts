import { mkdirSync } from 'node:fs';
import { accountNumber } from '../base/accounts.ts';
import type { RunConfig } from '../base/config.ts';
import { SluiceError } from '../base/errors.ts';
import { systemText } from '../base/file-error.ts';
import { natsAccess } from '../fleet/nats-access.ts';
import { GateClient } from '../gate/client.ts';
import { type Place, placeOf } from '../gate/control-places.ts';
import {
  type InterfaceRow,
  PROTOCOL_VERSION,
  type Request,
  type ShuntRow,
  type StatusReport,
} from '../gate/control-protocol.ts';
import { ControlServer, type Conversation, mustRule } from '../gate/control-server.ts';
import { type AuditLine, AuditLog } from '../gate/daemon-audit.ts';
import type { FleetOptions } from '../gate/daemon-fleet.ts';
import type { MitigationOptions } from '../gate/daemon-mitigation.ts';
import { PairKeeper } from '../gate/daemon-pairs.ts';
import { DaemonRequests, keyOf } from '../gate/daemon-requests.ts';
import { SamplesKeeper } from '../gate/daemon-samples.ts';
import type { Shunt } from '../gate/daemon-shunt.ts';
import { SlotKeeper } from '../gate/daemon-slots.ts';
import { removeState, writeState } from '../gate/daemon-state.ts';
import { Exceptions, pairTest } from '../gate/exceptions.ts';
import { type FlowKey, flowKey } from '../gate/flow-key.ts';
import type { Gate } from '../gate/index.ts';
import { LAYOUT_VERSION } from '../gate/layout.ts';
import type { LossTable } from '../gate/losses/index.ts';
import { Owners } from '../gate/owners.ts';
import { Pairs, PrefixPairs } from '../gate/pairs.ts';
import { NOTE_BYTES } from '../gate/side.ts';
import { BpfMap } from '../kernel/index.ts';
import type { ShuntLogRecord } from '../log/other-logs.ts';
import { CommunityIds } from '../packet/community-id.ts';
import type { OrderNews, Orders } from './client-orders.ts';
import { Order } from './client-orders.ts';
import { directShuntRecord } from './direct-shunts.ts';
import { DrivenTable } from './driven-table.ts';
import { LiveGate } from './live-gate.ts';
import { isUsable, readNote } from './notes.ts';
import { RunRules } from './run-rules.ts';

/** Slots of the leases behind those of the workers: pairs of policies, and the control socket itself. */
export const SLOTS_BESIDE_WORKERS = 2;
const CHECK_MS = 1000;
const COUNTERS_MS = 100;

export interface RunControlParts {
  gate: Gate;
  config: RunConfig;
  /** How the gate is attached, and why not better. */
  mode: string;
  /** Entries are to wait for thresholds. */
  thresholds(): void;
  order(orders: Orders): Promise<number[][]>;
  /** Ends the pairs of policies over these flows; for each whether there was one. */
  releasePairs(keys: readonly Uint8Array[]): Promise<boolean[]>;
  /** The ledger of losses of the run. */
  losses(): LossTable;
  /** Shunts of policies that are live. */
  live(): number;
  /** Attacks are to be held back. */
  mitigation: MitigationOptions | undefined;
  /** Signed rules are to be in force. */
  fleet: FleetOptions | undefined;
  logShunt(record: ShuntLogRecord): void;
  notice(note: string, message: string): void;
  warn(line: string): void;
}

/**
 * The control socket of a gate that the sensor drives: the same requests, the same access and limits as with a daemon. What
 * rules the gate itself (stop, sizes, rules, a program behind it) is not for clients here: `sluice run` decides it.
 */
export class RunControl {
  readonly #parts: RunControlParts;
  readonly #place: Place;
  readonly #client: GateClient;
  readonly #leases: BpfMap;
  readonly #owners: Owners;
  readonly #table: DrivenTable;
  readonly #pairs: PairKeeper;
  readonly #slots: SlotKeeper;
  readonly #requests: DaemonRequests;
  readonly #ids: CommunityIds;
  readonly #began = performance.now();
  readonly #timers: NodeJS.Timeout[] = [];
  readonly #note = new Uint8Array(NOTE_BYTES);
  /** For whoever shows this gate. */
  readonly live: LiveGate;
  #audit: AuditLog | undefined;
  #server: ControlServer | undefined;
  #rules: RunRules | undefined;
  #samples: SamplesKeeper | undefined;
  #watched = false;

  private constructor(parts: RunControlParts) {
    this.#parts = parts;
    const { gate, config } = parts;
    this.#place = placeOf(gate.ifindex, gate.ifname);
    const number = config.workers + SLOTS_BESIDE_WORKERS - 1;
    const handles = gate.handles(number);
    this.#client = new GateClient(handles, 0);
    this.#leases = BpfMap.adopt(handles.leases);
    this.#ids = new CommunityIds(config.communityIdSeed);
    this.#owners = new Owners(this.#leases.mmap(true), [], handles.owner + 1);
    this.#slots = new SlotKeeper(gate);
    const audit = { write: (line: AuditLine): void => this.#writeAudit(line) };
    this.#table = new DrivenTable({
      client: this.#client,
      owners: this.#owners,
      events: {
        started: (shunt, row) => this.#started(shunt, row),
        ended: (shunt, reason, row) => this.#ended(shunt, reason, row),
        failed: (error) => parts.warn(`shunts of clients could not be looked after: ${error.message}`),
      },
      order: (orders) => parts.order(orders),
      triggerOf: (family, key) => this.#triggerOf(family, key),
    });
    const exceptions = new Exceptions(gate.table('exceptions'));
    const grace = (): Promise<void> => this.#client.grace();
    this.#pairs = new PairKeeper(
      new Pairs(gate.table('pairs'), this.#client.ops, grace),
      new PrefixPairs(gate.table('prefixes'), this.#client.ops, grace),
      exceptions,
      this.#owners,
      (features) => gate.enable(features),
    );
    this.#requests = new DaemonRequests({
      vlanKey: config.vlanKey,
      tunnelKey: config.tunnelKey,
      table: this.#table,
      owners: this.#owners,
      pairs: this.#pairs,
      exceptions,
      audit,
      save: () => this.#saveState(),
      thresholds: () => this.#parts.thresholds(),
      listener: {
        held: (keys) => this.#hold(keys),
        free: async (keys) => {
          await this.#parts.order({ free: keys.map(refOf) });
        },
      },
    });
    this.live = new LiveGate({
      place: this.#place,
      client: this.#client,
      perform: (request, conversation) => this.#perform(request, conversation),
      order: (orders) => parts.order(orders),
      rowOf: (key) => this.#rowOf(key),
      mitigates: parts.mitigation !== undefined,
      keys: { vlan: config.vlanKey, tunnel: config.tunnelKey },
      hasRules: hasRules(parts),
      fleet: () => this.#rules?.fleet() ?? null,
    });
  }

  #rowOf(key: Uint8Array): ShuntRow | undefined {
    const shunt = this.#table.find(key);
    return shunt === undefined || shunt.reason !== undefined ? undefined : this.#table.row(shunt);
  }

  /** Begins to listen. @throws SluiceError FILE */
  static async start(parts: RunControlParts): Promise<RunControl> {
    const control = new RunControl(parts);
    try {
      await control.#serve();
      return control;
    } catch (error) {
      await control.close();
      throw error;
    }
  }

  async #serve(): Promise<void> {
    await this.#table.start();
    this.#saveState();
    const { gate, config, mitigation, fleet } = this.#parts;
    if (hasRules(this.#parts))
      this.#rules = await RunRules.start({
        gate,
        place: this.#place,
        config,
        mitigation,
        fleet,
        audit: { write: (line) => this.#writeAudit(line) },
        grace: () => this.#client.grace(),
        notice: (note, message) => this.#parts.notice(note, message),
        warn: (line) => this.#parts.warn(line),
      });
    if (config.samplesTo !== undefined)
      this.#samples = new SamplesKeeper(
        { to: config.samplesTo, nats: natsAccess(config), budget: config.sampleBudget },
        gate,
        (line) => this.#parts.warn(line),
      );
    const { controlGroup } = config;
    const access = {
      uid: process.getuid?.() ?? 0,
      gid: controlGroup === undefined ? (process.getgid?.() ?? 0) : accountNumber('group', controlGroup),
      mode: controlGroup === undefined ? 0o600 : 0o660,
    };
    this.#server = await ControlServer.listen(this.#place.socket, access, (request, conversation) =>
      this.#perform(request, conversation),
    );
    this.#timers.push(setInterval(() => this.#tellCounters(), COUNTERS_MS));
    this.#timers.push(setInterval(() => this.#lookAfter(), CHECK_MS));
  }

  #lookAfter(): void {
    const warn = (line: string): void => this.#parts.warn(line);
    try {
      this.#requests.protectHost();
      this.#requests.holds.expire();
      this.#slots.check();
    } catch (error) {
      warn(`the control socket: ${(error as Error).message}`);
    }
    this.#pairs
      .expire((pair, reason) => this.#requests.notePairEnd(pair, reason))
      .catch((error: Error) => warn(`pairs could not be looked after: ${error.message}`));
    this.#rules?.lookAfter();
    this.#followWatchers();
  }

  /** Workers tell of the shunts of policies while somebody wants to hear of them. */
  #followWatchers(): void {
    const watched = this.#server?.watched === true;
    if (watched === this.#watched) return;
    this.#watched = watched;
    this.#order({ watch: watched });
  }

  /** What nobody waits for. */
  #order(orders: Orders): void {
    this.#parts.order(orders).catch((error: Error) => this.#parts.warn(error.message));
  }

  async #hold(keys: readonly FlowKey[]): Promise<boolean[]> {
    const answers = await this.#parts.order({ hold: keys.map(refOf) });
    const paired = await this.#parts.releasePairs(keys.map(({ bytes }) => bytes));
    return keys.map((_, i) => (paired[i] ?? false) || answers.some((each) => each[i] === Order.done));
  }

  /** Whether somebody needs a flow between these addresses; `wanted`: it counts as kept from being shunted. */
  isHeld(a: string, b: string, wanted: boolean): boolean {
    const { holds } = this.#requests.holds;
    if (holds.size === 0) return false;
    const covers = pairTest(a, b);
    const flow = holds.find(({ bytes }) => covers(bytes));
    if (flow !== undefined && wanted) holds.keep(flowKey(flow).bytes);
    return flow !== undefined;
  }

  /** What the workers tell of. */
  news({ told, lost, kept }: OrderNews): void {
    for (const shunt of told) this.#table.told(shunt);
    for (const { key, times } of kept) this.#requests.holds.holds.keep(key, times);
    if (lost > 0) this.#server?.lost(lost);
  }

  #triggerOf(family: 4 | 6, key: Uint8Array): string {
    if (!this.#client.notes.read(family, key, this.#note) || !isUsable(family, key, this.#note)) return '';
    return readNote(this.#note).trigger;
  }

  #started(shunt: Shunt, row: () => ShuntRow): void {
    if (this.#server?.watched === true)
      this.#server.tell({ event: 'start', ts: shunt.since ?? Date.now() / 1000, shunt: row() });
    if (this.#isDirect(shunt)) this.#parts.logShunt(directShuntRecord(row(), 'start', undefined, this.#ids));
  }

  #ended(shunt: Shunt, reason: string, row: ShuntRow): void {
    if (this.#owners.isClient(shunt.slot))
      this.#writeAudit({
        op: 'end',
        owner: row.owner === '' ? undefined : row.owner,
        key: keyOf(shunt),
        trigger: shunt.trigger,
        reason,
        pkts: row.ab.pkts + row.ba.pkts,
        ipBytes: row.ab.ipBytes + row.ba.ipBytes,
      });
    this.#server?.tell({ event: 'end', ts: Date.now() / 1000, reason, shunt: row });
    if (this.#isDirect(shunt)) this.#parts.logShunt(directShuntRecord(row, 'end', reason, this.#ids));
  }

  /** No worker knows the connection, and none tells of it in shunt.log. */
  #isDirect(shunt: Shunt): boolean {
    return this.#table.isDirect(shunt);
  }

  #writeAudit(line: AuditLine): void {
    const { logDir } = this.#parts.config;
    if (this.#audit === undefined) {
      try {
        mkdirSync(logDir, { recursive: true });
        this.#audit = new AuditLog(logDir, (text) => this.#parts.warn(text));
      } catch (error) {
        this.#parts.warn(`audit.log cannot be written: ${systemText(error)}`);
        return;
      }
    }
    this.#audit.write(line);
  }

  #saveState(): void {
    const { vlanKey, logDir } = this.#parts.config;
    writeState(this.#place, {
      version: 1,
      interfaces: this.#interfaces(),
      pid: process.pid,
      driven: true,
      vlanKey,
      logDir,
      owners: [],
    });
  }

  #interfaces(): InterfaceRow[] {
    const { gate, mode } = this.#parts;
    return [{ interface: gate.ifname, ifindex: gate.ifindex, mode, modeReason: null }];
  }

  #tellCounters(): void {
    this.#server?.tellCounters(() => {
      const { seen, passed, shunted } = this.#parts.gate.ledger();
      const shunts = this.#parts.live() + this.#table.direct;
      return { event: 'counters', ts: Date.now() / 1000, shunts, ledger: { seen, passed, shunted } };
    });
  }

  async #perform(request: Request, conversation: Conversation): Promise<unknown> {
    switch (request.op) {
      case 'hello': {
        if (request.version !== PROTOCOL_VERSION)
          throw new SluiceError(
            'CONTROL',
            `this run speaks version ${PROTOCOL_VERSION}, not ${request.version}`,
            { help: 'use a sluice of the same version, or start the run anew' },
          );
        const { ifname, ifindex } = this.#parts.gate;
        return { version: PROTOCOL_VERSION, interface: ifname, ifindex, pid: process.pid };
      }
      case 'status':
        return await this.#status();
      case 'losses':
        return this.#parts.losses();
      case 'trace.start':
      case 'trace.read':
      case 'trace.stop':
        mustRule(conversation.peer);
        return this.#slots.trace(request);
      case 'rule.add':
      case 'rule.remove':
      case 'rule.switch':
      case 'rule.list':
        if (this.#rules === undefined)
          throw new SluiceError('REFUSED', 'this run has no rules', {
            help: '`sluice run` with --mitigate, --mitigate-dry-run or --rules-from has them, and `sluice gate up`',
          });
        if (request.op !== 'rule.list') mustRule(conversation.peer);
        return await this.#rules.perform(request, conversation);
      case 'stop':
      case 'next':
      case 'resize':
        throw new SluiceError('REFUSED', `this gate is driven by \`sluice run\` (process ${process.pid})`, {
          help: 'its configuration says what it is: stop that process to take the gate down',
        });
      case 'exception.add':
      case 'exception.remove': {
        const result = await this.#requests.perform(request, conversation);
        await this.#tellExceptions();
        return result;
      }
      case 'watch': {
        const result = await this.#requests.perform(request, conversation);
        this.#followWatchers();
        return result;
      }
      default:
        return await this.#requests.perform(request, conversation);
    }
  }

  /** Workers ask before they shunt; the kernel only where a pair would drop. */
  async #tellExceptions(): Promise<void> {
    await this.#parts.order({ exceptions: this.#requests.exceptionList() });
  }

  async #status(): Promise<StatusReport> {
    const { gate, config } = this.#parts;
    const rows = this.#interfaces();
    const { reasons, ...counts } = gate.ledger();
    const max = (name: string): number => gate.table(name).maxEntries;
    return {
      ...rows[0],
      interfaces: rows,
      programId: gate.program.id,
      layout: LAYOUT_VERSION,
      vlanKey: config.vlanKey,
      features: gate.features,
      daemon: {
        alive: true,
        driven: true,
        pid: process.pid,
        socket: this.#place.socket,
        uptime: (performance.now() - this.#began) / 1000,
      },
      ...counts,
      ...gate.sampled(),
      reasons,
      tables: {
        flows4: { entries: await this.#client.sweep(4, () => {}), max: max('flows4') },
        flows6: { entries: await this.#client.sweep(6, () => {}), max: max('flows6') },
      },
      owners: this.#owners.rows(),
      holds: await this.#requests.holds.status(),
      control: this.#server?.counts ?? null,
      peers: null,
      zeek: null,
      watch: null,
      samples: this.#samples?.status() ?? null,
      fleet: this.#rules?.fleet() ?? null,
      eve: null,
      steering: gate.steering() ?? null,
      slots: gate.slots(),
      pins: gate.pins,
    };
  }

  /** Clients are let go, and what they have had made directly ends. The second time does nothing. */
  async close(): Promise<void> {
    for (const timer of this.#timers.splice(0)) clearInterval(timer);
    const server = this.#server;
    this.#server = undefined;
    await server?.close();
    await this.#rules?.close();
    this.#rules = undefined;
    await this.#samples?.close();
    this.#samples = undefined;
    await this.#table.stop();
    removeState(this.#place);
    this.#audit?.close();
    this.#leases.close();
    this.#client.close();
  }
}

/** Whether there are to be rules. */
const hasRules = ({ mitigation, fleet }: RunControlParts): boolean =>
  mitigation !== undefined || fleet !== undefined;

function refOf({ family, bytes }: FlowKey): { family: 4 | 6; key: Uint8Array } {
  return { family, key: bytes };
}
