import { statSync } from 'node:fs';
import { Argument } from 'commander';
import { type ReadConfig, readSchema } from '../../base/config.ts';
import { asSluiceError, SluiceError } from '../../base/errors.ts';
import type { CommandIo } from '../../base/io.ts';
import { clockText, scaled } from '../../base/units.ts';
import { FileSource } from '../../capture/file.ts';
import { createFlowEngine } from '../../flow/index.ts';
import type { FlowEngineApi } from '../../flow/types.ts';
import { connLine } from '../../log/conn-log.ts';
import { LogFiles } from '../../log/log-files.ts';
import { LogWriter } from '../../log/log-writer.ts';
import { noticeLine } from '../../log/other-logs.ts';
import type { LogTotals } from '../../log/target.ts';
import type { Packet } from '../../packet/packet.ts';
import type { Register } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';
import { ReadProgress } from '../progress.ts';
import { type ErrorDocument, errorDocument } from '../report-error.ts';

/** Packets between two looks at signals and progress: some ten milliseconds of work. */
const TURN_PACKETS = 32_768;
const STDIN = '-';

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
  interrupted?: true;
  lostLines?: number;
  error?: ErrorDocument;
}

const plural = (n: number, what: string) => `${n} ${what}${n === 1 ? '' : 's'}`;

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

/** Bytes of all files together; undefined when one is a pipe. */
function totalBytes(files: readonly string[]): number | undefined {
  let total = 0;
  for (const file of files) {
    const stat = file === STDIN ? undefined : statSync(file, { throwIfNoEntry: false });
    if (stat?.isFile() !== true) return undefined;
    total += stat.size;
  }
  return total;
}

/** Finds a file that cannot be read before anything is done. A pipe is left alone: looking would take its bytes. */
function checkFiles(files: readonly string[]): void {
  for (const file of files) {
    if (file === STDIN) continue;
    const stat = statSync(file, { throwIfNoEntry: false });
    if (stat === undefined || stat.isFile() || stat.isDirectory())
      FileSource.open(file, { chunkBytes: 64 }).close();
  }
}

/** The sensor over one file after the other, as one stream of packets: a capture in pieces is one capture. */
class Reader {
  readonly #io: CommandIo;
  readonly #engine: FlowEngineApi;
  readonly #logs: LogFiles;
  readonly #writer: LogWriter;
  readonly #sink: (packet: Packet) => void;
  packets = 0;
  bytes = 0;
  flows = 0;
  first = Number.POSITIVE_INFINITY;
  last = Number.NEGATIVE_INFINITY;

  constructor(config: ReadConfig, io: CommandIo) {
    this.#io = io;
    this.#logs = new LogFiles({ dir: config.logDir, logs: ['conn', 'notice'], keepAside: true });
    this.#writer = new LogWriter(this.#logs);
    for (const { path, bytes } of this.#logs.torn) {
      const msg = `${path}: the last line was torn (${bytes} bytes) and has been cut off`;
      io.warn(`notice: ${msg}`);
      this.#writer.write('notice', noticeLine({ ts: Date.now() / 1000, note: 'Sluice::Torn_Line', msg }));
    }
    const lineOptions = { vlan: config.vlanKey };
    const engine: FlowEngineApi = createFlowEngine(
      {
        checksums: config.checksums,
        bare: config.bare,
        vlanInKey: config.vlanKey,
        localNets: config.localNets,
        maxFlows: config.maxFlows,
        timeouts: {
          tcp: config.timeoutTcp,
          attempt: config.timeoutTcpAttempt,
          udp: config.timeoutUdp,
          icmp: config.timeoutIcmp,
        },
      },
      {
        beforePacket: () => {},
        mayExpire: () => true,
        closed: (slot) => {
          this.flows++;
          this.#writer.write('conn', connLine(engine.record(slot), undefined, lineOptions));
        },
      },
    );
    this.#engine = engine;
    this.#sink = (packet) => {
      this.packets++;
      this.bytes += packet.wirelen;
      if (packet.ts < this.first) this.first = packet.ts;
      if (packet.ts > this.last) this.last = packet.ts;
      engine.process(packet);
    };
  }

  /** Reads the files until the end or until it is told to stop; damage of a file is returned, and the next one read. */
  async read(files: readonly string[]): Promise<SluiceError | undefined> {
    const progress = new ReadProgress(this.#io, totalBytes(files));
    let problem: SluiceError | undefined;
    let before = 0;
    for (const file of files) {
      if (this.#io.stop.aborted) break;
      let source: FileSource | undefined;
      try {
        source = FileSource.open(file);
        while (!this.#io.stop.aborted && source.drain(this.#sink, TURN_PACKETS)) {
          progress.show(before + source.readBytes, this.packets);
          await turn();
        }
        problem ??= source.problem;
        if (source.problem !== undefined) this.#io.detail(`damaged: ${source.problem.message}`);
      } catch (thrown) {
        const error = asSluiceError(thrown);
        if (error.code === 'INTERNAL') throw thrown;
        problem ??= error;
      } finally {
        before += source?.readBytes ?? 0;
        source?.close();
      }
    }
    progress.done();
    return problem;
  }

  /** Ends the connections that are still open, and the logs. */
  finish(): LogTotals {
    let totals: LogTotals;
    try {
      this.#engine.finish();
      this.#writer.flush();
    } finally {
      totals = this.#logs.close();
    }
    return totals;
  }
}

async function read(
  files: readonly string[],
  config: ReadConfig,
  io: CommandIo,
): Promise<SluiceError | undefined> {
  const begin = performance.now();
  checkFiles(files);
  const reader = new Reader(config, io);
  let problem: SluiceError | undefined;
  let totals: LogTotals;
  try {
    problem = await reader.read(files);
  } finally {
    // Also after a defect of ours: what was learned until then is logged.
    totals = reader.finish();
  }
  if (totals.lost > 0) {
    problem ??= new SluiceError('FILE', `${totals.lost} lines could not be written to ${config.logDir}`, {
      help: 'make room there, or choose another directory with --log-dir, and read again',
    });
  }
  const seconds = (performance.now() - begin) / 1000;
  const summary: ReadSummary = {
    files: files.length,
    packets: reader.packets,
    bytes: reader.bytes,
    flows: reader.flows,
    seconds: Number(seconds.toFixed(6)),
    packetsPerSecond: Math.round(reader.packets / seconds),
    captureSeconds: reader.packets > 0 ? Number((reader.last - reader.first).toFixed(6)) : 0,
    logDir: config.logDir,
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
  }
  return problem;
}

/** `sluice read FILE…` */
export const registerRead: Register = (program, host) => {
  const command = program
    .command('read')
    .description('The sensor on capture files (pcap, pcapng); needs no privileges.')
    .addArgument(
      new Argument('<FILE...>', 'capture files, read one after the other as one capture; - is stdin'),
    )
    .action(async (files: string[]) => {
      const { config } = configOf(command, readSchema);
      await host.run(config, (io) => read(files, config, io));
    });
  addFlags(command, readSchema);
  command.addHelpText(
    'after',
    `
Examples:
  sluice read trace.pcap --log-dir out           writes out/conn.log
  tcpdump -w - | sluice read -                   from a pipe
  sluice read a.pcap b.pcap --no-checksums --json`,
  );
};
