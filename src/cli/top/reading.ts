import { readFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { SluiceError } from '../../base/errors.ts';
import { ControlClient } from '../../gate/control-client.ts';
import { findPlace, type Place } from '../../gate/control-places.ts';
import type { RuleRow, ShuntRow, StatusReport } from '../../gate/control-protocol.ts';
import type { Ledger } from '../../gate/index.ts';
import type { LossTable } from '../../gate/losses/index.ts';

/** More shunts than these are not listed: it would keep the gate busy. */
const MOST_LISTED = 20_000;

export interface AttackLine {
  id: string;
  kind: string;
  target: string;
  ended: number | null;
  peak: number;
  attack: boolean;
}

/** What `sluice top` is told at one time. */
export interface Reading {
  /** Seconds since the epoch. */
  at: number;
  name: string;
  mode: string;
  /** `gate`: a daemon; `run`: a sensor with or without one. */
  kind: 'gate' | 'run';
  pid: number | null;
  /** Undefined without a gate. */
  ledger: Ledger | undefined;
  /** What reached the sensor; undefined where it is another one. */
  handled: { pkts: number; bytes: number } | undefined;
  connections: number | undefined;
  shuntsLive: number;
  /** Undefined: there are too many to list, or this way they are not told of. */
  shunts: ShuntRow[] | undefined;
  rules: RuleRow[];
  attacks: AttackLine[];
  losses: LossTable | undefined;
}

/** Where readings come from. */
export interface Source {
  /** @throws SluiceError GATE_DOWN, PRIVILEGE, CONTROL, FILE */
  read(): Promise<Reading>;
  close(): void;
}

/** Through the control socket of a gate, be it a daemon's or a run's. */
export class SocketSource implements Source {
  readonly #place: Place;
  readonly #client: ControlClient;

  private constructor(place: Place, client: ControlClient) {
    this.#place = place;
    this.#client = client;
  }

  /** @throws SluiceError GATE_DOWN, USAGE, INTERFACE_UNKNOWN, PRIVILEGE */
  static async open(ifname: string | undefined): Promise<SocketSource> {
    const place = findPlace(ifname);
    return new SocketSource(place, await ControlClient.connect(place));
  }

  async read(): Promise<Reading> {
    const client = this.#client;
    const status = await client.ask<StatusReport>('status');
    const losses = await client.ask<LossTable>('losses');
    const live = status.tables.flows4.entries + status.tables.flows6.entries;
    const { seen, passed, shunted, ruleDropped, rateLimited, steered, aborted, reasons } = status;
    const run = status.daemon.driven === true;
    return {
      at: Date.now() / 1000,
      name: status.interfaces.map((row) => row.interface).join(', '),
      mode: status.mode,
      kind: run ? 'run' : 'gate',
      pid: status.daemon.pid,
      ledger: { seen, passed, shunted, ruleDropped, rateLimited, steered, aborted, reasons },
      handled: undefined,
      connections: undefined,
      shuntsLive: live,
      shunts: live <= MOST_LISTED ? await this.#rows<ShuntRow>('list') : undefined,
      rules: await this.#rules(),
      attacks: this.#attacks(),
      losses,
    };
  }

  async #rows<T>(op: 'list' | 'rule.list'): Promise<T[]> {
    const rows: T[] = [];
    await this.#client.ask(op, {}, (page) => {
      for (const row of page) rows.push(row as T);
    });
    return rows;
  }

  /** A gate of a run without rules says so. */
  async #rules(): Promise<RuleRow[]> {
    try {
      return await this.#rows<RuleRow>('rule.list');
    } catch (error) {
      if (error instanceof SluiceError && error.code === 'REFUSED') return [];
      throw error;
    }
  }

  #attacks(): AttackLine[] {
    try {
      return JSON.parse(readFileSync(this.#place.attacks, 'utf8')) as AttackLine[];
    } catch {
      return [];
    }
  }

  close(): void {
    this.#client.close();
  }
}

interface ApiStatus {
  at: number;
  packets: number;
  bytes: number;
  connections: { open: number };
  shunts: { live: number };
  ledger: Ledger | null;
}

/** Through the HTTP API of a run: also of one that has no gate. */
export class ApiSource implements Source {
  readonly #where: string;
  readonly #token: string | undefined;

  /** `where`: `http://HOST:PORT`, a port of this host, or `unix:/PATH`. */
  constructor(where: string, token: string | undefined) {
    this.#where = /^\d+$/.test(where) ? `http://127.0.0.1:${where}` : where;
    this.#token = token;
  }

  async read(): Promise<Reading> {
    const status = (await this.#get('/v1/status')) as ApiStatus;
    const losses = (await this.#get('/v1/losses')) as LossTable;
    const sources = (await this.#get('/v1/sources')) as { name: string; mode: string }[];
    return {
      at: status.at,
      name: sources.map(({ name }) => name).join(', '),
      mode: sources[0]?.mode ?? 'none',
      kind: 'run',
      pid: null,
      ledger: status.ledger ?? undefined,
      handled: { pkts: status.packets, bytes: status.bytes },
      connections: status.connections.open,
      shuntsLive: status.shunts.live,
      shunts: undefined,
      rules: [],
      attacks: [],
      losses,
    };
  }

  async #get(path: string): Promise<unknown> {
    const headers = this.#token === undefined ? {} : { authorization: `Bearer ${this.#token}` };
    const text = this.#where.startsWith('unix:')
      ? await overUnix(this.#where.slice(5), path, headers)
      : await overHttp(`${this.#where}${path}`, headers);
    return JSON.parse(text);
  }

  close(): void {}
}

/** @throws SluiceError FILE */
export function readToken(path: string | undefined): string | undefined {
  if (path === undefined) return undefined;
  try {
    return readFileSync(path, 'utf8').trim();
  } catch (cause) {
    throw new SluiceError('FILE', `the token in ${path} cannot be read`, { cause });
  }
}

const noApi = (where: string, cause: unknown): SluiceError =>
  new SluiceError('GATE_DOWN', `no API answers at ${where}`, {
    cause,
    help: 'sluice run --api PORT opens one; a token goes into --token',
  });

async function overHttp(url: string, headers: Record<string, string>): Promise<string> {
  let response: Response;
  try {
    response = await fetch(url, { headers, signal: AbortSignal.timeout(5000) });
  } catch (cause) {
    throw noApi(url, cause);
  }
  if (!response.ok) throw noApi(url, new Error(`HTTP ${response.status}`));
  return await response.text();
}

function overUnix(socketPath: string, path: string, headers: Record<string, string>): Promise<string> {
  return new Promise((resolve, reject) => {
    const failed = (cause: unknown): void => reject(noApi(socketPath, cause));
    const request = httpRequest({ socketPath, path, headers, timeout: 5000 }, (response) => {
      let text = '';
      response.setEncoding('utf8');
      response.on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('error', failed);
      response.on('end', () => {
        if (response.statusCode === 200) resolve(text);
        else failed(new Error(`HTTP ${response.statusCode}`));
      });
    });
    request.on('timeout', () => request.destroy(new Error('no answer')));
    request.on('error', failed);
    request.end();
  });
}
