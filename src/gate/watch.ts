import { BatchCursor, type BpfMap, possibleCpus } from '../kernel/index.ts';
import { SlWatchCount } from './watch-layout.gen.ts';

/** How a gate that stands alone watches flows (bpf/watch.h), and when it shunts them by itself. */
export interface GateWatch {
  /** TLS, once both sides have finished their handshake as far as can be seen. */
  tls: boolean;
  /** IP bytes of the packets with payload of one direction; 0: not by bytes. */
  bytes: number;
  /** Packets with payload of one direction; 0: not by packets. */
  packets: number;
  /** Seconds of silence after which an entry ends, and what was seen of a flow is forgotten. */
  idle: number;
  /** Place in the leases of those that the gate makes itself. */
  owner: number;
  /** Most flows of each family that are watched at a time. */
  size: number;
}

/** The last place in the leases: others are given away from the first one on. */
export const WATCH_OWNER = 255;
/** A flow that is seen now and then is not forgotten for new ones within so many seconds. */
const TURNOVER = 4;
/** Windows of bpf/watch.h in a second. */
const WINDOWS = 10;

/** Constants of bpf/watch.h; none where nothing is watched: its object may have none. */
export function watchConstants(watch: GateWatch | undefined): Record<string, number | Uint8Array> {
  if (watch === undefined) return {};
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(Math.round(watch.bytes)), true);
  return {
    cfg_watch: watch.tls ? 3 : 1,
    cfg_watch_bytes: bytes,
    cfg_watch_pkts: watch.packets,
    cfg_watch_owner: watch.owner,
    cfg_watch_idle: Math.round(watch.idle * 1000),
    cfg_watch_fresh: Math.max(1, Math.round(watch.size / TURNOVER / WINDOWS / possibleCpus())),
  };
}

/** What the watch has seen since the gate was made. */
export interface WatchCounts {
  /** Flows that were taken into the table. */
  begun: number;
  /** Of these: taken out again, as they began anew, ended, or were shunted. */
  left: number;
  /** Packets of flows that were not, as too many new ones came. */
  unwatched: number;
  /** Shunts by reason. */
  made: { tls: number; bytes: number; packets: number };
  /** Not shunted, as the flow table was full. */
  full: number;
  /** Not shunted, as an exception covers them. */
  excepted: number;
  /** Not shunted when it was time, as somebody holds them: flows, each once for as long as it is watched. */
  held: number;
}

/** The watch as `gate status` tells of it. */
export interface WatchReport extends Omit<WatchCounts, 'left'> {
  /** When it shunts. */
  tls: boolean;
  bytes: number;
  packets: number;
  /** Flows of each family that are watched now, and room for them. */
  flows4: number;
  flows6: number;
  max: number;
  /** Flows that were forgotten for others. */
  evicted: number;
}

const C = SlWatchCount.members;
const SLICE = 4096;

/** Entries of a table, counted a slice at a time off the event loop. */
async function entriesOf(map: BpfMap): Promise<number> {
  const keys = new Uint8Array(SLICE * map.keySize);
  const values = new Uint8Array(SLICE * map.valueBytes);
  const cursor = new BatchCursor();
  for (let total = 0; ; ) {
    const { count, done } = await map.readBatch(cursor, keys, values, SLICE);
    total += count;
    if (done) return total;
  }
}

/** What is watched now; undefined where nothing is. `table`: a table of the gate by its name. */
export async function watchReport(
  watch: GateWatch | undefined,
  table: (name: string) => BpfMap,
): Promise<WatchReport | undefined> {
  if (watch === undefined) return undefined;
  const [flows4, flows6] = [await entriesOf(table('watch4')), await entriesOf(table('watch6'))];
  const { left, ...counts } = readWatchCounts(table('watch_count'));
  const { tls, bytes, packets, size: max } = watch;
  const evicted = Math.max(0, counts.begun - left - flows4 - flows6);
  return { tls, bytes, packets, flows4, flows6, max, ...counts, evicted };
}

/** Sums the rows of all CPUs. */
export function readWatchCounts(map: BpfMap): WatchCounts {
  const value = new Uint8Array(map.valueBytes);
  const counts: WatchCounts = {
    begun: 0,
    left: 0,
    unwatched: 0,
    made: { tls: 0, bytes: 0, packets: 0 },
    full: 0,
    excepted: 0,
    held: 0,
  };
  if (!map.get(new Uint8Array(4), value)) return counts;
  const view = new DataView(value.buffer);
  const stride = value.length / possibleCpus();
  for (let at = 0; at < value.length; at += stride) {
    const u64 = (place: number): number =>
      view.getUint32(at + place, true) + view.getUint32(at + place + 4, true) * 2 ** 32;
    counts.begun += u64(C.begun);
    counts.left += u64(C.left);
    counts.unwatched += u64(C.unwatched);
    counts.made.tls += u64(C.made + 8);
    counts.made.bytes += u64(C.made + 16);
    counts.made.packets += u64(C.made + 24);
    counts.full += u64(C.full);
    counts.excepted += u64(C.excepted);
    counts.held += u64(C.held);
  }
  return counts;
}
