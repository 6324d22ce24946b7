import type { ShuntRow } from '../../gate/control-protocol.ts';
import type { Ledger } from '../../gate/index.ts';
import type { LossTable } from '../../gate/losses/index.ts';
import type { AttackLine, Reading } from './reading.ts';

/** A shunted flow with what was dropped of it between two readings. */
export interface TopFlow {
  proto: string;
  a: string;
  b: string;
  owner: string;
  trigger: string;
  /** Dropped since it is shunted, L2 bytes. */
  pkts: number;
  bytes: number;
  pktRate: number;
  bitRate: number;
}

export interface TopRule {
  id: string;
  expr: string;
  action: string;
  enabled: boolean;
  matched: number;
  dropped: number;
  dropRate: number;
}

/** One look at a gate or run, with rates since the one before: what `sluice top --json` prints. */
export interface TopFrame {
  /** Seconds since the epoch that the figures are of. */
  at: number;
  /** Seconds that rates are over; 0: there is no rate yet. */
  seconds: number;
  name: string;
  mode: string;
  kind: 'gate' | 'run';
  pid: number | null;
  rates: {
    seenPkts: number;
    seenBits: number;
    shuntedPkts: number;
    shuntedBits: number;
    droppedPkts: number;
    passedPkts: number;
    lostPkts: number;
  };
  ledger: Ledger | null;
  handled: { pkts: number; bytes: number } | null;
  connections: number | null;
  shunts: { live: number; listed: boolean; top: TopFlow[] };
  rules: TopRule[];
  attacks: AttackLine[];
  losses: LossTable | null;
}

export const SORTS = ['rate', 'packets', 'bytes'] as const;
export type Sort = (typeof SORTS)[number];

const KEY: Readonly<Record<Sort, (flow: TopFlow) => number>> = {
  rate: (flow) => flow.bitRate,
  packets: (flow) => flow.pktRate,
  bytes: (flow) => flow.bytes,
};

const MOST_FLOWS = 100;

const nameOf = ({ proto, a, b, vlan, innerVlan, vni }: ShuntRow): string =>
  `${proto} ${a.addr} ${a.port} ${b.addr} ${b.port} ${vlan} ${innerVlan} ${vni}`;
const end = ({ addr, port }: ShuntRow['a']): string =>
  addr.includes(':') ? `[${addr}]:${port}` : `${addr}:${port}`;

/** What two readings show; one that has none before has no rates. */
export function frameOf(now: Reading, before: Reading | undefined, sort: Sort): TopFrame {
  const seconds = before === undefined ? 0 : Math.max(0, now.at - before.at);
  // A counter that is smaller than before began anew.
  const per = (value: number, last: number): number =>
    seconds > 0 ? (value >= last ? value - last : value) / seconds : 0;
  const rate = (of: (reading: Reading) => number): number =>
    before === undefined ? 0 : per(of(now), of(before));
  const known = new Map((before?.shunts ?? []).map((row) => [nameOf(row), row]));
  const rulesBefore = new Map((before?.rules ?? []).map((rule) => [rule.id, rule]));
  return {
    at: now.at,
    seconds,
    name: now.name,
    mode: now.mode,
    kind: now.kind,
    pid: now.pid,
    rates: {
      seenPkts: rate((r) => r.ledger?.seen.pkts ?? r.handled?.pkts ?? 0),
      seenBits: 8 * rate((r) => r.ledger?.seen.bytes ?? r.handled?.bytes ?? 0),
      shuntedPkts: rate((r) => r.ledger?.shunted.pkts ?? 0),
      shuntedBits: 8 * rate((r) => r.ledger?.shunted.bytes ?? 0),
      droppedPkts: rate((r) => (r.ledger?.ruleDropped.pkts ?? 0) + (r.ledger?.rateLimited.pkts ?? 0)),
      passedPkts: rate((r) => r.ledger?.passed.pkts ?? 0),
      lostPkts: now.losses?.lost.rate ?? 0,
    },
    ledger: now.ledger ?? null,
    handled: now.handled ?? null,
    connections: now.connections ?? null,
    shunts: {
      live: now.shuntsLive,
      listed: now.shunts !== undefined,
      top: (now.shunts ?? [])
        .map((row): TopFlow => {
          const last = known.get(nameOf(row));
          const pkts = row.ab.pkts + row.ba.pkts;
          const bytes = row.ab.bytes + row.ba.bytes;
          // What began in between has all that it has from then.
          const fresh = before?.shunts !== undefined;
          const [pktsBefore, bytesBefore] =
            last === undefined
              ? [fresh ? 0 : pkts, fresh ? 0 : bytes]
              : [last.ab.pkts + last.ba.pkts, last.ab.bytes + last.ba.bytes];
          return {
            proto: row.proto,
            a: end(row.a),
            b: end(row.b),
            owner: row.owner,
            trigger: row.trigger,
            pkts,
            bytes,
            pktRate: per(pkts, pktsBefore),
            bitRate: 8 * per(bytes, bytesBefore),
          };
        })
        .toSorted((x, y) => KEY[sort](y) - KEY[sort](x) || y.bytes - x.bytes)
        .slice(0, MOST_FLOWS),
    },
    rules: now.rules.map((rule) => ({
      id: rule.id,
      expr: rule.expr,
      action: rule.action,
      enabled: rule.enabled,
      matched: rule.matched.pkts,
      dropped: rule.dropped.pkts,
      dropRate: per(rule.dropped.pkts, rulesBefore.get(rule.id)?.dropped.pkts ?? rule.dropped.pkts),
    })),
    attacks: now.attacks.filter(({ ended, attack }) => ended === null && attack),
    losses: now.losses ?? null,
  };
}
