import type { FlowEngine } from '../flow/index.ts';
import type { Side, TunnelRecord } from '../flow/types.ts';
import { type ConnLines, connLines } from '../log/conn-lines.ts';
import type { ConnExtras, ConnLogRecord } from '../log/conn-log.ts';
import { LinkTarget } from '../log/log-link.ts';
import {
  connSchemaOf,
  flowId,
  idsOf,
  lineFormat,
  sslSchemaOf,
  tunnelCompleter,
  tunnelSchemaOf,
} from '../log/log-setup.ts';
import { LogWriter } from '../log/log-writer.ts';
import { type ShuntLogEvent, type ShuntLogRecord, shuntSchema } from '../log/other-logs.ts';
import type { SslLogRecord } from '../log/ssl-log.ts';
import { CommunityIds } from '../packet/community-id.ts';
import type { ShuntTotals } from './episode.ts';
import type { WorkerSetup } from './setup.ts';
import type { ShuntedPart } from './shunter-types.ts';

/** What a line of shunt.log says beside the connection. */
export interface ShuntLine {
  event: ShuntLogEvent;
  trigger: number;
  reason?: string | undefined;
  dropped?: ShuntTotals | undefined;
  delay?: number | undefined;
  last?: number | undefined;
}

/** What all lines about a connection's shunts say. */
type ShuntedAbout = Pick<
  ShuntLogRecord,
  'uid' | 'origHost' | 'origPort' | 'respHost' | 'respPort' | 'proto' | 'communityId'
> & { origSide: Side };

/** The lines that a capture worker writes about its connections. */
export class WorkerLogs {
  readonly tunnel: (record: TunnelRecord) => void;
  readonly #target: LinkTarget;
  readonly #writer: LogWriter;
  readonly #told: ((record: ConnLogRecord) => void) | undefined;
  readonly #idOf: (engine: FlowEngine, slot: number) => string | undefined;
  readonly #line: ConnLines | undefined;
  readonly #conn: (record: ConnLogRecord) => void;
  readonly #ssl: (record: SslLogRecord) => void;
  readonly #shunt: (record: ShuntLogRecord) => void;
  /** Lines of shunt.log always have one: others than us have the records that they belong to. */
  readonly #ids: CommunityIds;
  /** Of connections that have been shunted, until they end: what takes a hash and texts is made once. */
  readonly #shunted = new Map<number, ShuntedAbout>();
  readonly #triggerName: (index: number) => string;

  /** `triggerName`: how logs name the policy with this index. `told`: gets the record of each connection that has ended. */
  constructor(
    setup: WorkerSetup,
    triggerName: (index: number) => string,
    told?: (record: ConnLogRecord) => void,
  ) {
    this.#triggerName = triggerName;
    this.#told = told;
    this.#target = new LinkTarget(setup.log);
    this.#writer = new LogWriter(this.#target, lineFormat(setup.logs));
    this.#idOf = idsOf(setup.logs);
    const columns = { shuntFields: setup.shuntFields, shunts: true };
    this.#line = connLines(this.#writer, setup.logs, columns);
    this.#conn = this.#writer.channel(connSchemaOf(setup.logs, columns));
    this.#ssl = this.#writer.channel(sslSchemaOf(setup.logs));
    this.#shunt = this.#writer.channel(shuntSchema);
    const tunnel = this.#writer.channel(tunnelSchemaOf(setup.logs));
    const complete = tunnelCompleter(setup.logs);
    this.tunnel = (record) => tunnel(complete(record));
    this.#ids = new CommunityIds(setup.logs.communityIdSeed);
  }

  /** A connection that has ended, with what of it was shunted. */
  ended(engine: FlowEngine, slot: number, shunted: ShuntedPart | undefined): void {
    this.#shunted.delete(slot);
    const extras: ConnExtras = {
      communityId: this.#idOf(engine, slot),
      shunted: undefined,
      recovered: undefined,
    };
    if (shunted !== undefined) {
      const { totals, trigger, recovered } = shunted;
      extras.recovered = recovered;
      if (totals.origPkts + totals.respPkts > 0)
        extras.shunted = { ...totals, trigger: this.#triggerName(trigger) };
    }
    const isWritten = this.#line?.(engine, slot, extras) === true;
    const tls = engine.tls(slot);
    if (isWritten && tls === undefined && this.#told === undefined) return;
    const record: ConnLogRecord = Object.assign(engine.record(slot), extras);
    if (!isWritten) this.#conn(record);
    if (tls !== undefined) this.#ssl({ conn: record, tls });
    this.#told?.(record);
  }

  /** Something has happened to the shunt of a connection. */
  shunt(engine: FlowEngine, slot: number, { event, trigger, reason, dropped, delay, last }: ShuntLine): void {
    let about = this.#shunted.get(slot);
    // Originator and responder may have changed places.
    if (about?.origSide !== engine.origSide(slot)) about = this.#about(engine, slot);
    if (event === 'start') this.#shunted.set(slot, about);
    this.#shunt({
      ts: Date.now() / 1000,
      uid: about.uid,
      origHost: about.origHost,
      origPort: about.origPort,
      respHost: about.respHost,
      respPort: about.respPort,
      proto: about.proto,
      event,
      trigger: this.#triggerName(trigger),
      reason,
      origPkts: dropped?.origPkts,
      origBytes: dropped?.origIpBytes,
      respPkts: dropped?.respPkts,
      respBytes: dropped?.respIpBytes,
      delay,
      last,
      communityId: about.communityId,
    });
  }

  #about(engine: FlowEngine, slot: number): ShuntedAbout {
    const { uid, origHost, origPort, respHost, respPort, proto } = engine.record(slot);
    const communityId = flowId(this.#ids, engine, slot);
    return {
      uid,
      origHost,
      origPort,
      respHost,
      respPort,
      proto,
      communityId,
      origSide: engine.origSide(slot),
    };
  }

  /** Lines that the log thread could not take. */
  get lost(): number {
    return this.#target.lost;
  }

  flush(): void {
    this.#writer.flush();
  }

  close(): void {
    this.#target.close();
  }
}
