import { Worker } from 'node:worker_threads';
import type { RunConfig } from '../base/config.ts';
import { ERROR_CODES, type ErrorCode, SluiceError } from '../base/errors.ts';
import type { CommandIo } from '../base/io.ts';
import { checkInterface, checkPrivilege } from '../gate/guard.ts';
import { addLedger, emptyLedger, Gate, type Ledger, type Orphan } from '../gate/index.ts';
import { VERDICTS } from '../gate/layout.ts';
import { type InterfaceInfo, interfaceState } from '../kernel/index.ts';
import { LinkTarget } from '../log/log-link.ts';
import { connSchemaOf, headings, lineFormat, logSettings } from '../log/log-setup.ts';
import { LogThread } from '../log/log-thread.ts';
import { LogWriter } from '../log/log-writer.ts';
import {
  type NoticeRecord,
  noticeSchema,
  type ShuntLogRecord,
  type StatsRecord,
  shuntSchema,
  statsSchema,
} from '../log/other-logs.ts';
import { ipText } from '../packet/address.ts';
import { compilePolicies, parsePolicies } from '../policy/index.ts';
import { type Offloads, settleOffloads } from './offloads.ts';
import { progressText, type RunSummary, summarize, summaryText } from './report.ts';
import {
  END_STEPS,
  type EndStep,
  type FromWorker,
  POLICY_STATS,
  Stat,
  statsBuffer,
  type ToWorker,
  type WorkerSetup,
} from './setup.ts';

const PROGRESS_MS = 500;
const STATS_LOG_SECONDS = 60;
/** A worker that does not end by then is given up: its lease lapses, and the process goes on with the end. */
const STOP_SECONDS = 15;

interface Station {
  info: InterfaceInfo;
  gate: Gate | undefined;
  mode: string;
  /** The kernel says that the interface went down: what it is now is looked up until it is up again. */
  suspect: boolean;
  down: boolean;
  workers: {
    thread: Worker;
    stats: Float64Array;
    reached: Record<EndStep, PromiseWithResolvers<Float64Array>>;
  }[];
}

/** Sums of what the workers count, and the ledger of all gates. */
export interface Snapshot {
  /** CLOCK_MONOTONIC seconds. */
  at: number;
  packets: number;
  bytes: number;
  activeFlows: number;
  connections: number;
  shuntedConnections: number;
  shuntsLive: number;
  shuntsStarted: number;
  refused: number;
  latePackets: number;
  ringPackets: number;
  ringDrops: number;
  logLinesLost: number;
  /** CPU seconds of this process, all threads. */
  cpu: number;
  policies: { name: string; connections: number; pkts: number; bytes: number }[];
  /** Undefined without a gate. */
  ledger: Ledger | undefined;
}

/**
 * The main job on interfaces: gate, capture workers, logs. Ends when the duration is over, `io.stop` fires or the work
 * cannot go on, with everything detached and every record written; then prints the summary on stdout, as text or
 * (`--json`) one document. Resolves to what ended it before its time, which is in the document too.
 */
export async function runSensor(config: RunConfig, io: CommandIo): Promise<SluiceError | undefined> {
  const infos = config.interface.map((name) => checkInterface(name, config.tap));
  checkPrivilege(config.gate);
  const sensor = new Sensor(config, io, infos);
  let summary: RunSummary;
  try {
    await sensor.start();
    await sensor.untilTheEnd();
    summary = await sensor.finish();
  } finally {
    await sensor.close();
  }
  io.out(config.json ? `${JSON.stringify(summary)}\n` : summaryText(summary, io));
  return sensor.failure;
}

/** Verdicts of the ledger in stats.log. */
const LEDGER_COLUMNS: readonly string[] = [
  ...Object.keys(emptyLedger()).filter((name) => name !== 'reasons'),
  ...VERDICTS.filter((verdict) => verdict !== 'aborted' && verdict !== 'shunted'),
];

class Sensor {
  readonly #config: RunConfig;
  readonly #io: CommandIo;
  readonly #infos: readonly InterfaceInfo[];
  readonly #policyNames: string[];
  readonly #stations: Station[] = [];
  readonly #offloads: Offloads[] = [];
  #log: LogThread | undefined;
  #target: LinkTarget | undefined;
  #writer: LogWriter | undefined;
  #logShunt: (record: ShuntLogRecord) => void = () => {};
  #logStatsRecord: (record: StatsRecord) => void = () => {};
  #logNotice: (record: NoticeRecord) => void = () => {};
  #started = 0;
  #failed: SluiceError | undefined;
  #wake: () => void = () => {};

  constructor(config: RunConfig, io: CommandIo, infos: readonly InterfaceInfo[]) {
    this.#config = config;
    this.#io = io;
    this.#infos = infos;
    const policies = compilePolicies(parsePolicies(config.policy));
    this.#policyNames = policies.policies.map((p) => p.kind);
  }

  async start(): Promise<void> {
    const { logDir, logRotateSize, logRotateTime, shuntFields } = this.#config;
    const zeek = headings(
      this.#config,
      connSchemaOf(this.#config, { shuntFields, shunts: true }),
      LEDGER_COLUMNS,
    );
    this.#log = await LogThread.start(
      {
        dir: logDir,
        rotateSize: logRotateSize,
        rotateTime: logRotateTime,
        ...(zeek === undefined ? {} : { zeek }),
      },
      (problem) =>
        this.#io.warn(
          problem === undefined
            ? 'the logs are being written again'
            : `the logs cannot be written: ${problem}`,
        ),
    );
    this.#target = new LinkTarget(this.#log.link());
    this.#writer = new LogWriter(this.#target, lineFormat(this.#config));
    this.#logShunt = this.#writer.channel(shuntSchema);
    this.#logStatsRecord = this.#writer.channel(statsSchema(LEDGER_COLUMNS));
    this.#logNotice = this.#writer.channel(noticeSchema);
    for (const torn of this.#log.torn)
      this.#notice('Sluice::Torn_Line', `cut ${torn.bytes} bytes of an unfinished line off ${torn.path}`);
    for (const info of this.#infos) {
      const station: Station = {
        info,
        gate: undefined,
        mode: 'none',
        suspect: false,
        down: false,
        workers: [],
      };
      this.#stations.push(station);
      this.#settle(info);
      if (this.#config.gate) station.gate = this.#openGate(info);
      await this.#startWorkers(station);
      // Attached last: from the first packet that the gate judges there is someone to see what passes.
      if (station.gate !== undefined) {
        const { mode, warning } = station.gate.attach(this.#config.mode);
        station.mode = mode;
        if (warning !== undefined) this.#io.warn(warning);
      }
      this.#io.detail(`${info.name}: ${this.#config.workers} worker(s), gate ${station.mode}`);
    }
    this.#started = performance.now() / 1000;
    this.#io.say('ready');
    // For whoever has started this process with a channel (the lab): the same, not to be read from talk.
    process.send?.('ready');
  }

  /** Merged frames would be counted as one by the sensor and as several by the gate. */
  #settle(info: InterfaceInfo): void {
    const offloads = settleOffloads(info.name, this.#config.vlanKey);
    this.#offloads.push(offloads);
    if (offloads.changed.length > 0)
      this.#io.say(`${info.name}: switched off for this run: ${offloads.changed.join(', ')}`);
    if (offloads.problem !== undefined) this.#notice('Sluice::Offloads', offloads.problem);
  }

  #openGate(info: InterfaceInfo): Gate {
    const gate = Gate.open({
      ifname: info.name,
      ifindex: info.index,
      maxShunts4: this.#config.maxShunts4,
      maxShunts6: this.#config.maxShunts6,
      vlanKey: this.#config.vlanKey,
      workers: this.#config.workers,
    });
    if (gate.orphans.length > 0) {
      for (const orphan of gate.orphans) this.#logShunt(orphanRecord(orphan));
      this.#notice(
        'Sluice::Orphans',
        `removed ${gate.orphans.length} shunts that an earlier run had left on ${info.name}`,
      );
    }
    return gate;
  }

  async #startWorkers(station: Station): Promise<void> {
    const c = this.#config;
    for (let number = 0; number < c.workers; number++) {
      const stats = statsBuffer(this.#policyNames.length);
      const log = this.#log?.link();
      if (log === undefined) throw new SluiceError('CLOSED', 'the log thread has ended');
      const setup: WorkerSetup = {
        ifname: station.info.name,
        ifindex: station.info.index,
        ringBytes: c.ringBytes,
        ringBlock: c.ringBlock,
        retireMs: Math.max(1, Math.round(c.retire * 1000)),
        // Fanout ids are per namespace: the interface makes them differ, the process makes two runs differ.
        fanoutId: c.workers > 1 ? (process.pid * 31 + station.info.index) & 0xffff : undefined,
        gate: station.gate?.handles(number),
        leaseSeconds: c.lease,
        shuntIdleSeconds: c.shuntIdle,
        policies: c.policy,
        checksums: c.checksums,
        bare: c.bare,
        vlanKey: c.vlanKey,
        tunnelKey: c.tunnelKey,
        localNets: c.localNets,
        maxFlows: c.maxFlows,
        timeouts: {
          tcp: c.timeoutTcp,
          attempt: c.timeoutTcpAttempt,
          udp: c.timeoutUdp,
          icmp: c.timeoutIcmp,
          other: c.timeoutIcmp,
        },
        shuntFields: c.shuntFields,
        logs: logSettings(c),
        log,
        stats,
      };
      const body = new URL(import.meta.url.endsWith('.ts') ? './worker.ts' : './worker.js', import.meta.url);
      const thread = new Worker(body, {
        name: `sluice-${station.info.name}-${number}`,
        workerData: setup,
        transferList: [log.port],
      });
      await this.#follow(thread, station, new Float64Array(stats));
    }
  }

  /** Waits for `ready`, and afterwards for whatever the worker has to say. */
  #follow(thread: Worker, station: Station, stats: Float64Array): Promise<void> {
    const reached = { settle: step(), deafen: step(), stop: step() };
    station.workers.push({ thread, stats, reached });
    return new Promise((resolve, reject) => {
      const failed = (error: SluiceError): void => {
        for (const one of Object.values(reached)) one.resolve(new Float64Array(0));
        reject(error);
        this.#fail(error);
      };
      thread.on('message', (message: FromWorker) => {
        if (message.kind === 'ready') resolve();
        else if (message.kind === 'link') {
          station.suspect = true;
          this.#checkLink(station);
        } else if (message.kind === 'reached') reached[message.step].resolve(message.delays);
        else failed(fromWorker(message));
      });
      thread.on('error', (cause) =>
        failed(new SluiceError('INTERNAL', 'a capture worker has failed', { cause })),
      );
      thread.on('exit', () => failed(new SluiceError('INTERNAL', 'a capture worker has ended')));
    });
  }

  async untilTheEnd(): Promise<void> {
    const { stop } = this.#io;
    const { duration } = this.#config;
    const first = this.snapshot();
    let last = first;
    let nextStats = first.at + STATS_LOG_SECONDS;
    const timer = setInterval(() => {
      for (const station of this.#stations) this.#checkLink(station);
      const now = this.snapshot();
      this.#io.progress(progressText(now, last, first, this.#io));
      last = now;
      if (now.at < nextStats) return;
      nextStats = now.at + STATS_LOG_SECONDS;
      this.#logStats();
    }, PROGRESS_MS);
    await new Promise<void>((resolve) => {
      this.#wake = resolve;
      if (stop.aborted || this.#failed !== undefined) resolve();
      stop.addEventListener('abort', () => resolve(), { once: true });
      if (duration !== undefined) setTimeout(resolve, duration * 1000).unref();
    });
    clearInterval(timer);
    this.#io.progressDone();
  }

  /** What ended the run before its time. */
  get failure(): SluiceError | undefined {
    return this.#failed;
  }

  #fail(error: SluiceError): void {
    this.#failed ??= error;
    this.#wake();
  }

  #checkLink(station: Station): void {
    if (!station.suspect || this.#failed !== undefined) return;
    const { index, name } = station.info;
    const state = interfaceState(index);
    if (state === undefined) {
      const error = new SluiceError('INTERFACE_GONE', `the interface ${name} has gone`, {
        help: 'what was captured is in the logs; start again when it is back',
      });
      this.#notice('Sluice::Interface_Gone', error.message);
      this.#fail(error);
      return;
    }
    if (station.down !== (state === 'down')) {
      station.down = state === 'down';
      this.#notice(
        station.down ? 'Sluice::Interface_Down' : 'Sluice::Interface_Up',
        `${name} is ${station.down ? 'down: nothing is captured until it is up' : 'up again'}`,
      );
    }
    station.suspect = station.down;
  }

  snapshot(): Snapshot {
    const usage = process.cpuUsage();
    const sum = (place: number): number => {
      let total = 0;
      for (const { workers } of this.#stations) for (const { stats } of workers) total += stats[place];
      return total;
    };
    let ledger: Ledger | undefined;
    for (const { gate } of this.#stations) {
      if (gate === undefined) continue;
      ledger ??= emptyLedger();
      addLedger(ledger, gate.ledger());
    }
    return {
      at: performance.now() / 1000,
      packets: sum(Stat.packets),
      bytes: sum(Stat.bytes),
      activeFlows: sum(Stat.activeFlows),
      connections: sum(Stat.connections),
      shuntedConnections: sum(Stat.shuntedConnections),
      shuntsLive: sum(Stat.shuntsLive),
      shuntsStarted: sum(Stat.shuntsStarted),
      refused: sum(Stat.refused),
      latePackets: sum(Stat.latePackets),
      ringPackets: sum(Stat.ringPackets),
      ringDrops: sum(Stat.ringDrops),
      logLinesLost: sum(Stat.logLinesLost),
      cpu: (usage.user + usage.system) / 1e6,
      policies: this.#policyNames.map((name, i) => ({
        name,
        connections: sum(Stat.policies + i * POLICY_STATS),
        pkts: sum(Stat.policies + i * POLICY_STATS + 1),
        bytes: sum(Stat.policies + i * POLICY_STATS + 2),
      })),
      ledger,
    };
  }

  #logStats(): void {
    const s = this.snapshot();
    const { reasons, ...verdicts } = s.ledger ?? { ...emptyLedger() };
    this.#logStatsRecord({
      ts: Date.now() / 1000,
      peer: this.#infos.map((i) => i.name).join(','),
      mem: Math.round(process.memoryUsage.rss() / 2 ** 20),
      pktsProc: s.packets,
      bytesRecv: s.bytes,
      pktsDropped: s.ringDrops,
      pktsLink: s.ledger?.seen.pkts,
      activeConns: s.activeFlows,
      conns: s.connections,
      shunts: s.shuntsLive,
      logLost: s.logLinesLost,
      ledger: s.ledger === undefined ? undefined : { ...verdicts, ...reasons },
    });
    this.#writer?.flush();
  }

  #notice(note: string, msg: string): void {
    this.#io.warn(msg);
    this.#logNotice({ ts: Date.now() / 1000, note, msg });
    this.#writer?.flush();
  }

  /** Stops the workers, detaches, and sums up. */
  async finish(): Promise<RunSummary> {
    const delays: number[] = [];
    const workers = this.#stations.flatMap((station) => station.workers);
    for (const kind of END_STEPS) {
      for (const { thread } of workers) {
        thread.removeAllListeners('exit');
        thread.postMessage({ kind } satisfies ToWorker);
      }
      for (const { reached } of workers) {
        for (const delay of await within(reached[kind].promise, STOP_SECONDS)) delays.push(delay);
      }
      // Nothing is shunted any more: from here on there is nothing to judge.
      if (kind === 'settle') for (const { gate } of this.#stations) gate?.detach();
    }
    const end = this.snapshot();
    if (end.latePackets > 0)
      this.#notice('Sluice::Late', `${end.latePackets} packets were counted after their record`);
    this.#logStats();
    const summary = summarize(
      end,
      end.at - this.#started,
      delays,
      this.#stations.map(({ info, mode }) => ({ interface: info.name, mode })),
      this.#config.logDir,
    );
    if (this.#failed === undefined) return summary;
    const { code, message, help } = this.#failed;
    return { ...summary, error: { code, message, ...(help === undefined ? {} : { help }) } };
  }

  /** Lets go of everything, in whatever state it is; the second time does nothing. */
  async close(): Promise<void> {
    for (const station of this.#stations) {
      for (const { thread } of station.workers) {
        thread.removeAllListeners();
        await thread.terminate();
      }
      station.workers = [];
      station.gate?.close();
    }
    for (const offloads of this.#offloads.splice(0)) offloads.restore();
    this.#writer?.flush();
    this.#target?.close();
    await this.#log?.close();
    this.#log = undefined;
  }
}

const step = (): PromiseWithResolvers<Float64Array> => Promise.withResolvers<Float64Array>();

async function within(promise: Promise<Float64Array>, seconds: number): Promise<Float64Array> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<Float64Array>((resolve) => {
    timer = setTimeout(() => resolve(new Float64Array(0)), seconds * 1000);
  });
  try {
    return await Promise.race([promise, timeout]);
  } finally {
    clearTimeout(timer);
  }
}

function fromWorker(message: FromWorker & { kind: 'failed' }): SluiceError {
  const code: ErrorCode = message.code in ERROR_CODES ? (message.code as ErrorCode) : 'INTERNAL';
  return new SluiceError(code, message.message, message.help === undefined ? {} : { help: message.help });
}

const PROTOCOLS: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'icmp' };

/** Whose it was is not known any more: the endpoints stand in the order of the key. */
function orphanRecord(orphan: Orphan): ShuntLogRecord {
  const { family, key } = orphan;
  const view = new DataView(key.buffer, key.byteOffset, key.byteLength);
  const size = family === 4 ? 4 : 16;
  const word = view.getUint32(size * 2 + 4, true);
  return {
    ts: Date.now() / 1000,
    uid: undefined,
    origHost: ipText(key, 0, size),
    origPort: view.getUint16(size * 2),
    respHost: ipText(key, size, size),
    respPort: view.getUint16(size * 2 + 2),
    proto: PROTOCOLS[word & 0xff] ?? 'unknown_transport',
    event: 'orphaned',
    trigger: undefined,
    reason: 'owner gone',
    origPkts: orphan.pkts,
    origBytes: orphan.ipBytes,
  };
}
