import { emptyLedger } from '../gate/index.ts';
import { VERDICTS } from '../gate/layout.ts';
import { STATS_PROTOCOLS, type StatsColumns, type StatsRecord } from '../log/other-logs.ts';
import { OneWayWatch } from './one-way.ts';
import { Stat } from './setup.ts';
import type { Snapshot } from './snapshot.ts';
import type { Station } from './station.ts';
import { BAD_REASONS, type UdpBooks, udpBooks } from './udp-books.ts';

/** Columns of stats.log: the gate's verdicts, and the books of UDP listeners where there are any. */
export function statsColumns(hasUdp: boolean): StatsColumns {
  return {
    verdicts: [
      ...Object.keys(emptyLedger()).filter((name) => name !== 'reasons'),
      ...VERDICTS.filter((verdict) => verdict !== 'aborted' && verdict !== 'shunted'),
    ],
    udp: hasUdp
      ? [
          'datagrams',
          'frames',
          'early',
          'dropped',
          'cut',
          'buffer_bytes',
          ...BAD_REASONS.map((reason) => `bad.${reason}`),
        ]
      : [],
  };
}

function udpCounts({ bad, bufferBytes, ...counts }: UdpBooks): Record<string, number> {
  const flat: Record<string, number> = { ...counts, buffer_bytes: bufferBytes };
  for (const [reason, datagrams] of Object.entries(bad)) flat[`bad.${reason}`] = datagrams;
  return flat;
}

function protocolsOf(workers: readonly Float64Array[]): NonNullable<StatsRecord['byProtocol']> {
  const sum = (place: number): number => workers.reduce((total, of) => total + of[place], 0);
  const counts = STATS_PROTOCOLS.map((name, place) => {
    const active = sum(Stat.active + place);
    return [name, { active, conns: active + sum(Stat.closed + place) }];
  });
  return Object.fromEntries(counts) as NonNullable<StatsRecord['byProtocol']>;
}

const peersOf = (stations: readonly Station[]): string => stations.map(({ name }) => name).join(',');

/** The line of stats.log about all sources. */
export function statsOfAll(stations: readonly Station[], s: Snapshot): StatsRecord {
  const { reasons, ...verdicts } = s.ledger ?? emptyLedger();
  const mirrors = stations.filter(({ kind }) => kind === 'udp');
  const udp = mirrors.length === 0 ? undefined : udpBooks(mirrors.flatMap(({ stats }) => stats));
  // What the sockets of a mirror got has passed its gate, where it has one.
  const ungated = mirrors.filter(({ gate }) => gate === undefined).flatMap(({ stats }) => stats);
  const link = (s.ledger?.seen.pkts ?? 0) + (ungated.length === 0 ? 0 : udpBooks(ungated).datagrams);
  return {
    ts: Date.now() / 1000,
    peer: peersOf(stations),
    mem: Math.round(process.memoryUsage.rss() / 2 ** 20),
    pktsProc: s.packets,
    bytesRecv: s.bytes,
    pktsDropped: s.ringDrops + s.socketDrops,
    ringFreezes: s.ringFreezes,
    cutConns: s.cutConnections,
    pktsLink: s.ledger === undefined && udp === undefined ? undefined : link,
    pktLag: Math.max(0, ...stations.flatMap(({ stats }) => stats.map((of) => of[Stat.lag]))),
    byProtocol: protocolsOf(stations.flatMap(({ stats }) => stats)),
    activeConns: s.activeFlows,
    conns: s.connections,
    shunts: s.shuntsLive,
    logLost: s.logLinesLost,
    bypass: s.localBypass,
    judged: s.judged,
    oneWay: s.oneWay,
    ledger: s.ledger === undefined ? undefined : { ...verdicts, ...reasons },
    udp: udp === undefined ? undefined : udpCounts(udp),
  };
}

/** The lines of stats.log about each worker of each source. */
export function statsOfWorkers(stations: readonly Station[]): StatsRecord[] {
  const ts = Date.now() / 1000;
  return stations.flatMap(({ name, kind, stats }) =>
    stats.map((of, worker): StatsRecord => {
      const udp = kind === 'udp' ? udpBooks([of]) : undefined;
      return {
        ts,
        peer: name,
        worker,
        pktsProc: of[Stat.packets],
        bytesRecv: of[Stat.bytes],
        pktsDropped: udp === undefined ? of[Stat.ringDrops] : udp.dropped,
        ringFreezes: udp === undefined ? of[Stat.ringFreezes] : undefined,
        cutConns: udp === undefined ? of[Stat.cutConnections] : undefined,
        pktLag: of[Stat.lag],
        byProtocol: protocolsOf([of]),
        activeConns: of[Stat.activeFlows],
        conns: of[Stat.connections],
        shunts: of[Stat.shuntsLive],
        logLost: of[Stat.logLinesLost],
        bypass: {
          connections: of[Stat.bypassedConnections],
          pkts: of[Stat.bypassedPackets],
          bytes: of[Stat.bypassedBytes],
        },
        judged: of[Stat.judged],
        oneWay: of[Stat.oneWay],
        udp: udp === undefined ? undefined : udpCounts(udp),
      };
    }),
  );
}

/** Looks at what share of TCP connections each worker sees in one direction only. */
export class OneWayWatches {
  readonly #stations: readonly Station[];
  readonly #watches = new Map<Float64Array, OneWayWatch>();

  constructor(stations: readonly Station[]) {
    this.#stations = stations;
  }

  /** Calls back for each worker of which there is something to tell. */
  look(tell: (note: string, message: string) => void): void {
    for (const { name, stats } of this.#stations)
      for (const [number, of] of stats.entries()) {
        const watch = this.#watches.get(of) ?? new OneWayWatch();
        this.#watches.set(of, watch);
        const news = watch.look(of[Stat.judged], of[Stat.oneWay]);
        if (news === undefined) continue;
        const share = `${(news.share * 100).toFixed(0)} % of ${news.of} TCP connections`;
        const worker = stats.length > 1 ? `worker ${number} of ${name}` : name;
        if (news.raised)
          tell(
            'Sluice::One_Way',
            `${worker} saw only one direction of ${share}: the mirror leaves one out, or sends the two to different places`,
          );
        else tell('Sluice::Both_Ways', `${worker} sees both directions again (one of ${share} only)`);
      }
  }
}
