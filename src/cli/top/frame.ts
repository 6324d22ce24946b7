import type { Ledger } from '../../gate/index.ts';
import type { LossTable } from '../../gate/losses/index.ts';
import type { AttackLine, FlowLine, Lists, Reading, TalkerLine } from './reading.ts';

/** A shunted flow with what was dropped of it between two readings. */
export interface TopFlow {
  proto: string;
  a: string;
  b: string;
  /** Ids of VLANs and tunnels, as `sluice shunt add` takes them; empty: none. */
  ids: string;
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
  /** The same of flows and rules, which an API looks up less often. */
  listSeconds: number;
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
  /** Of connections that ended in so many seconds; null: of what is shunted alone. */
  talkers: { seconds: number | null; top: TalkerLine[] };
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

const idsOf = ({ vlan, innerVlan, vni, geneveVni }: FlowLine): string =>
  [
    vlan === 0 ? '' : `vlan ${vlan}${innerVlan === 0 ? '' : `.${innerVlan}`}`,
    vni === 0 ? '' : `vni ${vni}`,
    geneveVni === 0 ? '' : `geneve-vni ${geneveVni}`,
  ]
    .filter((text) => text !== '')
    .join(' ');
const nameOf = (flow: FlowLine): string =>
  `${flow.proto} ${end(flow.a)} ${end(flow.b)} ${flow.vlan} ${flow.innerVlan} ${flow.vni} ${flow.geneveVni}`;
const end = ({ addr, port }: FlowLine['a']): string =>
  addr.includes(':') ? `[${addr}]:${port}` : `${addr}:${port}`;

/** A counter that is smaller than before began anew. */
const perSecond =
  (seconds: number) =>
  (value: number, last: number): number =>
    seconds > 0 ? (value >= last ? value - last : value) / seconds : 0;

function flowsOf(now: Lists, before: Lists | undefined, sort: Sort): TopFlow[] {
  const per = perSecond(before === undefined ? 0 : now.at - before.at);
  const known = new Map((before?.shunts ?? []).map((flow) => [nameOf(flow), flow]));
  return (now.shunts ?? [])
    .map((flow): TopFlow => {
      const { proto, owner, trigger, pkts, bytes } = flow;
      // What began in between has all that it has from then.
      const isFresh = before?.shunts !== undefined && now.whole;
      const last = known.get(nameOf(flow)) ?? (isFresh ? { pkts: 0, bytes: 0 } : flow);
      return {
        proto,
        a: end(flow.a),
        b: end(flow.b),
        ids: idsOf(flow),
        owner,
        trigger,
        pkts,
        bytes,
        pktRate: per(pkts, last.pkts),
        bitRate: 8 * per(bytes, last.bytes),
      };
    })
    .toSorted((x, y) => KEY[sort](y) - KEY[sort](x) || y.bytes - x.bytes)
    .slice(0, MOST_FLOWS);
}

function rulesOf(now: Lists, before: Lists | undefined): TopRule[] {
  const per = perSecond(before === undefined ? 0 : now.at - before.at);
  const known = new Map((before?.rules ?? []).map((rule) => [rule.id, rule]));
  return now.rules.map(({ id, expr, action, enabled, matched, dropped }) => ({
    id,
    expr,
    action,
    enabled,
    matched: matched.pkts,
    dropped: dropped.pkts,
    dropRate: per(dropped.pkts, known.get(id)?.dropped.pkts ?? dropped.pkts),
  }));
}

/** What two readings show; one that has none before has no rates. */
export function frameOf(now: Reading, before: Reading | undefined, sort: Sort): TopFrame {
  const seconds = before === undefined ? 0 : Math.max(0, now.at - before.at);
  const per = perSecond(seconds);
  const rate = (of: (reading: Reading) => number): number =>
    before === undefined ? 0 : per(of(now), of(before));
  return {
    at: now.at,
    seconds,
    listSeconds: now.listsBefore === undefined ? 0 : now.lists.at - now.listsBefore.at,
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
      listed: now.lists.shunts !== undefined,
      top: flowsOf(now.lists, now.listsBefore, sort),
    },
    talkers: { seconds: now.lists.talkersOf, top: now.lists.talkers },
    rules: rulesOf(now.lists, now.listsBefore),
    attacks: now.lists.attacks.filter(({ ended, attack }) => ended === null && attack),
    losses: now.losses ?? null,
  };
}
