import { Argument } from 'commander';
import { type ReadConfig, readSchema } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import type { CommandIo } from '../../base/io.ts';
import { tunnelPorts } from '../../base/tunnels.ts';
import { clockText, scaled } from '../../base/units.ts';
import type { MirrorCounts } from '../../capture/mirrored.ts';
import type { StoredSource } from '../../capture/source.ts';
import { createFlowEngine, type FlowEngine, Loss } from '../../flow/index.ts';
import { type CounterReading, LossLedger, type LossTable } from '../../gate/losses/ledger.ts';
import { lossLines } from '../../gate/losses/text.ts';
import { connLines } from '../../log/conn-lines.ts';
import type { ConnLogRecord } from '../../log/conn-log.ts';
import { LogFiles } from '../../log/log-files.ts';
import {
  connSchemaOf,
  headings,
  idsOf,
  lineFormat,
  sslSchemaOf,
  tunnelCompleter,
  tunnelSchemaOf,
} from '../../log/log-setup.ts';
import { LogWriter } from '../../log/log-writer.ts';
import {
  type CaptureLossRecord,
  captureLossSchema,
  type NoticeRecord,
  noticeSchema,
} from '../../log/other-logs.ts';
import type { LogTotals } from '../../log/target.ts';
import { type BlockSink, type PacketBlock, PLACE_WORDS } from '../../packet/block.ts';
import { type BatchSink, Packet } from '../../packet/packet.ts';
import { CaptureLossWatch, type Tell } from '../../sensor/losses/capture-loss.ts';
import { engineReadings, logReadings } from '../../sensor/losses/engine-readings.ts';
import type { WhatIf, WhatIfResult } from '../../sensor/what-if.ts';
import type { WhatIfDocument } from '../../sensor/what-if-report.ts';
import type { WhatIfTrial } from '../../sensor/what-if-trial.ts';
import type { Register } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';
import { ReadProgress } from '../progress.ts';
import { type ErrorDocument, errorDocument } from '../report-error.ts';
import { addReadingOptions, openReading, type ReadingOptions, SourceWait } from '../stored-source.ts';
import { addWhatIfOptions, type WhatIfOptions } from '../what-if.ts';

/** Packets between two looks at signals and progress: some ten milliseconds of work. */
const TURN_PACKETS = 32_768;
/** Milliseconds after which what waits for the log files goes there, when nothing else comes. */
const FLUSH_MS = 1000;
/** Who says what capture_loss.log has: there is one engine, and the sources are files. */
const PEER = 'sluice';

interface ReadSummary {
  files: number;
  packets: number;
  /** As on the wire. */
  bytes: number;
  flows: number;
  /** Time that reading took. */
  seconds: number;
  packetsPerSecond: number;
  /** From the first packet to the last. */
  captureSeconds: number;
  logDir: string;
  /** With --encap: of the recorded packets, those that held a frame, and the rest by reason. */
  mirror?: MirrorCounts;
  /** With --what-if. */
  whatIf?: WhatIfDocument | undefined;
  interrupted?: true;
  lostLines?: number;
  /** What became of packets and lines (docs/losses.md). */
  losses: LossTable;
  error?: ErrorDocument;
}

const plural = (n: number, what: string) => `${n} ${what}${n === 1 ? '' : 's'}`;

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** What the recorded packets of a mirror came to. */
function mirrorText({ packets, frames, left }: MirrorCounts): string {
  const rest = Object.entries(left).map(([reason, count]) => `${count} ${reason}`);
  const without = rest.length === 0 ? '' : `; without a frame: ${rest.join(', ')}`;
  return `mirror: ${plural(packets, 'recorded packet')}, ${plural(frames, 'frame')}${without}`;
}

/** The sensor over a source, and the logs. */
class Reader {
  readonly #io: CommandIo;
  readonly #engine: FlowEngine;
  readonly #whatIf: WhatIf | undefined;
  readonly #logs: LogFiles;
  readonly #writer: LogWriter;
  readonly #sink: BatchSink;
  readonly #blockSink: BlockSink;
  readonly #captureLoss: CaptureLossWatch;
  readonly #captureLossInterval: number;
  readonly #logCaptureLoss: (record: CaptureLossRecord) => void;
  readonly #logNotice: (record: NoticeRecord) => void;
  /** Time of the packet that ends an interval of capture_loss.log. */
  #due = Number.NEGATIVE_INFINITY;
  packets = 0;
  bytes = 0;
  flows = 0;
  first = Number.POSITIVE_INFINITY;
  last = Number.NEGATIVE_INFINITY;

  constructor(config: ReadConfig, io: CommandIo, trial: WhatIfTrial | undefined) {
    this.#io = io;
    const conns = connSchemaOf(config);
    const zeek = headings(config, conns);
    this.#logs = new LogFiles({
      dir: config.logDir,
      logs: ['conn', 'ssl', 'tunnel', 'capture_loss', 'notice'],
      keepAside: true,
      ...(zeek === undefined ? {} : { zeek }),
    });
    this.#writer = new LogWriter(this.#logs, lineFormat(config));
    const logConn = this.#writer.channel(conns);
    const logSsl = this.#writer.channel(sslSchemaOf(config));
    const logTunnel = this.#writer.channel(tunnelSchemaOf(config));
    const logNotice = this.#writer.channel(noticeSchema);
    this.#logCaptureLoss = this.#writer.channel(captureLossSchema);
    this.#logNotice = logNotice;
    for (const { path, bytes } of this.#logs.torn) {
      const msg = `${path}: the last line was torn (${bytes} bytes) and has been cut off`;
      io.warn(`notice: ${msg}`);
      logNotice({ ts: Date.now() / 1000, note: 'Sluice::Torn_Line', msg });
    }
    const idOf = idsOf(config);
    const completeTunnel = tunnelCompleter(config);
    const writeLine = connLines(this.#writer, config);
    let whatIf: WhatIf | undefined;
    const engine: FlowEngine = createFlowEngine(
      {
        checksums: config.checksums,
        bare: config.bare,
        vlanInKey: config.vlanKey,
        tunnelInKey: config.tunnelKey,
        tunnelPorts: tunnelPorts(config.tunnelPorts),
        localNets: config.localNets,
        ...trial?.knowledge,
        maxFlows: config.maxFlows,
        timeouts: {
          tcp: config.timeoutTcp,
          attempt: config.timeoutTcpAttempt,
          udp: config.timeoutUdp,
          icmp: config.timeoutIcmp,
        },
      },
      {
        beforePacket: (slot, side, flags, now) => whatIf?.hooks.beforePacket(slot, side, flags, now),
        mayExpire: () => true,
        closed: (slot) => {
          this.flows++;
          whatIf?.hooks.closed(slot);
          const communityId = idOf(engine, slot);
          const isWritten = writeLine?.(engine, slot, { communityId }) === true;
          const tls = engine.tls(slot);
          if (isWritten && tls === undefined) return;
          const record: ConnLogRecord = engine.record(slot);
          record.communityId = communityId;
          if (!isWritten) logConn(record);
          if (tls !== undefined) logSsl({ conn: record, tls });
        },
        tunnel: (record) => logTunnel(completeTunnel(record)),
      },
    );
    this.#engine = engine;
    whatIf = trial?.over(engine);
    this.#whatIf = whatIf;
    this.#captureLossInterval = config.captureLossInterval;
    this.#captureLoss = new CaptureLossWatch(
      () => [{ peer: PEER, acks: engine.losses[Loss.acks], gaps: engine.losses[Loss.gaps] }],
      config.captureLossInterval,
      config.captureLossAlarm,
    );
    this.#sink = (packets, count) => {
      this.#note(packets, count);
      if (whatIf === undefined && this.last < this.#due) engine.processBatch(packets, count);
      else for (let i = 0; i < count; i++) this.#one(packets[i]);
    };
    const cursor = new Packet();
    this.#blockSink = (block) => {
      this.#noteBlock(block);
      if (this.last < this.#due) engine.processBlock(block);
      else
        for (let i = 0; i < block.count; i++) {
          block.show(i, cursor);
          this.#one(cursor);
        }
    };
  }

  /** Where a batch is too much: there is a policy to try, or an interval ends in it. */
  #one(packet: Packet): void {
    if (packet.ts >= this.#due) this.#look(packet.ts);
    const slot = this.#engine.process(packet);
    if (slot >= 0 && this.#engine.isOpen(slot)) this.#whatIf?.packet(slot, packet.ts);
  }

  #look(now: number, last = false): void {
    const tell: Tell = (note, msg) => this.#logNotice({ ts: now, note, msg, peer: PEER });
    for (const line of this.#captureLoss.look(now, tell, last)) this.#logCaptureLoss(line);
    this.#due = now + this.#captureLossInterval;
  }

  /** What the packets and the logs came to, counter by counter; to be called behind `finish`. */
  losses(totals: LogTotals): LossTable {
    const { stats, losses } = this.#engine;
    const out: CounterReading[] = [];
    const unparsed = stats.ignored.reduce((sum, count) => sum + count, 0);
    engineReadings('', { handled: this.packets, unparsed, evicted: stats.evicted, losses }, out);
    logReadings(totals, out);
    const ledger = new LossLedger();
    ledger.take(Date.now() / 1000, out);
    return ledger.table();
  }

  /** To be called behind `finish`. */
  get whatIf(): WhatIfResult | undefined {
    return this.#whatIf?.result();
  }

  #note(packets: readonly Packet[], count: number): void {
    this.packets += count;
    for (let i = 0; i < count; i++) {
      const { wirelen, ts } = packets[i];
      this.bytes += wirelen;
      if (ts < this.first) this.first = ts;
      if (ts > this.last) this.last = ts;
    }
  }

  #noteBlock({ places, times, count }: PacketBlock): void {
    this.packets += count;
    for (let i = 0; i < count; i++) {
      this.bytes += places[PLACE_WORDS * i + 2] >>> 0;
      if (times[i] < this.first) this.first = times[i];
      if (times[i] > this.last) this.last = times[i];
    }
  }

  #drain(source: StoredSource): boolean {
    return source.drainBlocks === undefined || this.#whatIf !== undefined
      ? source.drainBatches(this.#sink, TURN_PACKETS)
      : source.drainBlocks(this.#blockSink, TURN_PACKETS);
  }

  /** Reads until the end or until it is told to stop. Errors: those of a defect of ours only. */
  async read(source: StoredSource, total: number | undefined): Promise<void> {
    const { stop } = this.#io;
    const progress = new ReadProgress(this.#io, total);
    const waiting = new SourceWait(source, stop);
    let flushed = performance.now();
    while (!stop.aborted && this.#drain(source)) {
      progress.show(source.readBytes, this.packets);
      if (!source.starved) {
        await turn();
        continue;
      }
      // What waits for a pipe may wait for long: what has ended until then can be read in the logs.
      if (performance.now() - flushed >= FLUSH_MS) {
        this.#writer.flush();
        flushed = performance.now();
      }
      if (!stop.aborted) await waiting.until(FLUSH_MS);
    }
    progress.done();
  }

  /** Ends the connections that are still open, and the logs. */
  finish(): LogTotals {
    let totals: LogTotals;
    try {
      this.#engine.finish();
      if (this.packets > 0) this.#look(this.last, true);
      this.#writer.flush();
    } finally {
      totals = this.#logs.close();
    }
    return totals;
  }
}

async function read(
  files: readonly string[],
  options: ReadingOptions & WhatIfOptions,
  config: ReadConfig,
  io: CommandIo,
): Promise<SluiceError | undefined> {
  const begin = performance.now();
  // Loaded here and not above: most of the time nobody asks.
  const trial =
    options.whatIf === true
      ? await (await import('../../sensor/what-if-trial.ts')).WhatIfTrial.load(config, options.whatIfDelay)
      : undefined;
  for (const warning of trial?.warnings ?? []) io.warn(`warning: ${warning}`);
  const reading = await openReading(files, options, config.checksums, io);
  const { source } = reading;
  let reader: Reader;
  let totals: LogTotals;
  try {
    reader = new Reader(config, io, trial);
    try {
      await reader.read(source, reading.totalBytes);
    } finally {
      // Also after a defect of ours: what was learned until then is logged.
      totals = reader.finish();
    }
  } finally {
    source.close();
  }
  let { problem } = source;
  for (const { message } of reading.problems()) io.warn(`also: ${message}`);
  if (totals.lost > 0) {
    problem ??= new SluiceError('FILE', `${totals.lost} lines could not be written to ${config.logDir}`, {
      help: 'make room there, or choose another directory with --log-dir, and read again',
    });
  }
  const seconds = (performance.now() - begin) / 1000;
  const mirror = reading.mirror();
  const losses = reader.losses(totals);
  const { whatIf } = reader;
  if (whatIf !== undefined && options.whatIfReport !== undefined)
    trial?.write(options.whatIfReport, whatIf, options.sensorMbps, `What if: ${files.join(' ')}`);
  const summary: ReadSummary = {
    files: reading.files(),
    packets: reader.packets,
    bytes: reader.bytes,
    flows: reader.flows,
    seconds: Number(seconds.toFixed(6)),
    packetsPerSecond: Math.round(reader.packets / seconds),
    captureSeconds: reader.packets > 0 ? Number((reader.last - reader.first).toFixed(6)) : 0,
    logDir: config.logDir,
    losses,
    ...(mirror === undefined ? {} : { mirror }),
    ...(whatIf === undefined ? {} : { whatIf: trial?.document(whatIf, options.sensorMbps) }),
    ...(io.stop.aborted ? { interrupted: true } : {}),
    ...(totals.lost > 0 ? { lostLines: totals.lost } : {}),
    ...(problem === undefined ? {} : { error: errorDocument(problem) }),
  };
  if (config.json) io.out(`${JSON.stringify(summary)}\n`);
  else {
    io.out(
      `${plural(summary.packets, 'packet')}, ${scaled(summary.bytes, 'B')}, ${plural(summary.flows, 'connection')} in ${seconds.toFixed(2)} s ` +
        `(${scaled(summary.packetsPerSecond, 'packets/s')}); the capture spans ${clockText(summary.captureSeconds)}; logs in ${config.logDir}\n`,
    );
    if (mirror !== undefined) io.out(`${mirrorText(mirror)}\n`);
    const [, noted] = lossLines(losses).find(([name]) => name === 'noted') ?? [];
    if (noted !== undefined) io.out(`noted: ${noted}\n`);
    if (whatIf !== undefined) io.out(`\n${trial?.text(whatIf, options.sensorMbps)}`);
  }
  return problem;
}

/** `sluice read FILE…` */
export const registerRead: Register = (program, host) => {
  const command = program
    .command('read')
    .description(
      'The sensor on capture files (pcap, pcapng, packed with gzip or zstd or not); needs no privileges.',
    )
    .addArgument(
      new Argument(
        '<FILE...>',
        'capture files, read as one capture in the order of time; - is stdin, tcp://HOST[:PORT] and tcp-listen://ADDRESS[:PORT] are PCAP-over-IP',
      ),
    )
    .action(async (files: string[]) => {
      const { config } = configOf(command, readSchema);
      const options = command.opts<ReadingOptions & WhatIfOptions>();
      await host.run(config, (io) => read(files, options, config, io));
    });
  addReadingOptions(command);
  addWhatIfOptions(command);
  addFlags(command, readSchema);
  command.addHelpText(
    'after',
    `
Examples:
  sluice read trace.pcap --log-dir out           writes out/conn.log
  tcpdump -w - | sluice read -                   from a pipe
  sluice read day/*.pcap.zst --log-format zeek   pieces of one capture, in the order of time
  sluice read a.pcap b.pcap --no-checksums --json
  sluice read mirror.pcap --encap geneve --vni   a recorded mirror, taken apart (docs/mirrors.md)
  sluice read tcp://10.0.0.5:57012               PCAP-over-IP from a program that listens there
  sluice read --follow /var/spool/captures       a directory that is being filled, until Ctrl-C
  sluice read trace.pcap --speed recorded        as fast as it was recorded
  sluice read trace.pcap --what-if --policy tls,ssh,bulk=4MB --what-if-report what-if.html
                                                 what shunting would save, before it is switched on`,
  );
};
