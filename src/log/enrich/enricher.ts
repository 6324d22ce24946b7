import { type FlowText, isTurned, type LoggedFlow, loggedFlow, numberOf, textOf, timeOf } from './flows.ts';
import { type Line } from './lines.ts';
import { type Dropped, flowOf, type LoggedShunt, type ShuntIndex } from './shunts.ts';
import { TsvHeading } from './tsv.ts';

/**
 * `added`: the counts of the sensor do not have what was shunted, as of one behind the gate. `within`: they have it. Its own
 * fields are not changed either way.
 */
export type Meaning = 'within' | 'added';

export interface EnrichTotals {
  lines: number;
  /** Lines that got counts. */
  joined: number;
  /** Connections that had such fields already. */
  already: number;
  /** Lines that were no records, and stayed as they were. */
  malformed: number;
  shunts: number;
  /** Shunts that were added to a line, that fit none, and that fit several alike. */
  shuntsJoined: number;
  shuntsUnjoined: number;
  shuntsAmbiguous: number;
}

const MARK = 'is_shunted';
/** What is added to a heading, with Zeek's types. */
const FIELDS: readonly (readonly [string, string])[] = [
  [MARK, 'bool'],
  ['orig_shunted_pkts', 'count'],
  ['orig_shunted_bytes', 'count'],
  ['resp_shunted_pkts', 'count'],
  ['resp_shunted_bytes', 'count'],
  ['shunt_trigger', 'string'],
  ['shunt_meaning', 'string'],
];
const BRACE_END = 0x7d;
const ETHERNET = 14;
const TAG = 4;

/** A record that was read, and how counts are written to it. */
interface Found {
  flow: LoggedFlow;
  /** It has such fields already. */
  already: boolean;
  /** With these counts, by its own sides. */
  write: (dropped: Dropped) => Buffer;
}

/** Looks at each line of a sensor's log twice: first `survey` for all, then `enrich`. */
export class Enricher {
  readonly #index: ShuntIndex;
  readonly #meaning: Meaning;
  /** Seconds by which the clocks of two logs may differ. */
  readonly #tolerance: number;
  #heading = new TsvHeading();
  readonly totals: EnrichTotals;

  constructor(index: ShuntIndex, meaning: Meaning, tolerance: number) {
    this.#index = index;
    this.#meaning = meaning;
    this.#tolerance = tolerance;
    this.totals = {
      lines: 0,
      joined: 0,
      already: 0,
      malformed: 0,
      shunts: index.all.length,
      shuntsJoined: 0,
      shuntsUnjoined: 0,
      shuntsAmbiguous: 0,
    };
  }

  /** Which shunts this line could take: one that several lines could is given to none. */
  survey({ bytes, whole }: Line): void {
    if (!whole) return;
    const text = bytes.toString('utf8');
    if (text.startsWith('#')) {
      this.#heading.take(trimmed(text));
      return;
    }
    const found = this.#find(bytes, text);
    if (found === undefined || found.already) return;
    for (const shunt of this.#candidates(found.flow)) {
      const distance = apart(found.flow, shunt.flow);
      if (distance <= 0) shunt.exact++;
      else if (distance <= this.#tolerance) shunt.near++;
    }
  }

  /** The survey is over. */
  begin(): void {
    this.#heading = new TsvHeading();
  }

  /** The line as it is written. */
  enrich({ bytes, whole }: Line): Buffer {
    if (!whole) {
      this.totals.malformed++;
      return bytes;
    }
    const text = bytes.toString('utf8');
    if (trimmed(text) === '') return bytes;
    if (text.startsWith('#')) return this.#headed(bytes, trimmed(text));
    this.totals.lines++;
    const found = this.#find(bytes, text);
    if (found === undefined) return this.#untouched(bytes, text);
    if (found.already) {
      this.totals.already++;
      return bytes;
    }
    const dropped = this.#take(found.flow);
    if (dropped === undefined) return this.#without(bytes, text);
    this.totals.joined++;
    return found.write(dropped);
  }

  /** To be called behind the last line. */
  finish(): EnrichTotals {
    for (const shunt of this.#index.all) {
      if (shunt.given) this.totals.shuntsJoined++;
      else if (shunt.exact + shunt.near > 1) this.totals.shuntsAmbiguous++;
      else this.totals.shuntsUnjoined++;
    }
    return this.totals;
  }

  #headed(bytes: Buffer, text: string): Buffer {
    const kind = this.#heading.take(text);
    if (kind === undefined || this.#heading.has(MARK)) return bytes;
    const { separator } = this.#heading;
    const more = FIELDS.map(([name, type]) => `${separator}${kind === 'fields' ? name : type}`).join('');
    return inserted(bytes, more);
  }

  /** A record of TSV has a value for each field of its heading. */
  #without(bytes: Buffer, text: string): Buffer {
    const { separator, unset } = this.#heading;
    if (text.startsWith('{') || this.#heading.has(MARK)) return bytes;
    return inserted(bytes, FIELDS.map(() => `${separator}${unset}`).join(''));
  }

  /** No connection: other events of EVE are none, what cannot be read is malformed. */
  #untouched(bytes: Buffer, text: string): Buffer {
    if (text.startsWith('{')) {
      if (parsed(text) === undefined) this.totals.malformed++;
      return bytes;
    }
    if (this.#heading.values(trimmed(text)) === undefined) {
      this.totals.malformed++;
      return bytes;
    }
    return this.#without(bytes, text);
  }

  #find(bytes: Buffer, text: string): Found | undefined {
    if (text.startsWith('{')) return this.#findJson(bytes, text);
    const values = this.#heading.values(trimmed(text));
    const flow = values === undefined ? undefined : flowOf(values);
    if (flow === undefined) return undefined;
    const { separator } = this.#heading;
    return {
      flow,
      already: this.#heading.has(MARK),
      write: (dropped) =>
        inserted(
          bytes,
          this.#columns(dropped)
            .map((value) => separator + value)
            .join(''),
        ),
    };
  }

  #findJson(bytes: Buffer, text: string): Found | undefined {
    const record = parsed(text);
    if (record === undefined) return undefined;
    const values = (field: string): unknown => (Object.hasOwn(record, field) ? record[field] : undefined);
    const event = values('event_type');
    if (event === undefined) {
      const flow = flowOf(values);
      if (flow === undefined) return undefined;
      return {
        flow,
        already: values(MARK) !== undefined,
        write: (dropped) => withMembers(bytes, JSON.stringify(this.#zeekMembers(dropped))),
      };
    }
    if (event !== 'flow') return undefined;
    const flow = loggedFlow(eveFlow(values));
    if (flow === undefined) return undefined;
    const vlan = values('vlan');
    const layer2 = ETHERNET + TAG * (Array.isArray(vlan) ? vlan.length : 0);
    return {
      flow,
      already: values('shunted') !== undefined,
      write: (dropped) => withMembers(bytes, JSON.stringify({ shunted: this.#eveMembers(dropped, layer2) })),
    };
  }

  #zeekMembers({ origPkts, origBytes, respPkts, respBytes, trigger }: Dropped): object {
    return {
      is_shunted: true,
      orig_shunted_pkts: origPkts,
      orig_shunted_bytes: origBytes,
      resp_shunted_pkts: respPkts,
      resp_shunted_bytes: respBytes,
      shunt_trigger: trigger,
      shunt_meaning: this.#meaning,
    };
  }

  /** Suricata counts whole frames. */
  #eveMembers({ origPkts, origBytes, respPkts, respBytes, trigger }: Dropped, layer2: number): object {
    return {
      pkts_toserver: origPkts,
      pkts_toclient: respPkts,
      bytes_toserver: origBytes + origPkts * layer2,
      bytes_toclient: respBytes + respPkts * layer2,
      trigger,
      meaning: this.#meaning,
    };
  }

  #columns({ origPkts, origBytes, respPkts, respBytes, trigger }: Dropped): string[] {
    const { separator, unset } = this.#heading;
    // A trigger is a name that somebody gave: it does not break the line.
    const name = trigger.replaceAll(separator, ' ').replaceAll(/[\p{Cc}\\]/gu, '.');
    const counts = [origPkts, origBytes, respPkts, respBytes].map(String);
    return ['T', ...counts, name === '' ? unset : name, this.#meaning];
  }

  #candidates(flow: LoggedFlow): readonly LoggedShunt[] {
    const own = flow.uid === undefined ? undefined : this.#index.byUid.get(flow.uid);
    if (own !== undefined) return [];
    return flow.key === undefined ? [] : (this.#index.byKey.get(flow.key) ?? []);
  }

  /** The shunts of this connection together. */
  #take(flow: LoggedFlow): Dropped | undefined {
    const own = flow.uid === undefined ? undefined : this.#index.byUid.get(flow.uid);
    const shunts = own ?? this.#candidates(flow).filter((shunt) => this.#fits(flow, shunt));
    let sum: Dropped | undefined;
    for (const shunt of shunts) {
      if (shunt.given) continue;
      shunt.given = true;
      const turned = isTurned(flow, shunt.flow);
      sum ??= { origPkts: 0, origBytes: 0, respPkts: 0, respBytes: 0, trigger: shunt.trigger };
      sum.origPkts += turned ? shunt.respPkts : shunt.origPkts;
      sum.origBytes += turned ? shunt.respBytes : shunt.origBytes;
      sum.respPkts += turned ? shunt.origPkts : shunt.respPkts;
      sum.respBytes += turned ? shunt.origBytes : shunt.respBytes;
    }
    return sum;
  }

  /** This line is the only one. */
  #fits(flow: LoggedFlow, { flow: shunt, exact, near }: LoggedShunt): boolean {
    const distance = apart(flow, shunt);
    if (distance <= 0) return exact <= 1;
    return distance <= this.#tolerance && exact === 0 && near <= 1;
  }
}

/** Seconds between two flows; 0 or less: they overlap. Where a time is not known they never do. */
function apart(a: LoggedFlow, b: LoggedFlow): number {
  if (a.from === undefined || a.to === undefined || b.from === undefined || b.to === undefined)
    return Number.POSITIVE_INFINITY;
  return Math.max(a.from - b.to, b.from - a.to);
}

function eveFlow(values: (field: string) => unknown): FlowText {
  const given = values('flow');
  const flow = (typeof given === 'object' && given !== null ? given : {}) as Record<string, unknown>;
  return {
    proto: textOf(values('proto')),
    orig: textOf(values('src_ip')),
    origPort: numberOf(values('src_port')),
    resp: textOf(values('dest_ip')),
    respPort: numberOf(values('dest_port')),
    communityId: textOf(values('community_id')),
    from: timeOf(flow['start']),
    to: timeOf(flow['end']),
  };
}

function parsed(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === 'object' && value !== null && !Array.isArray(value)
      ? (value as Record<string, unknown>)
      : undefined;
  } catch {
    return undefined;
  }
}

function trimmed(text: string): string {
  return text.endsWith('\r') ? text.slice(0, -1) : text;
}

/** Text at the end of a line, before its carriage return if there is one. */
function inserted(bytes: Buffer, more: string): Buffer {
  const end = bytes.at(-1) === 13 ? bytes.length - 1 : bytes.length;
  return Buffer.concat([bytes.subarray(0, end), Buffer.from(more), bytes.subarray(end)]);
}

/** The members of an object (`{…}`) behind those of another, whose text stays as it is. */
function withMembers(bytes: Buffer, object: string): Buffer {
  const end = bytes.lastIndexOf(BRACE_END);
  const empty = /\{\s*$/.test(bytes.toString('latin1', 0, end));
  const more = `${empty ? '' : ','}${object.slice(1, -1)}`;
  return Buffer.concat([bytes.subarray(0, end), Buffer.from(more), bytes.subarray(end)]);
}
