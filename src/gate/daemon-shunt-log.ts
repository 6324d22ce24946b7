import { CommunityIds } from '../packet/community-id.ts';
import type { ShuntRow, SideRow } from './control-protocol.ts';
import { AuditLog } from './daemon-audit.ts';
import type { Shunt } from './daemon-shunt.ts';
import { protocolNumber } from './flow-key.ts';

const WELL_KNOWN = 1024;

/** What its row does not have. */
export type ShuntAbout = Pick<Shunt, 'orig' | 'trigger' | 'since'>;

/**
 * shunt.log of a gate, with the fields of that of a run (docs/logs.md) save `uid`: the connection's is the sensor's behind
 * it, which finds it by the community id.
 */
export class ShuntLog {
  readonly #file: AuditLog;
  readonly #ids = new CommunityIds(0);

  /** @throws NodeJS.ErrnoException when the file cannot be made */
  constructor(directory: string, problem: (text: string) => void) {
    this.#file = new AuditLog(directory, problem, 'shunt.log');
  }

  started(shunt: ShuntAbout, row: ShuntRow): void {
    this.#file.writeLine({ ts: row.since ?? Date.now() / 1000, ...this.#about(shunt, row, 'start') });
  }

  /** `first`: time of the first dropped packet, seconds since the epoch. */
  ended(shunt: ShuntAbout, reason: string, row: ShuntRow, first: number | undefined): void {
    const [orig, resp] = origOf(shunt, row) === 0 ? [row.ab, row.ba] : [row.ba, row.ab];
    const since = shunt.since ?? first;
    this.#file.writeLine({
      ts: Date.now() / 1000,
      ...this.#about(shunt, row, 'end'),
      reason,
      ...counts('orig', orig),
      ...counts('resp', resp),
      delay: first === undefined || since === undefined ? undefined : micro(Math.max(0, first - since)),
      last_packet: row.last === null ? undefined : micro(row.last),
    });
  }

  #about(shunt: ShuntAbout, row: ShuntRow, event: string): object {
    const { a, b, proto } = row;
    const [orig, resp] = origOf(shunt, row) === 0 ? [a, b] : [b, a];
    const ends = { origHost: orig.addr, origPort: orig.port, respHost: resp.addr, respPort: resp.port };
    return {
      'id.orig_h': orig.addr,
      'id.orig_p': orig.port,
      'id.resp_h': resp.addr,
      'id.resp_p': resp.port,
      proto: PROTOS[proto] ?? 'unknown_transport',
      event,
      shunt_trigger: row.trigger,
      community_id: this.#ids.of({ ...ends, ipProto: protocolNumber(proto) ?? 0 }),
    };
  }

  close(): void {
    this.#file.close();
  }
}

/** As conn.log calls them. */
const PROTOS: Readonly<Record<string, string>> = { tcp: 'tcp', udp: 'udp', icmp: 'icmp', icmp6: 'icmp' };

const micro = (seconds: number): number => Math.round(seconds * 1e6) / 1e6;

function counts(side: 'orig' | 'resp', { pkts, ipBytes }: SideRow): object {
  return { [`${side}_shunted_pkts`]: pkts, [`${side}_shunted_bytes`]: ipBytes };
}

/** Who opened the connection, as far as that is known: what the gate has watched, else the side of a well-known port. */
function origOf({ orig, trigger }: ShuntAbout, { a, b }: ShuntRow): 0 | 1 {
  if (orig !== undefined && trigger === 'TLS_ESTABLISHED') return orig;
  if (a.port < WELL_KNOWN !== b.port < WELL_KNOWN) return a.port < WELL_KNOWN ? 1 : 0;
  return orig ?? 0;
}
