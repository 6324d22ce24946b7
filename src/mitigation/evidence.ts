import { IpProto } from '../packet/decode.ts';
import type { SampleColumns } from './columns.ts';
import { type Attack, type Detector, TICK, type Track } from './detector.ts';
import { KINDS, KindIndex } from './kinds.ts';
import { within } from './prefix.ts';

/** What an attack looks like from near by: counts of samples and shares. */
export interface Evidence {
  samples: number;
  /** Different source addresses, and how many of equal share would be as spread. */
  sources: number;
  effectiveSources: number;
  /** Different (source, source port, target, target port). */
  flows: number;
  /** Different (target, target port). */
  places: number;
  /** Mean bytes behind the transport header. */
  payload: number;
  /** Share whose source no packet can come from (RFC 6890, multicast, reserved). */
  impossible: number;
  /** Share that is of sources to which the target sends too, or that have a TCP connection with it. */
  conversing: number;
  /** ACKs that the target itself sends beyond what it sends usually, per packet of the attack; 0 of other kinds than ACK floods. */
  answered: number;
  /** Requests that the target itself sends to the port that the attack comes from, per packet of it; 0 of other kinds than amplification. */
  asked: number;
  /** Packets a second beyond what is usual to the same target, by kind of packets, per one of the attack's. */
  beside: { ack: number; syn: number; udp: number; initial: number };
}

export type Judgement =
  | { attack: true; why: string }
  | { attack: false; surprise: 'flash-crowd' | 'bulk' | 'scan' | 'answers'; why: string };

/** Ticks of samples that are looked at. */
export const EVIDENCE_TICKS = 4;

const pair = (columns: SampleColumns, row: number, turned: boolean): string => {
  const a = turned ? columns.target : columns.source;
  const b = turned ? columns.source : columns.target;
  const at = 4 * row;
  return `${a[at]} ${a[at + 1]} ${a[at + 2]} ${a[at + 3]} ${b[at]} ${b[at + 1]} ${b[at + 2]} ${b[at + 3]}`;
};

function isImpossible(columns: SampleColumns, row: number): boolean {
  const word = columns.source[4 * row + 3];
  if (columns.family[row] !== 4) return columns.source[4 * row] >>> 29 !== 1;
  const first = word >>> 24;
  return first === 0 || first === 127 || first >= 224;
}

/** Rows of the window that the attack consists of, since it began. */
export function attackRows(detector: Detector, attack: Attack, ticks = EVIDENCE_TICKS): number[] {
  const { recent, recentKind } = detector.window;
  return detector.window
    .rows(ticks)
    .filter(
      (row) => recent.time[row] >= attack.began && detector.belongs(attack, recent, row, recentKind[row]),
    );
}

export function evidenceOf(detector: Detector, attack: Attack, rows: readonly number[]): Evidence {
  const { recent, recentKind } = detector.window;
  const { track } = attack;
  const sources = new Map<string, number>();
  const flows = new Set<string>();
  const places = new Set<string>();
  const pairs = new Map<string, number>();
  let payload = 0;
  let impossible = 0;
  for (const row of rows) {
    const at = 4 * row;
    const source = recent.source.subarray(at, at + 4).join('.');
    const place = `${recent.target.subarray(at, at + 4).join('.')} ${recent.dport[row]}`;
    sources.set(source, (sources.get(source) ?? 0) + 1);
    flows.add(`${source} ${recent.sport[row]} ${place}`);
    places.add(place);
    const between = pair(recent, row, false);
    pairs.set(between, (pairs.get(between) ?? 0) + 1);
    payload += recent.payloadBytes[row];
    if (isImpossible(recent, row)) impossible++;
  }
  const n = Math.max(1, rows.length);
  let squares = 0;
  for (const count of sources.values()) squares += (count / n) ** 2;
  const all = detector.window.rows(EVIDENCE_TICKS).filter((row) => recent.time[row] >= attack.began);
  const conversing = new Set<string>();
  const beside = new Map<number, number>();
  const own = weightOf(recent, rows);
  for (const row of all) {
    const back = pair(recent, row, true);
    if (pairs.has(back)) conversing.add(back);
    const forth = pair(recent, row, false);
    if (track.kind !== KindIndex.ack && recentKind[row] === KindIndex.ack && pairs.has(forth))
      conversing.add(forth);
    if (reaches(track, recent, row)) {
      const kind = recentKind[row];
      beside.set(kind, (beside.get(kind) ?? 0) + recent.weight[row]);
    }
  }
  const seconds = Math.max(TICK, detector.now - attack.began) / 1e9;
  const span = Math.min(seconds, (EVIDENCE_TICKS * TICK) / 1e9);
  // What its prefix has usually is not known of names: what is beside them is not looked at.
  const over = (kind: number): number =>
    own === 0 ? 0 : Math.max(0, (beside.get(kind) ?? 0) - detector.usual(track, kind) * span) / own;
  return {
    samples: rows.length,
    sources: sources.size,
    effectiveSources: squares === 0 ? 0 : 1 / squares,
    flows: flows.size,
    places: places.size,
    payload: payload / n,
    impossible: impossible / n,
    conversing: [...conversing].reduce((sum, between) => sum + (pairs.get(between) ?? 0), 0) / n,
    answered: answersOf(detector, attack, all, own, span),
    asked: own === 0 ? 0 : requestsOf(recent, all, track) / own,
    beside: {
      ack: over(KindIndex.ack),
      syn: over(KindIndex.syn),
      udp: over(KindIndex.udp),
      initial: over(KindIndex.quicInitial),
    },
  };
}

/** Who is talked with sends as well: in connections that are used, and to nobody who made his address up. */
function answersOf(
  { window: { recent, recentKind, usual, usualKind } }: Detector,
  { track, usual: usualRate }: Attack,
  rows: readonly number[],
  own: number,
  span: number,
): number {
  const { target } = track;
  if (target === undefined || track.kind !== KindIndex.ack || own === 0) return 0;
  let sent = 0;
  for (const row of rows)
    if (recentKind[row] === KindIndex.ack && within(target, recent.family[row], recent.source, row))
      sent += recent.weight[row];
  let usualIn = 0;
  let usualOut = 0;
  for (let row = 0; row < usual.count; row++) {
    if (usualKind[row] !== KindIndex.ack) continue;
    if (within(target, usual.family[row], usual.target, row)) usualIn++;
    if (within(target, usual.family[row], usual.source, row)) usualOut++;
  }
  const usually = usualIn === 0 ? 0 : (usualOut / usualIn) * usualRate * span;
  return Math.max(0, sent - usually) / own;
}

/** What the target itself sends to the service that answers it, packets. */
function requestsOf(recent: SampleColumns, rows: readonly number[], { target, kind }: Track): number {
  const { reflector } = KINDS[kind];
  if (target === undefined || reflector === 0) return 0;
  let asked = 0;
  for (const row of rows)
    if (
      recent.protocol[row] === IpProto.udp &&
      recent.dport[row] === reflector &&
      within(target, recent.family[row], recent.source, row)
    )
      asked += recent.weight[row];
  return asked;
}

const reaches = ({ target }: Track, columns: SampleColumns, row: number): boolean =>
  target !== undefined && within(target, columns.family[row], columns.target, row);

const weightOf = (columns: SampleColumns, rows: readonly number[]): number =>
  rows.reduce((sum, row) => sum + columns.weight[row], 0);

/** Sources that are few: hosts that do something, not many that were told to, or nobody's addresses. */
const FEW = 4;

/** Requests of the target for each answer of one datagram: half of them may not have been sampled, or gone another way. */
const ASKED = 0.5;

/** ACKs of the target for each one that it gets: in connections about one for two segments or more (RFC 9293 section 3.8.6.3). */
const ANSWERED = 0.3;

const no = (surprise: 'flash-crowd' | 'bulk' | 'scan' | 'answers', why: string): Judgement => ({
  attack: false,
  surprise,
  why,
});

/** Whether it is an attack, or one of the things that look like one: many people, much data, somebody looking around. */
export function judge(attack: Attack, e: Evidence): Judgement {
  const { kind, level } = attack.track;
  const few = e.effectiveSources <= FEW;
  const scan = few && e.payload < 64 && e.places > 0.5 * e.samples && (level > 0 || kind === KindIndex.syn);
  switch (kind) {
    case KindIndex.syn:
      if (scan) return no('scan', 'few sources ask many places once each');
      if (e.beside.ack >= 1.5) return no('flash-crowd', 'the connections are completed and used');
      return { attack: true, why: 'connections are asked for and not completed' };
    case KindIndex.synAck:
      if (e.beside.ack >= 1.5) return no('answers', 'the connections are used');
      return { attack: true, why: 'answers to connections that nobody has asked for' };
    case KindIndex.ack:
      if (few && e.flows <= 16 * Math.max(1, e.sources)) return no('bulk', 'few connections carry all of it');
      if (e.answered >= ANSWERED) return no('flash-crowd', 'the target answers in the connections');
      if (e.beside.syn >= 0.01) return no('flash-crowd', 'connections were opened for it');
      return { attack: true, why: 'segments of connections that were never opened' };
    case KindIndex.rst:
      if (few && scan) return no('answers', 'few sources refuse what they were asked');
      return { attack: true, why: 'resets of connections that were never there' };
    case KindIndex.quicInitial:
      if (e.beside.udp >= 1.5) return no('flash-crowd', 'the connections go on behind their beginning');
      return { attack: true, why: 'connections begin and do not go on' };
    case KindIndex.udp:
      if (scan) return no('scan', 'few sources ask many places once each');
      if (few && e.flows <= 16 * Math.max(1, e.sources) && e.conversing >= 0.5)
        return no('bulk', 'few sources, which the target is in conversation with');
      if (!few && e.beside.initial >= 0.02) return no('flash-crowd', 'QUIC connections were opened for it');
      return { attack: true, why: 'datagrams of no conversation' };
    case KindIndex.icmp:
      if (scan) return no('scan', 'few sources ask many places once each');
      return { attack: true, why: 'far more than is usual' };
    case KindIndex.gre:
    case KindIndex.ip:
    case KindIndex.fragment:
      if (few && e.conversing >= 0.5)
        return no('bulk', 'few sources, which the target is in conversation with');
      return { attack: true, why: 'far more than is usual' };
    default:
      if (KINDS[kind].reflector !== 0 && e.asked >= ASKED)
        return no('answers', 'the target has asked for them');
      return { attack: true, why: 'far more than is usual' };
  }
}
