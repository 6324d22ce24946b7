import type { RunConfig } from '../base/config.ts';
import { changedKeys } from '../base/config-resolve.ts';
import { asSluiceError, SluiceError } from '../base/errors.ts';
import type { CommandIo } from '../base/io.ts';
import { parseUdpUrl } from '../capture/udp-url.ts';
import { natsAccess } from '../fleet/nats-access.ts';
import { natsPlace } from '../fleet/nats-place.ts';
import { chooseKind } from '../gate/choose.ts';
import { fleetOptions } from '../gate/fleet-options.ts';
import { checkInterface, checkPrivilege } from '../gate/guard.ts';
import { checkKernel } from '../gate/kernel-check.ts';
import { type InterfaceInfo, ServiceManager } from '../kernel/index.ts';
import { LinkTarget } from '../log/log-link.ts';
import { connSchemaOf, headings, lineFormat } from '../log/log-setup.ts';
import { LogThread } from '../log/log-thread.ts';
import { LogWriter } from '../log/log-writer.ts';
import {
  type CaptureLossRecord,
  captureLossSchema,
  type NoticeRecord,
  noticeSchema,
  type ShuntLogRecord,
  type StatsColumns,
  type StatsRecord,
  shuntSchema,
  statsSchema,
} from '../log/other-logs.ts';
import { parseSink } from '../log/sinks/index.ts';
import type { LogTotals } from '../log/target.ts';
import { FlowDetection } from './flow-detection.ts';
import { HealthPort, isHealthy } from './health.ts';
import { InterfaceStation } from './interface-station.ts';
import { type LiveRun, type Onlooker, sourceView } from './live.ts';
import { LossKeeper, type LossReport } from './losses/index.ts';
import { keepAwake } from './low-latency.ts';
import { MirrorGate } from './mirror-gate.ts';
import { type PlacedPlan, PolicyBook, usesThresholds } from './policy-book.ts';
import { progressText, type RunSummary, summarize, summaryText } from './report.ts';
import { mitigationOf } from './run-rules.ts';
import { END_STEPS } from './setup.ts';
import { type Snapshot, takeSnapshot } from './snapshot.ts';
import type { Station, StationHost } from './station.ts';
import { OneWayWatches, statsColumns, statsOfAll, statsOfWorkers } from './stats.ts';
import { RunTallies } from './tallies.ts';
import { UdpStation } from './udp-station.ts';

const PROGRESS_MS = 500;
const STATS_LOG_SECONDS = 60;
/** Reads the configuration and the policies anew, as Suricata its rules. */
const RELOAD = 'SIGUSR2';
/** What of the configuration is in force from a reload on. */
const RELOADED: ReadonlySet<string> = new Set(['policy', 'policy-file', 'geo']);

/**
 * The main job on interfaces and on mirrors over UDP: gate, capture workers, logs. Ends when the duration is over, `io.stop` fires or the work
 * cannot go on, with everything detached and every record written; then prints the summary on stdout, as text or
 * (`--json`) one document. Resolves to what ended it before its time, which is in the document too.
 */
export async function runSensor(
  config: RunConfig,
  io: CommandIo,
  onlooker?: Onlooker,
  again: () => RunConfig = () => config,
): Promise<SluiceError | undefined> {
  const infos = config.interface.map((name) => checkInterface(name, config.tap));
  // Mirrors that arrive over UDP need neither.
  if (infos.length > 0) {
    const gate = config.gate ? chooseKind(config).kind : 'none';
    checkPrivilege(gate);
    checkKernel(gate);
  }
  if (config.mirrorGate !== undefined) {
    checkPrivilege('xdp');
    checkKernel('xdp');
  }
  checkSources(config.source);
  // What is wrong with it is said before anything is begun.
  mitigationOf(config, process.env);
  const nats = natsAccess(config);
  if (config.samplesTo !== undefined) natsPlace(config.samplesTo, nats);
  for (const name of config.interface) fleetOptions(config, name, config.interface.length);
  using awake = config.lowLatency ? keepAwake() : undefined;
  if (awake !== undefined) io.detail(`processors wake within ${awake.microseconds} µs`);
  const sensor = new Sensor(config, io, infos, again);
  let summary: RunSummary;
  try {
    await sensor.start(onlooker);
    await sensor.untilTheEnd();
    summary = await sensor.finish();
  } finally {
    await sensor.close();
  }
  // What waited for the logs until then has got there, or has not.
  summary = { ...summary, losses: sensor.losses };
  io.out(config.json ? `${JSON.stringify(summary)}\n` : summaryText(summary, io));
  return sensor.failure;
}

/** Errors: USAGE. */
function checkSources(sources: readonly string[]): void {
  const ports = new Map<string, string>();
  for (const source of sources) {
    const { address, port } = parseUdpUrl(source);
    const other = ports.get(`${address} ${port}`);
    if (other !== undefined)
      throw new SluiceError('USAGE', `'${other}' and '${source}' listen on the same port of one address`, {
        help: 'give each mirror a port of its own; several workers share one by --workers',
      });
    ports.set(`${address} ${port}`, source);
  }
}

class Sensor {
  readonly #config: RunConfig;
  /** The configuration as it is now: its file may have changed. */
  readonly #again: () => RunConfig;
  readonly #io: CommandIo;
  readonly #infos: readonly InterfaceInfo[];
  readonly #book = new PolicyBook();
  readonly #tallies = new RunTallies();
  #loading = Promise.resolve();
  readonly #manager = ServiceManager.from(process.env);
  #progress = '';
  readonly #columns: StatsColumns;
  readonly #stations: Station[] = [];
  #log: LogThread | undefined;
  #target: LinkTarget | undefined;
  #writer: LogWriter | undefined;
  #logShunt: (record: ShuntLogRecord) => void = () => {};
  #logStatsRecord: (record: StatsRecord) => void = () => {};
  #logNotice: (record: NoticeRecord) => void = () => {};
  #logCaptureLoss: (record: CaptureLossRecord) => void = () => {};
  #health: HealthPort | undefined;
  #mirrorGate: MirrorGate | undefined;
  readonly #losses: LossKeeper;
  #detection: FlowDetection | undefined;
  #onlooker: AsyncDisposable | undefined;
  #ending = false;
  #started = 0;
  #failed: SluiceError | undefined;
  #wake: () => void = () => {};

  constructor(config: RunConfig, io: CommandIo, infos: readonly InterfaceInfo[], again: () => RunConfig) {
    this.#config = config;
    this.#again = again;
    this.#io = io;
    this.#infos = infos;
    this.#columns = statsColumns(config.source.length > 0);
    this.#losses = new LossKeeper(this.#stations, {
      config,
      logTotals: async () => await this.#logTotals(),
      log: (record) => {
        this.#logCaptureLoss(record);
        this.#writer?.flush();
      },
      tell: (note, message) => this.#notice(note, message),
    });
  }

  async start(onlooker?: Onlooker): Promise<void> {
    const policies = await this.#book.load(this.#config);
    const nats = natsAccess(this.#config);
    const { logDir, logRotateSize, logRotateTime, shuntFields } = this.#config;
    const zeek = headings(
      this.#config,
      connSchemaOf(this.#config, { shuntFields, shunts: true }),
      this.#columns,
    );
    this.#log = await LogThread.start(
      {
        dir: logDir,
        rotateSize: logRotateSize,
        rotateTime: logRotateTime,
        ...(zeek === undefined ? {} : { zeek }),
        sinks: this.#config.logSink.map((sink) => parseSink(sink, nats)),
      },
      (problem) =>
        this.#notice(
          'Sluice::Log_Disk',
          problem === undefined
            ? 'the logs are being written again'
            : `the logs cannot be written: ${problem}`,
        ),
      (name, problem) =>
        this.#notice(
          'Sluice::Log_Sink',
          problem === undefined ? `${name} takes records again` : `${name} takes no records: ${problem}`,
        ),
      ({ path, lost }) =>
        this.#notice(
          'Sluice::Log_Moved',
          `${path} was moved away and is begun anew${lost === 0 ? '' : `; ${lost} lines went with it`}`,
        ),
    );
    this.#target = new LinkTarget(this.#log.link());
    this.#writer = new LogWriter(this.#target, lineFormat(this.#config));
    this.#logShunt = this.#writer.channel(shuntSchema);
    this.#logStatsRecord = this.#writer.channel(statsSchema(this.#columns));
    this.#logNotice = this.#writer.channel(noticeSchema);
    this.#logCaptureLoss = this.#writer.channel(captureLossSchema);
    for (const torn of this.#log.torn)
      this.#notice('Sluice::Torn_Line', `cut ${torn.bytes} bytes of an unfinished line off ${torn.path}`);
    this.#tellLeftOut(policies);
    this.#detection = FlowDetection.start(this.#config, {
      notice: (note, message) => this.#notice(note, message),
      warn: (line) => this.#io.warn(line),
    });
    const host = this.#stationHost(this.#log, policies);
    const taps = this.#infos.map((info) => new InterfaceStation(host, info));
    const { mirrorGate } = this.#config;
    if (mirrorGate !== undefined)
      this.#mirrorGate = new MirrorGate(this.#config, mirrorGate, usesThresholds(policies));
    const mirrors = this.#config.source.map((_, number) => new UdpStation(host, number, this.#mirrorGate));
    this.#stations.push(...taps, ...mirrors);
    if (this.#config.healthPort !== undefined)
      this.#health = await HealthPort.open(this.#config.healthPort, () => isHealthy(this.#stations));
    for (const tap of taps) await tap.start();
    await Promise.all(mirrors.map((mirror) => mirror.start()));
    // Last: from the first datagram that the gate judges there is someone to see what passes.
    const warning = this.#mirrorGate?.attach();
    if (warning !== undefined) this.#io.warn(warning);
    process.on(RELOAD, this.#reload);
    this.#losses.look();
    this.#started = performance.now() / 1000;
    this.#onlooker = await onlooker?.(this.#live());
    this.#io.say('ready');
    this.#manager?.ready(() => (this.#ending || isHealthy(this.#stations) ? this.#progress : undefined));
    // For whoever has started this process with a channel (the lab): the same, not to be read from talk.
    process.send?.('ready');
  }

  #stationHost(log: LogThread, policies: PlacedPlan): StationHost {
    return {
      config: this.#config,
      policies,
      log: () => log.link(),
      say: (line) => this.#io.say(line),
      detail: (line) => this.#io.detail(line),
      warn: (line) => this.#io.warn(line),
      notice: (note, message) => this.#notice(note, message),
      logShunt: (record) => {
        this.#logShunt(record);
        this.#writer?.flush();
      },
      detection: this.#detection,
      tallied: (news) => this.#tallies.add(news),
      losses: () => this.#losses.report(),
      failed: (error) => this.#fail(error),
    };
  }

  async untilTheEnd(): Promise<void> {
    const { stop } = this.#io;
    const { duration } = this.#config;
    const first = this.snapshot();
    let last = first;
    const oneWay = new OneWayWatches(this.#stations);
    let nextStats = first.at + STATS_LOG_SECONDS;
    const timer = setInterval(() => {
      for (const station of this.#stations) station.lookAfter();
      this.#mirrorGate?.lookAfter();
      oneWay.look((note, message) => this.#notice(note, message));
      this.#losses.look();
      const now = this.snapshot();
      this.#progress = progressText(now, last, first, this.#io);
      this.#io.progress(this.#progress);
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

  /** Policies and their files as they are now; what is wrong with them is told, and those from before go on. */
  readonly #reload = (): void => {
    const load = async (): Promise<void> => {
      this.#manager?.reloading();
      try {
        const config = this.#again();
        const later = changedKeys(this.#config, config).filter((key) => !RELOADED.has(key));
        if (later.length > 0)
          this.#notice('Sluice::Config', `${later.join(', ')}: changed, and in force from the next start on`);
        const policies = await this.#book.load(config);
        if (usesThresholds(policies)) this.#mirrorGate?.gate.enable({ thresholds: true });
        for (const station of this.#stations) station.setPolicies(policies);
        this.#notice('Sluice::Policies', `${policies.plan.specs.length} policies were loaded anew`);
        this.#tellLeftOut(policies);
      } catch (thrown) {
        const error = asSluiceError(thrown);
        this.#notice('Sluice::Policies', `the policies from before go on: ${error.message}`);
      }
      this.#manager?.reloaded();
    };
    this.#loading = this.#loading.then(load);
  };

  #fail(error: SluiceError): void {
    this.#failed ??= error;
    this.#wake();
  }

  #live(): LiveRun {
    return {
      started: Date.now() / 1000,
      healthy: () => isHealthy(this.#stations),
      ready: () => !this.#ending,
      snapshot: () => this.snapshot(),
      sources: () => this.#stations.map(sourceView),
      losses: () => this.#losses.report(),
      gates: () => this.#stations.flatMap(({ live }) => live ?? []),
      tallies: this.#tallies,
      logDir: this.#config.logDir,
      jsonLogs: this.#config.logFormat === 'json',
      watchLogs: (logs, seen) => this.#log?.watch(logs, seen),
    };
  }

  snapshot(): Snapshot {
    return takeSnapshot(this.#stations, this.#book.names);
  }

  async #logTotals(): Promise<LogTotals> {
    if (this.#log === undefined) throw new SluiceError('CLOSED', 'the logs are closed');
    return await this.#log.flush();
  }

  #logStats(): void {
    for (const line of statsOfWorkers(this.#stations)) this.#logStatsRecord(line);
    this.#logStatsRecord(statsOfAll(this.#stations, this.snapshot()));
    this.#writer?.flush();
  }

  #notice(note: string, msg: string): void {
    this.#io.warn(msg);
    this.#logNotice({ ts: Date.now() / 1000, note, msg });
    this.#writer?.flush();
  }

  #tellLeftOut({ plan }: PlacedPlan): void {
    for (const warning of plan.warnings) this.#notice('Sluice::Signatures', warning);
  }

  /** Stops the workers, detaches, and sums up. */
  async finish(): Promise<RunSummary> {
    this.#manager?.stopping();
    // From here on no load balancer is to choose this one.
    await this.#health?.close();
    this.#ending = true;
    await Promise.all(this.#stations.map((station) => station.dismiss()));
    const delays: number[] = [];
    for (const kind of END_STEPS) {
      for (const station of this.#stations) station.tell(kind);
      for (const said of await Promise.all(this.#stations.map((station) => station.reached(kind))))
        for (const each of said) delays.push(...each);
      // Nothing is shunted any more: from here on there is nothing to judge.
      if (kind === 'settle') for (const { gate } of this.#stations) gate?.detach();
    }
    const end = this.snapshot();
    if (end.latePackets > 0)
      this.#notice('Sluice::Late', `${end.latePackets} packets were counted after their record`);
    if (end.notesLost > 0)
      this.#notice(
        'Sluice::Notes',
        `${end.notesLost} notes for a later run found no room: those connections could not have been recovered`,
      );
    this.#logStats();
    await this.#losses.finish();
    const summary = summarize(
      end,
      end.at - this.#started,
      delays,
      this.#stations,
      this.#losses.report(),
      this.#config.logDir,
    );
    if (this.#failed === undefined) return summary;
    const { code, message, help } = this.#failed;
    return { ...summary, error: { code, message, ...(help === undefined ? {} : { help }) } };
  }

  /** As of the last reading. */
  get losses(): LossReport {
    return this.#losses.report();
  }

  /** Lets go of everything, in whatever state it is; the second time does nothing. */
  async close(): Promise<void> {
    process.off(RELOAD, this.#reload);
    await this.#loading;
    this.#manager?.[Symbol.dispose]();
    await this.#onlooker?.[Symbol.asyncDispose]();
    this.#onlooker = undefined;
    await this.#health?.close();
    for (const station of this.#stations) await station.close();
    await this.#detection?.close();
    this.#detection = undefined;
    this.#mirrorGate?.close();
    this.#writer?.flush();
    this.#target?.close();
    const totals = await this.#log?.close();
    this.#log = undefined;
    if (totals === undefined) return;
    this.#losses.closed(totals);
    if (totals.lost > 0) this.#io.warn(`${totals.lost} lines of the logs could not be written`);
    for (const { name, sent, lost } of totals.sinks ?? [])
      if (lost > 0) this.#io.warn(`${name} did not take ${lost} of ${sent + lost} records`);
  }
}
