import { once } from 'node:events';
import { createWriteStream, statSync } from 'node:fs';
import type { Writable } from 'node:stream';
import { Argument, InvalidArgumentError, Option } from 'commander';
import { outputSchema } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import type { CommandIo } from '../../base/io.ts';
import { grouped } from '../../base/units.ts';
import { Enricher, type EnrichTotals, type Meaning } from '../../log/enrich/enricher.ts';
import { type Line, logFileLines } from '../../log/enrich/lines.ts';
import { MOST_SHUNTS, ShuntIndex } from '../../log/enrich/shunts.ts';
import { wholeNumber } from '../arguments.ts';
import type { Register } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';

interface Given {
  shunts: string[];
  write: string;
  meaning: Meaning;
  tolerance: number;
  maxShunts: number;
}

const STDOUT = '-';
/** Lines of a log without a newline between two looks at signals. */
const WRITTEN = 2 ** 18;

/** `sluice enrich`. */
export const registerEnrich: Register = (program, host) => {
  const enrich = program
    .command('enrich')
    .description(
      "Add what the gate dropped of each connection to another sensor's log: Zeek's conn.log, Suricata's eve.json.",
    )
    .addArgument(new Argument('<FILE>', 'the log: JSON lines or TSV, plain, gzip or zstd'))
    .addOption(
      new Option(
        '--shunts <FILE...>',
        'The shunt.log of the gate before that sensor; several, in any order.',
      ).makeOptionMandatory(),
    )
    .addOption(new Option('-w, --write <FILE>', 'Where the log goes; - is stdout.').default(STDOUT, 'stdout'))
    .addOption(
      new Option(
        '--meaning <HOW>',
        "What the sensor's own counts are, which stays with each connection: added, without what was dropped, as of a sensor behind the gate; within, with it.",
      )
        .choices(['added', 'within'])
        .default('added'),
    )
    .addOption(
      new Option('--tolerance <SECONDS>', 'So far the times of both logs may be apart.')
        .argParser(seconds)
        .default(5),
    )
    .addOption(
      new Option('--max-shunts <N>', 'Most shunts that are kept in memory.')
        .argParser(wholeNumber(1, 999_999_999))
        .default(MOST_SHUNTS),
    )
    .action(async (path: string) => {
      const { config } = configOf(enrich, outputSchema);
      const given = enrich.opts<Given>();
      await host.run(config, async (io) => {
        if (config.json && given.write === STDOUT)
          throw new SluiceError('USAGE', '--json prints the totals on stdout, where the log goes too', {
            help: 'name a file with -w',
          });
        const totals = await run(path, given, io);
        if (config.json) io.out(`${JSON.stringify(totals)}\n`);
        else io.say(totalsText(totals));
        return undefined;
      });
    });
  addFlags(enrich, outputSchema);
  enrich.addHelpText(
    'after',
    `
Examples:
  sluice enrich conn.log --shunts /var/log/sluice/shunt.log -w conn.enriched.log
  sluice enrich conn.12:00.log.gz --shunts shunt.log shunt.2026-11-21-12-00-00.log > conn.log
  sluice enrich eve.json --shunts shunt.log --meaning within -w eve.enriched.json --json`,
  );
};

async function run(path: string, given: Given, io: CommandIo): Promise<EnrichTotals> {
  if (path === '-')
    throw new SluiceError('USAGE', 'the log is read twice, which standard input cannot be', {
      help: 'write it to a file first; packed ones are read as they are',
    });
  if ([path, ...given.shunts].some((each) => isSame(each, given.write)))
    throw new SluiceError('USAGE', `${given.write} is read: it cannot be written at the same time`, {
      help: 'name another file with -w',
    });
  const index = new ShuntIndex(given.maxShunts);
  for (const shunts of given.shunts) await index.read(shunts);
  if (index.malformed > 0)
    io.warn(`${index.malformed} lines of ${given.shunts.join(', ')} were not understood`);
  const enricher = new Enricher(index, given.meaning, given.tolerance);
  for await (const line of logFileLines(path)) {
    if (io.stop.aborted) throw stopped();
    enricher.survey(line);
  }
  enricher.begin();
  const out = new LogOutput(given.write);
  try {
    for await (const line of logFileLines(path)) {
      if (io.stop.aborted) throw stopped();
      await out.line(enricher.enrich(line), line);
    }
  } finally {
    await out.end();
  }
  return enricher.finish();
}

function isSame(a: string, b: string): boolean {
  if (b === STDOUT) return false;
  const [x, y] = [a, b].map((path) => statSync(path, { throwIfNoEntry: false }));
  return x !== undefined && y !== undefined && x.ino === y.ino && x.dev === y.dev;
}

function stopped(): SluiceError {
  return new SluiceError('FILE', 'stopped before the end: what was written is not whole');
}

/** A file, or stdout as long as somebody reads it. */
class LogOutput {
  readonly #path: string;
  readonly #stream: Writable;
  #error: NodeJS.ErrnoException | undefined;
  #pending: Buffer[] = [];
  #size = 0;

  constructor(path: string) {
    this.#path = path;
    this.#stream = path === STDOUT ? process.stdout : createWriteStream(path);
    this.#stream.on('error', (error) => (this.#error = error));
  }

  async line(bytes: Buffer, { ended }: Line): Promise<void> {
    this.#pending.push(bytes);
    if (ended) this.#pending.push(NEWLINE);
    this.#size += bytes.length + 1;
    if (this.#size >= WRITTEN) await this.#flush();
  }

  async #flush(): Promise<void> {
    const all = Buffer.concat(this.#pending);
    this.#pending = [];
    this.#size = 0;
    if (this.#error === undefined && !this.#stream.write(all))
      await Promise.race([once(this.#stream, 'drain'), once(this.#stream, 'close')]).catch(() => {});
    this.#check();
  }

  #check(): void {
    const code = this.#error?.code;
    if (this.#error === undefined || (this.#path === STDOUT && code === 'EPIPE')) return;
    throw new SluiceError('FILE', `${this.#path === STDOUT ? 'stdout' : this.#path} cannot be written`, {
      cause: this.#error,
    });
  }

  async end(): Promise<void> {
    await this.#flush();
    if (this.#path !== STDOUT)
      await new Promise<void>((resolve) => {
        this.#stream.once('error', () => resolve());
        this.#stream.end(() => resolve());
      });
    this.#check();
  }
}

const NEWLINE = Buffer.from('\n');

function totalsText(t: EnrichTotals): string {
  const more = [
    t.already > 0 ? `${grouped(t.already)} had counts already` : '',
    t.malformed > 0 ? `${grouped(t.malformed)} were not understood and stay as they are` : '',
  ].filter((text) => text !== '');
  return (
    `${grouped(t.joined)} of ${grouped(t.lines)} lines got counts${more.length === 0 ? '' : ` (${more.join(', ')})`}; ` +
    `of ${grouped(t.shunts)} shunts ${grouped(t.shuntsJoined)} were joined, ${grouped(t.shuntsUnjoined)} fit no line, ${grouped(t.shuntsAmbiguous)} fit several`
  );
}

function seconds(text: string): number {
  const value = Number(text);
  if (text === '' || !(value >= 0 && value <= 3600))
    throw new InvalidArgumentError('not seconds from 0 to 3600');
  return value;
}
