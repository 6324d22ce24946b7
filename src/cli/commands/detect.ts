import { InvalidArgumentError, Option } from 'commander';
import { detectSchema, type OutputConfig } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import type { CommandIo } from '../../base/io.ts';
import {
  type AttackRecord,
  attackDocument,
  attackText,
  DETECTOR_DEFAULTS,
  parseVeto,
  Responder,
  SampleColumns,
  SampleReader,
} from '../../mitigation/index.ts';
import type { Packet } from '../../packet/packet.ts';
import type { Register } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';
import { ReadProgress } from '../progress.ts';
import { addReadingOptions, openReading, type ReadingOptions, SourceWait } from '../stored-source.ts';
import { addDetectFleetOptions, type DetectFleetOptions, detectFleet } from './detect-fleet.ts';

interface Options extends ReadingOptions, DetectFleetOptions {
  sampled: number;
  sample: number;
}

/** Rows of columns at a time. */
const BATCH = 1024;
const WAIT_MS = 100;

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

const within =
  (least: number, most: number) =>
  (text: string): number => {
    const value = /^\d{1,12}(\.\d{1,6})?$/.test(text) ? Number(text) : Number.NaN;
    if (value >= least && value <= most) return value;
    throw new InvalidArgumentError(`must be a number from ${least} to ${most}`);
  };

async function detect(
  files: readonly string[],
  options: Options,
  config: OutputConfig,
  io: CommandIo,
): Promise<SluiceError | undefined> {
  const vetoes = options.veto.map(parseVeto);
  const reading = await openReading(files, options, false, io);
  const { source } = reading;
  const records = new Map<string, AttackRecord>();
  const { minPps, factor, learning } = options;
  const responder = new Responder((record) => records.set(record.id, record), {
    minPps,
    factor,
    learning,
    vetoes,
  });
  const columns = new SampleColumns(BATCH);
  const reader = new SampleReader();
  let packets = 0;
  let others = 0;
  let first = Number.NaN;
  let last = Number.NaN;
  const sink = (packet: Packet): void => {
    if (Number.isNaN(first)) first = packet.ts;
    last = packet.ts;
    if (packets++ % options.sample !== 0) return;
    if (!reader.read(packet, options.sample * options.sampled, columns, columns.count)) {
      others++;
      return;
    }
    if (++columns.count < BATCH) return;
    responder.add(columns);
    columns.count = 0;
  };
  const progress = new ReadProgress(io, reading.totalBytes);
  const wait = new SourceWait(source, io.stop);
  try {
    while (!io.stop.aborted && source.drain(sink, 8192)) {
      progress.show(source.readBytes, packets);
      await (source.starved ? wait.until(WAIT_MS) : turn());
    }
    responder.add(columns);
    if (!Number.isNaN(last)) responder.detector.advance(last * 1e9);
  } finally {
    progress.done();
    source.close();
  }
  const all = [...records.values()];
  const document = {
    packets,
    samples: responder.detector.samples,
    others,
    seconds: Number.isNaN(first) ? 0 : Number((last - first).toFixed(3)),
    attacks: all.map(attackDocument),
  };
  if (config.json) io.out(`${JSON.stringify(document)}\n`);
  else {
    for (const record of all) io.out(attackText(record));
    const found = all.filter(({ judgement }) => judgement.attack).length;
    io.say(
      `${packets} packets, ${document.seconds} s: ${found} attacks, ${all.length - found} that are none`,
    );
  }
  return source.problem ?? reading.problems().at(0);
}

/** `sluice detect`. */
export const registerDetect: Register = (program, host) => {
  const command = program
    .command('detect')
    .argument('[FILE...]', 'pcap or pcapng files, - for stdin')
    .description(
      'Attacks in a capture, and the rules that would hold them back; nothing is changed. With --from: a detector of a fleet.',
    )
    .addOption(
      new Option('--sampled <N>', 'The file has one packet in so many.').argParser(within(1, 1e9)).default(1),
    )
    .addOption(
      new Option('--sample <N>', 'Look at one packet in so many, as a gate would.')
        .argParser(within(1, 1e6))
        .default(1),
    )
    .addOption(
      new Option('--min-pps <N>', 'Packets a second to one target that are never an attack.')
        .argParser(within(1, 1e9))
        .default(DETECTOR_DEFAULTS.minPps),
    )
    .addOption(
      new Option('--factor <N>', 'How many times its usual rate a target has to get.')
        .argParser(within(1.5, 1000))
        .default(DETECTOR_DEFAULTS.factor),
    )
    .addOption(
      new Option(
        '--learning <SECONDS>',
        'Time in which what is usual is learned: thresholds are five times higher.',
      )
        .argParser(within(0, 86_400))
        .default(DETECTOR_DEFAULTS.learning),
    )
    .addOption(
      new Option(
        '--veto <WHAT>',
        'Never touch this: an address, a prefix, tcp/22, 192.0.2.1,tcp/22. Repeatable.',
      )
        .argParser((value: string, before: string[]) => [...before, value])
        .default([] as string[], 'none'),
    );
  addReadingOptions(command);
  addDetectFleetOptions(command);
  command.action(async (files: string[], options: Options) => {
    const { config } = configOf(command, detectSchema);
    const { from } = options;
    if (from !== undefined) {
      if (files.length > 0)
        throw new SluiceError('USAGE', 'samples come from a fleet or from files, not from both');
      await host.run(config, (io) => detectFleet(from, options, config, io));
      return;
    }
    if (files.length === 0)
      throw new SluiceError('USAGE', 'nothing to look at', { help: 'name a FILE, or --from nats://HOST' });
    if (options.sample !== Math.floor(options.sample))
      throw new SluiceError('USAGE', '--sample takes a whole number');
    await host.run(config, (io) => detect(files, options, config, io));
  });
  addFlags(command, detectSchema);
  command.addHelpText(
    'after',
    `
Examples:
  sluice detect attack.pcap
  sluice detect --sampled 1000 sampled.pcapng --json
  sluice detect trace.pcap --min-pps 5000 --veto 192.0.2.0/28 --veto tcp/22
  sluice detect --from nats+tls://nats.example --nats-creds detector.creds --key desk.key --log-dir /var/log/sluice
  sluice detect --from nats://nats.example --nats-login detector.login --dry-run`,
  );
};
