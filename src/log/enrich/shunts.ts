import { SluiceError } from '../../base/errors.ts';
import { type LoggedFlow, loggedFlow, numberOf, textOf, timeOf } from './flows.ts';
import { logFileLines } from './lines.ts';
import { TsvHeading } from './tsv.ts';

/** What the gate dropped of one connection: packets and IP bytes. */
export interface Dropped {
  origPkts: number;
  origBytes: number;
  respPkts: number;
  respBytes: number;
  trigger: string;
}

/** One shunt of shunt.log that dropped something. */
export interface LoggedShunt extends Dropped {
  flow: LoggedFlow;
  /** Lines of the other log that overlap with it: in time, and only within the tolerance. */
  exact: number;
  near: number;
  /** It was added to a line. */
  given: boolean;
}

/** Shunts that are kept in memory at a time: some 400 bytes each. */
export const MOST_SHUNTS = 1_000_000;

type Values = (field: string) => unknown;

/** shunt.log, by uid and by what else connections are joined by. */
export class ShuntIndex {
  readonly byUid = new Map<string, LoggedShunt[]>();
  readonly byKey = new Map<string, LoggedShunt[]>();
  readonly all: LoggedShunt[] = [];
  /** Lines that were not understood. */
  malformed = 0;
  readonly #most: number;
  /** When shunts began that have not ended yet. */
  readonly #begun = new Map<string, number>();

  constructor(most = MOST_SHUNTS) {
    this.#most = most;
  }

  /** Reads a shunt.log, JSON or Zeek's TSV, plain or packed. @throws SluiceError FILE, FILE_FORMAT, LIMIT */
  async read(path: string): Promise<void> {
    const heading = new TsvHeading();
    for await (const { bytes, whole } of logFileLines(path)) {
      const line = bytes.toString('utf8').trimEnd();
      if (line === '') continue;
      if (line.startsWith('#')) heading.take(line);
      else this.#take(whole ? valuesOf(line, heading) : undefined);
    }
  }

  #take(values: Values | undefined): void {
    const event = textOf(values?.('event'));
    const flow = values === undefined ? undefined : flowOf(values);
    if (values === undefined || event === undefined) {
      this.malformed++;
      return;
    }
    // Address pairs belong to no connection.
    if (values('proto') === 'pair') return;
    if (flow === undefined) {
      this.malformed++;
      return;
    }
    const name = flow.uid ?? flow.key ?? '';
    const ts = timeOf(values('ts'));
    if (event === 'start') {
      if (ts !== undefined) this.#begun.set(name, ts);
      if (this.#begun.size > this.#most) throw this.#full();
      return;
    }
    const count = (field: string): number => Math.max(0, numberOf(values(field)) ?? 0);
    const dropped = {
      origPkts: count('orig_shunted_pkts'),
      origBytes: count('orig_shunted_bytes'),
      respPkts: count('resp_shunted_pkts'),
      respBytes: count('resp_shunted_bytes'),
      trigger: textOf(values('shunt_trigger')) ?? '',
    };
    const begun = this.#begun.get(name);
    this.#begun.delete(name);
    if (dropped.origPkts + dropped.respPkts === 0) return;
    const last = timeOf(values('last_packet'));
    const to = last ?? ts;
    this.#add({ ...dropped, flow: { ...flow, from: begun ?? to, to }, exact: 0, near: 0, given: false });
  }

  #add(shunt: LoggedShunt): void {
    if (this.all.length >= this.#most) throw this.#full();
    this.all.push(shunt);
    const { uid, key } = shunt.flow;
    if (uid !== undefined) push(this.byUid, uid, shunt);
    if (key !== undefined) push(this.byKey, key, shunt);
  }

  #full(): SluiceError {
    return new SluiceError(
      'LIMIT',
      `shunt.log has more than ${this.#most} shunts, which are kept in memory`,
      {
        help: 'join the logs of shorter times, or raise --max-shunts',
      },
    );
  }
}

function push<T>(map: Map<string, T[]>, key: string, value: T): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}

function valuesOf(line: string, heading: TsvHeading): Values | undefined {
  if (!line.startsWith('{')) return heading.values(line);
  try {
    const record = JSON.parse(line) as Record<string, unknown>;
    return (field) => (Object.hasOwn(record, field) ? record[field] : undefined);
  } catch {
    return undefined;
  }
}

/** The endpoints of a line with Zeek's names. */
export function flowOf(values: Values): LoggedFlow | undefined {
  const from = timeOf(values('ts'));
  const duration = numberOf(values('duration')) ?? 0;
  return loggedFlow({
    uid: textOf(values('uid')),
    proto: textOf(values('proto')),
    orig: textOf(values('id.orig_h')),
    origPort: numberOf(values('id.orig_p')),
    resp: textOf(values('id.resp_h')),
    respPort: numberOf(values('id.resp_p')),
    communityId: textOf(values('community_id')),
    from,
    to: from === undefined ? undefined : from + Math.max(0, duration),
  });
}
