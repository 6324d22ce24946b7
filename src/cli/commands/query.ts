import { InvalidArgumentError, Option } from 'commander';
import { outputSchema } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import type { CommandIo } from '../../base/io.ts';
import { nearest } from '../../base/suggest.ts';
import { parseBytes, parseDuration } from '../../base/units.ts';
import {
  csvLine,
  exportLogs,
  History,
  jsonRow,
  type Page,
  type Preset,
  QUERY_PRESETS,
  table,
} from '../../query/index.ts';
import type { Register } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';

/** Rows that a table on a terminal is laid out for; JSON and CSV have no limit. */
const TABLE_ROWS = 10_000;
const PROGRESS_MS = 500;

interface Options {
  logDir: string;
  since?: number;
  until?: number;
  top: number;
  format: 'table' | 'csv';
  memory: number;
  tables?: boolean;
  export?: string;
  remove?: boolean;
  keep?: number;
}

/** A time as `2026-11-21`, `2026-11-21T10:00Z`, seconds since the epoch, or so long ago (`2h`). */
function timeOf(text: string): number {
  if (/^\d{9,}(\.\d+)?$/.test(text)) return Number(text);
  if (/^\d{4}-\d\d-\d\d/.test(text)) {
    const zoned = /(Z|[+-]\d\d:?\d\d)$/.test(text) || text.length === 10 ? text : `${text}Z`;
    const ms = Date.parse(zoned);
    if (!Number.isNaN(ms)) return ms / 1000;
  }
  try {
    return Date.now() / 1000 - parseDuration(text);
  } catch {
    throw new InvalidArgumentError('it is neither a time like 2026-11-21T10:00Z nor a duration like 2h.');
  }
}

const parsedBy =
  <T>(parse: (text: string) => T) =>
  (text: string): T => {
    try {
      return parse(text);
    } catch (error) {
      if (error instanceof InvalidArgumentError) throw error;
      throw new InvalidArgumentError(error instanceof Error ? `${error.message}.` : 'it cannot be read.');
    }
  };

/** @throws SluiceError USAGE */
function presetOf(question: string | undefined): Preset | undefined {
  if (question === undefined)
    throw new SluiceError('USAGE', 'nothing is asked', {
      help: `give a query in SQL, or one of: ${[...QUERY_PRESETS.keys()].join(', ')}`,
    });
  const preset = QUERY_PRESETS.get(question);
  if (preset !== undefined || !/^[\w-]*$/.test(question)) return preset;
  const near = nearest(question, QUERY_PRESETS.keys());
  throw new SluiceError('USAGE', `${question} is neither SQL nor a preset`, {
    help: near === undefined ? `there are: ${[...QUERY_PRESETS.keys()].join(', ')}` : `did you mean ${near}?`,
  });
}

function sqlOf(question: string, preset: Preset | undefined, history: History, top: number): string {
  if (preset === undefined) return question;
  const missing = preset.logs.find((log) => !history.logs.includes(log));
  if (missing !== undefined)
    throw new SluiceError('QUERY', `${question} asks ${missing}.log, which is not there`, {
      help: `there are: ${history.logs.join(', ') || 'no logs'}; --log-dir names another directory`,
    });
  return preset.sql(top);
}

async function answer(
  history: History,
  sql: string,
  format: 'table' | 'csv' | 'json',
  io: CommandIo,
): Promise<void> {
  const whole: Page = { names: [], rows: [] };
  let first = true;
  let more = 0;
  for await (const { names, rows } of history.pages(sql)) {
    if (format === 'csv') io.out((first ? csvLine(names) : '') + rows.map(csvLine).join(''));
    else if (format === 'json')
      io.out(rows.map((row, i) => `${first && i === 0 ? '[' : ','}\n${jsonRow(names, row)}`).join(''));
    else {
      whole.names = names;
      const room = TABLE_ROWS - whole.rows.length;
      whole.rows.push(...rows.slice(0, room));
      more += Math.max(0, rows.length - room);
    }
    if (rows.length > 0) first = false;
  }
  if (format === 'json') io.out(first ? '[]\n' : '\n]\n');
  if (format !== 'table') return;
  io.out(table(whole));
  if (more > 0) io.warn(`${more} more rows are not shown; --json and --format csv give all of them`);
}

async function tables(history: History, json: boolean, io: CommandIo): Promise<void> {
  const told: { log: string; fields: { name: string; type: string }[] }[] = [];
  for (const log of history.logs) {
    const fields: { name: string; type: string }[] = [];
    for await (const { rows } of history.pages(`DESCRIBE "${log}"`))
      for (const [name, type] of rows) fields.push({ name: name as string, type: type as string });
    told.push({ log, fields });
  }
  if (json) io.out(`${JSON.stringify(told)}\n`);
  else
    for (const { log, fields } of told)
      io.out(`${log}\n${fields.map(({ name, type }) => `  ${name}  ${type}\n`).join('')}`);
}

async function work(
  question: string | undefined,
  options: Options,
  json: boolean,
  io: CommandIo,
): Promise<undefined> {
  const { logDir, export: to, keep, remove = false } = options;
  if (to === undefined && (remove || keep !== undefined))
    throw new SluiceError('USAGE', '--remove and --keep go with --export');
  if (to !== undefined && question !== undefined)
    throw new SluiceError('USAGE', '--export takes logs as they are, without a query', {
      help: 'to write the result of a query: sluice query SQL --format csv > FILE',
    });
  const asked = to !== undefined || options.tables === true ? undefined : presetOf(question);
  using history = await History.open({
    directories: to === undefined ? [logDir] : [logDir, to],
    since: options.since,
    until: options.until,
    memory: options.memory,
  });
  for (const path of history.passedOver)
    io.warn(`${path} is Zeek's TSV and is passed over: JSON and Parquet are read`);
  if (history.logs.length === 0)
    throw new SluiceError('QUERY', `there are no logs in ${logDir}`, {
      help: '--log-dir names the directory that sluice run or sluice read has written to',
    });
  const stopped = (): void => history.interrupt();
  io.stop.addEventListener('abort', stopped);
  const shown = setInterval(() => {
    const percent = history.progress;
    io.progress(percent < 0 ? 'reading' : `reading: ${percent.toFixed(0)} %`);
  }, PROGRESS_MS);
  try {
    if (to !== undefined) {
      const report = await exportLogs(history, { to, remove, keep, now: Date.now() / 1000 });
      if (json) io.out(`${JSON.stringify(report)}\n`);
      else
        for (const { to: path, rows, bytes } of report.exported)
          io.out(`${path}  ${rows} rows  ${bytes} bytes\n`);
      if (report.removed.length > 0) io.say(`${report.removed.length} files removed`);
    } else if (options.tables === true) await tables(history, json, io);
    else
      await answer(
        history,
        sqlOf(question ?? '', asked, history, options.top),
        json ? 'json' : options.format,
        io,
      );
  } catch (error) {
    // Interrupted: what was asked for is a stop, not an error.
    if (!io.stop.aborted) throw error;
  } finally {
    clearInterval(shown);
    io.progressDone();
    io.stop.removeEventListener('abort', stopped);
  }
}

/** `sluice query`: history over the logs, with DuckDB. */
export const registerQuery: Register = (program, host) => {
  const presets = Array.from(QUERY_PRESETS, ([name, { help }]) => `  ${name.padEnd(10)} ${help}`).join('\n');
  const query = program
    .command('query')
    .argument('[SQL|PRESET]', 'a query in SQL (DuckDB), or the name of a preset')
    .description('History over the logs of a run: SQL or a preset, JSON and Parquet (docs/query.md).')
    .option('--log-dir <DIR>', 'Directory with the logs.', './logs')
    .addOption(
      new Option(
        '--since <TIME>',
        'Records from then on: 2026-11-21T10:00Z, or 2h for two hours ago.',
      ).argParser(timeOf),
    )
    .addOption(new Option('--until <TIME>', 'Records before then.').argParser(timeOf))
    .addOption(
      new Option('--top <N>', 'Rows that a preset shows.').default(20).argParser((text) => {
        if (!/^[1-9]\d{0,5}$/.test(text)) throw new InvalidArgumentError('it must be from 1 to 999,999.');
        return Number(text);
      }),
    )
    .addOption(
      new Option('--format <FORMAT>', 'How rows are printed; --json: one array of objects.')
        .choices(['table', 'csv'])
        .default('table'),
    )
    .addOption(
      new Option('--memory <BYTES>', 'Memory that a query may take.')
        .default(1e9, '1GB')
        .argParser(parsedBy(parseBytes)),
    )
    .option('--tables', 'List the logs that are there, with their fields and types.')
    .option('--export <DIR>', 'Turn each finished log into a Parquet file in DIR.')
    .option('--remove', 'With --export: remove what was exported.')
    .addOption(
      new Option('--keep <DURATION>', 'With --export: remove Parquet files older than this.').argParser(
        parsedBy(parseDuration),
      ),
    )
    .action(async (question: string | undefined, options: Options) => {
      const { config } = configOf(query, outputSchema);
      await host.run(config, (io) => work(question, options, config.json, io));
    });
  addFlags(query, outputSchema);
  query.addHelpText(
    'after',
    `
Presets:
${presets}

Examples:
  sluice query services
  sluice query talkers --since 1h --json
  sluice query "SELECT id.resp_h, count(*) FROM conn WHERE service = 'ssl' GROUP BY ALL ORDER BY 2 DESC"
  sluice query --export ./history --remove --keep 90d`,
  );
};
