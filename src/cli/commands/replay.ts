import { Argument, InvalidArgumentError, Option } from 'commander';
import { type OutputConfig, outputSchema } from '../../base/config.ts';
import type { SluiceError } from '../../base/errors.ts';
import type { CommandIo } from '../../base/io.ts';
import { scaled } from '../../base/units.ts';
import type { MirrorCounts } from '../../capture/mirrored.ts';
import { PcapSender, type SenderCounts } from '../../capture/pcap-sender.ts';
import { parseStreamUrl } from '../../capture/tcp-stream.ts';
import type { BatchSink } from '../../packet/packet.ts';
import type { Register } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';
import { type ErrorDocument, errorDocument } from '../report-error.ts';
import { addReadingOptions, openReading, type ReadingOptions, SourceWait } from '../stored-source.ts';

/** Packets between two looks at the receivers. */
const TURN_PACKETS = 256;
/** Seconds for which a receiver that takes nothing is waited for. */
const PATIENCE = 10;
const POLL_MS = 500;
const STDIN = '-';

interface ReplayOptions extends ReadingOptions {
  to: string;
  clients: number;
}

interface ReplaySummary extends SenderCounts {
  packets: number;
  /** Captured bytes. */
  bytes: number;
  seconds: number;
  mirror?: MirrorCounts;
  interrupted?: true;
  error?: ErrorDocument;
}

function clientsOf(text: string): number {
  const clients = /^\d{1,2}$/.test(text) ? Number(text) : -1;
  if (clients >= 0 && clients <= 64) return clients;
  throw new InvalidArgumentError('must be from 0 to 64');
}

async function replay(
  files: readonly string[],
  options: ReplayOptions,
  config: OutputConfig,
  io: CommandIo,
): Promise<SluiceError | undefined> {
  const end = parseStreamUrl(options.to);
  const reading = await openReading(files, options, true, io);
  const { source } = reading;
  const begin = performance.now();
  const waiting = new SourceWait(source, io.stop);
  const sender = new PcapSender(end, {
    patience: PATIENCE,
    stop: io.stop,
    // What comes when it comes, from a pipe or at a speed, waits for nobody.
    urgent: options.speed !== undefined || options.follow === true || files.includes(STDIN),
    onListening: (url) => io.say(`listening on ${url}`),
    onReceiver: (peer) => io.detail(`receiver: ${peer}`),
  });
  let packets = 0;
  let bytes = 0;
  const sink: BatchSink = (batch, count) => {
    packets += count;
    for (let i = 0; i < count; i++) bytes += batch[i].caplen;
    sender.send(batch, count);
  };
  const goesOn = () => !io.stop.aborted && sender.problem === undefined;
  try {
    const wanted = end.listen ? options.clients : 1;
    while (goesOn() && sender.receivers < wanted) await sender.changed(POLL_MS);
    while (goesOn() && source.drainBatches(sink, TURN_PACKETS)) {
      if (source.starved) await waiting.until(POLL_MS);
      else await new Promise<void>((resolve) => void setImmediate(resolve));
      while (goesOn() && sender.blocked) await sender.changed(POLL_MS);
    }
    await sender.finish();
  } finally {
    source.close();
    sender.close();
  }
  for (const { message } of reading.problems()) io.warn(`also: ${message}`);
  const problem = source.problem ?? sender.problem;
  const seconds = (performance.now() - begin) / 1000;
  const mirror = reading.mirror();
  const summary: ReplaySummary = {
    packets,
    bytes,
    seconds: Number(seconds.toFixed(6)),
    ...sender.counts,
    ...(mirror === undefined ? {} : { mirror }),
    ...(io.stop.aborted ? { interrupted: true } : {}),
    ...(problem === undefined ? {} : { error: errorDocument(problem) }),
  };
  if (config.json) io.out(`${JSON.stringify(summary)}\n`);
  else io.out(`${summaryText(summary, seconds)}\n`);
  return problem;
}

function summaryText(
  { packets, bytes, receivers, slow, left, refused, otherLinkType }: ReplaySummary,
  seconds: number,
): string {
  const notes = [
    slow > 0 ? `${slow} dropped as too slow` : '',
    left > 0 ? `${left} left before the end` : '',
    refused > 0 ? `${refused} turned away` : '',
  ].filter((note) => note !== '');
  const others = otherLinkType > 0 ? `; ${otherLinkType} of another link type were left out` : '';
  return (
    `${packets} packets, ${scaled(bytes, 'B')} in ${seconds.toFixed(2)} s to ${receivers} receivers` +
    `${notes.length > 0 ? ` (${notes.join(', ')})` : ''}${others}`
  );
}

/** `sluice replay FILE… --to URL` */
export const registerReplay: Register = (program, host) => {
  const command = program
    .command('replay')
    .description(
      'Sends captures over TCP as PCAP-over-IP, to one receiver or to all that connect; needs no privileges.',
    )
    .addArgument(
      new Argument('<FILE...>', 'as of sluice read: capture files, - for stdin, tcp://HOST[:PORT]'),
    )
    .addOption(
      new Option(
        '--to <URL>',
        'tcp://HOST[:PORT] connects there, tcp-listen://ADDRESS[:PORT] serves whoever connects; port 57012 unless given',
      ).makeOptionMandatory(),
    )
    .addOption(
      new Option('--clients <N>', 'With tcp-listen: begin when so many have connected; 0: at once.')
        .argParser(clientsOf)
        .default(1),
    )
    .action(async (files: string[]) => {
      const { config } = configOf(command, outputSchema);
      await host.run(config, (io) => replay(files, command.opts<ReplayOptions>(), config, io));
    });
  addReadingOptions(command);
  addFlags(command, outputSchema);
  command.addHelpText(
    'after',
    `
There is no encryption and no password: listen on addresses that only the receivers can reach.

Examples:
  sluice replay trace.pcap --to tcp://10.0.0.5                          to Arkime, NetworkMiner, sluice read tcp-listen://…
  sluice replay trace.pcap --to tcp-listen://127.0.0.1 --speed recorded
  tcpdump -i eth1 -U -w - | sluice replay - --to tcp-listen://10.0.0.1:57012 --clients 0`,
  );
};
