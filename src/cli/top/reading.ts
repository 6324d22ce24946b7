import { readFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { SluiceError } from '../../base/errors.ts';
import { fileError } from '../../base/file-error.ts';
import { ControlClient } from '../../gate/control-client.ts';
import { findPlace, type Place } from '../../gate/control-places.ts';
import type { RuleRow, ShuntRow, StatusReport } from '../../gate/control-protocol.ts';
import type { Endpoint } from '../../gate/flow-key.ts';
import type { Ledger } from '../../gate/index.ts';
import type { LossTable } from '../../gate/losses/index.ts';

/** More shunts than these are not listed: it would keep the gate busy. */
const MOST_LISTED = 20_000;
const MOST_TALKERS = 100;

export interface AttackLine {
  id: string;
  kind: string;
  target: string;
  /** Seconds since the epoch. */
  began: number;
  ended: number | null;
  /** Packets per second. */
  peak: number;
  usual: number;
  attack: boolean;
  why: string;
}

/** A flow that is shunted, with what was dropped of it. */
export interface FlowLine {
  proto: string;
  a: Endpoint;
  b: Endpoint;
  vlan: number;
  innerVlan: number;
  vni: number;
  geneveVni: number;
  owner: string;
  trigger: string;
  pkts: number;
  /** L2 bytes. */
  bytes: number;
}

/** A host, with IP bytes of its connections and the part that was dropped. */
export interface TalkerLine {
  host: string;
  connections: number;
  bytes: number;
  dropped: number;
}

export interface RuleLine {
  id: string;
  expr: string;
  action: string;
  enabled: boolean;
  matched: { pkts: number };
  dropped: { pkts: number };
}

/** What is listed at one time; the API of a run looks it up less often than the figures. */
export interface Lists {
  /** Seconds since the epoch. */
  at: number;
  /** Undefined: there are too many to list. */
  shunts: FlowLine[] | undefined;
  /** All of them, not those alone that have dropped the most. */
  whole: boolean;
  talkers: TalkerLine[];
  /** Talkers are of connections that have ended in so many seconds; null: of what is shunted alone. */
  talkersOf: number | null;
  rules: RuleLine[];
  attacks: AttackLine[];
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
  lists: Lists;
  /** Those that rates of flows and rules are since. */
  listsBefore: Lists | undefined;
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
  #lists: Lists | undefined;

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
    const at = Date.now() / 1000;
    const shunts = live <= MOST_LISTED ? (await this.#rows<ShuntRow>('list')).map(flowLine) : undefined;
    const listsBefore = this.#lists;
    this.#lists = {
      at,
      shunts,
      whole: true,
      talkers: talkersOf(shunts ?? []),
      talkersOf: null,
      rules: await this.#rules(),
      attacks: this.#attacks(),
    };
    return {
      at,
      name: status.interfaces.map((row) => row.interface).join(', '),
      mode: status.mode,
      kind: run ? 'run' : 'gate',
      pid: status.daemon.pid,
      ledger: { seen, passed, shunted, ruleDropped, rateLimited, steered, aborted, reasons },
      handled: undefined,
      connections: undefined,
      shuntsLive: live,
      lists: this.#lists,
      listsBefore,
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

function flowLine(row: ShuntRow): FlowLine {
  const { proto, a, b, vlan, innerVlan, vni, geneveVni = 0, owner, trigger, ab, ba } = row;
  const counts = { pkts: ab.pkts + ba.pkts, bytes: ab.bytes + ba.bytes };
  return { proto, a, b, vlan, innerVlan, vni, geneveVni, owner, trigger, ...counts };
}

/** A gate alone knows of hosts what it has dropped. */
function talkersOf(shunts: readonly FlowLine[]): TalkerLine[] {
  const hosts = new Map<string, TalkerLine>();
  for (const { a, b, bytes } of shunts)
    for (const { addr } of [a, b]) {
      const known = hosts.get(addr) ?? { host: addr, connections: 0, bytes: 0, dropped: 0 };
      hosts.set(addr, {
        host: addr,
        connections: known.connections + 1,
        bytes: known.bytes + bytes,
        dropped: known.dropped + bytes,
      });
    }
  return [...hosts.values()].toSorted((x, y) => y.bytes - x.bytes).slice(0, MOST_TALKERS);
}

interface ApiBoard {
  at: number;
  shunts: { top: FlowLine[] };
  talkers: {
    seconds: number;
    hosts: { name: string; connections: number; bytes: number; shuntedBytes: number; liveBytes: number }[];
  };
  rules: RuleLine[] | null;
  attacks: AttackLine[] | null;
}

interface ApiStatus {
  at: number;
  packets: number;
  bytes: number;
  connections: { open: number };
  shunts: { live: number };
  ledger: Ledger | null;
}

function listsOf({ at, shunts, talkers, rules, attacks }: ApiBoard): Lists {
  return {
    at,
    shunts: shunts.top,
    whole: false,
    talkers: talkers.hosts.map(({ name, connections, bytes, shuntedBytes, liveBytes }) => ({
      host: name,
      connections,
      bytes: bytes + liveBytes,
      dropped: shuntedBytes + liveBytes,
    })),
    talkersOf: talkers.seconds,
    rules: rules ?? [],
    attacks: attacks ?? [],
  };
}

/** Through the HTTP API of a run: also of one that has no gate. */
export class ApiSource implements Source {
  readonly #where: string;
  readonly #token: string | undefined;
  #lists: Lists | undefined;
  #listsBefore: Lists | undefined;

  /** `where`: `http://HOST:PORT`, a port of this host, or `unix:/PATH`. */
  constructor(where: string, token: string | undefined) {
    this.#where = /^\d+$/.test(where) ? `http://127.0.0.1:${where}` : where;
    this.#token = token;
  }

  async read(): Promise<Reading> {
    const status = (await this.#get('/v1/status')) as ApiStatus;
    const losses = (await this.#get('/v1/losses')) as LossTable;
    const lists = listsOf((await this.#get('/v1/board')) as ApiBoard);
    // One board serves all who ask for some seconds.
    if (lists.at !== this.#lists?.at) {
      this.#listsBefore = this.#lists;
      this.#lists = lists;
    }
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
      lists: this.#lists ?? lists,
      listsBefore: this.#listsBefore,
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
    throw fileError(path, cause, { missing: 'it is to have the token of the API: check the path' });
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
