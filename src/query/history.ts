import { resolve } from 'node:path';
import {
  type DuckDBConnection,
  DuckDBInstance,
  type DuckDBResult,
  type DuckDBTimestampValue,
} from '@duckdb/node-api';
import { asSluiceError, SluiceError } from '../base/errors.ts';
import { declaredColumns } from './columns.ts';
import { type StoredLog, storedLogs } from './files.ts';
import { between, jsonLines, nested, parquetLines, sqlName } from './views.ts';

export interface HistoryOptions {
  /** Directories that queries may read, and nothing else; the first has the logs. */
  directories: readonly string[];
  /** Seconds since the epoch, on `ts`. */
  since?: number | undefined;
  until?: number | undefined;
  /** Memory that a query may take, in bytes; beyond it fails. */
  memory: number;
}

/** A value as JSON has it: counts as numbers where they are exact, times as `2026-11-21 10:45:00.123456` (UTC). */
export type Plain = string | number | boolean | null | Plain[] | { [name: string]: Plain };

/** One page of a result, row by row. */
export interface Page {
  names: readonly string[];
  rows: Plain[][];
}

/** The logs of one directory as tables of a database that reads them where they are: a view for each log. */
export class History implements Disposable {
  readonly #instance: DuckDBInstance;
  readonly #connection: DuckDBConnection;
  /** Names of the logs that there are. */
  readonly logs: readonly string[];
  /** Files that are not JSON. */
  readonly passedOver: readonly string[];
  readonly #files: readonly StoredLog[];

  private constructor(
    instance: DuckDBInstance,
    connection: DuckDBConnection,
    files: readonly StoredLog[],
    passedOver: readonly string[],
  ) {
    this.#instance = instance;
    this.#connection = connection;
    this.#files = files;
    this.passedOver = passedOver;
    this.logs = [...new Set(files.map(({ log }) => log))];
  }

  /** @throws SluiceError FILE, QUERY */
  static async open(options: HistoryOptions): Promise<History> {
    const directories = options.directories.map((path) => resolve(path));
    const { files, passedOver } = storedLogs(directories[0]);
    const instance = await DuckDBInstance.create(':memory:');
    const connection = await instance.connect();
    const history = new History(instance, connection, files, passedOver);
    try {
      const allowed = directories.map((path) => `'${`${path}/`.replaceAll("'", "''")}'`).join(', ');
      await connection.run(`SET memory_limit = '${Math.round(options.memory / 1e6)}MB'`);
      await connection.run("SET TimeZone = 'UTC'");
      // What comes from a log is data; what a query may touch is the logs.
      await connection.run(`SET allowed_directories = [${allowed}]`);
      await connection.run('SET enable_external_access = false');
      await connection.run('SET lock_configuration = true');
      for (const log of history.logs) await history.#view(log, between(options.since, options.until));
      return history;
    } catch (error) {
      history[Symbol.dispose]();
      throw problemOf(error);
    }
  }

  /** Files of the logs, in the order of their names. */
  get files(): readonly StoredLog[] {
    return this.#files;
  }

  /** The fields of a log with dots in their names, as they are in the files: what is exported. */
  flat(log: string, paths?: readonly string[]): string {
    const of = (kind: StoredLog['kind']): string[] =>
      this.#files.flatMap((file) =>
        file.log === log && file.kind === kind && (paths === undefined || paths.includes(file.path))
          ? [file.path]
          : [],
      );
    const [json, parquet] = [of('json'), of('parquet')];
    return [
      ...(json.length === 0 ? [] : [jsonLines(json, declaredColumns(log))]),
      ...(parquet.length === 0 ? [] : [parquetLines(parquet)]),
    ].join(' UNION ALL BY NAME ');
  }

  async #view(log: string, where: string): Promise<void> {
    const flat = this.flat(log);
    const { rows } = await this.#all(`DESCRIBE ${flat}`);
    const names = rows.map(([name]) => name as string);
    await this.#connection.run(
      `CREATE VIEW ${sqlName(log)} AS SELECT ${nested(names)} FROM (${flat})${where}`,
    );
  }

  /** Runs a statement that has no result worth reading. @throws SluiceError QUERY */
  async run(sql: string): Promise<void> {
    try {
      await this.#connection.run(sql);
    } catch (error) {
      throw problemOf(error);
    }
  }

  /** Runs one query or several, and hands out the last one's rows in pages as they come. @throws SluiceError QUERY */
  async *pages(sql: string): AsyncGenerator<Page> {
    try {
      const result = await this.#connection.stream(sql);
      const names = result.deduplicatedColumnNames();
      let told = false;
      for (;;) {
        const rows = await nextRows(result);
        if (rows === undefined) break;
        told = true;
        yield { names, rows };
      }
      if (!told) yield { names, rows: [] };
    } catch (error) {
      throw problemOf(error);
    }
  }

  /** 0 to 100; below 0 when it is not known yet. */
  get progress(): number {
    return this.#connection.progress.percentage;
  }

  /** Ends the query that is running: it fails. */
  interrupt(): void {
    this.#connection.interrupt();
  }

  async #all(sql: string): Promise<Page> {
    const all: Page = { names: [], rows: [] };
    for await (const { names, rows } of this.pages(sql)) {
      all.names = names;
      all.rows.push(...rows);
    }
    return all;
  }

  [Symbol.dispose](): void {
    this.#connection.closeSync();
    this.#instance.closeSync();
  }
}

async function nextRows(result: DuckDBResult): Promise<Plain[][] | undefined> {
  const chunk = await result.fetchChunk();
  if (chunk === null || chunk.rowCount === 0) return undefined;
  return chunk.getRows().map((row) => row.map(plain));
}

function plain(value: unknown): Plain {
  switch (typeof value) {
    case 'bigint':
      return Number.isSafeInteger(Number(value)) ? Number(value) : String(value);
    case 'number':
      return Number.isFinite(value) ? value : null;
    case 'string':
    case 'boolean':
      return value;
    case 'object': {
      if (value === null) return null;
      if ('items' in value && Array.isArray(value.items)) return value.items.map(plain);
      if ('entries' in value && !Array.isArray(value.entries) && typeof value.entries === 'object')
        return Object.fromEntries(
          Object.entries(value.entries as object).map(([name, inner]) => [name, plain(inner)]),
        );
      if ('toDouble' in value && typeof value.toDouble === 'function') return value.toDouble() as number;
      // Times, intervals, blobs: each has a text of its own.
      return (value as DuckDBTimestampValue).toString();
    }
    default:
      return null;
  }
}

function problemOf(error: unknown): SluiceError {
  if (error instanceof SluiceError) return error;
  if (!(error instanceof Error)) return asSluiceError(error);
  const [first = '', ...rest] = error.message.split('\n');
  return new SluiceError('QUERY', first, {
    cause: rest.length > 0 ? new Error(rest.join('\n').trim()) : undefined,
    help: 'sluice query --tables lists the logs that are there with their fields; docs/query.md has examples',
  });
}
