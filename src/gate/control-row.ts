import type { ShuntRow, SideRow } from './control-protocol.ts';
import type { DirectionCounts, Entry } from './entry.ts';
import { flowOfKey } from './flow-key.ts';
import { State } from './layout.ts';

const ETHERNET = 14;
const TAG = 4;
const LEAST_TCP = { 4: 40, 6: 60 } as const;
const STATES = { [State.armed]: 'armed', [State.shunt]: 'shunted', [State.ending]: 'ending' } as const;

/** What is known of an entry beside its key and counters. */
export interface RowAbout {
  owner: string;
  trigger: string;
  since: number | undefined;
  expires: number | undefined;
  /** TCP: the sequence ends when it was added, per side; undefined when they were learned. */
  start: readonly [number, number] | undefined;
}

/** An entry as it is told to others. `offset` is CLOCK_REALTIME − CLOCK_MONOTONIC in seconds. */
export function shuntRow(
  family: 4 | 6,
  key: Uint8Array,
  entry: Entry,
  about: RowAbout,
  offset: number,
): ShuntRow {
  const { tcp, ...flow } = flowOfKey(family, key);
  const [ab, ba] = entry.dirs;
  const layer2 = ETHERNET + TAG * (Number(flow.vlan !== 0) + Number(flow.innerVlan !== 0));
  const side = (dir: DirectionCounts, number: 0 | 1): SideRow => ({
    pkts: dir.pkts,
    bytes: dir.ipBytes + dir.pkts * layer2,
    ipBytes: dir.ipBytes,
    payloadBytes: tcp ? tcpPayload(dir, startOf(about, entry, number), family) : dir.payloadBytes,
  });
  const began = entry.first > 0 ? entry.first + offset : undefined;
  const [s0, s1] = [ab.state, ba.state];
  const state = s0 === State.ending || s1 === State.ending ? State.ending : s0;
  return {
    ...flow,
    owner: about.owner,
    trigger: about.trigger,
    since: about.since ?? began ?? null,
    last: entry.pkts > 0 ? entry.last + offset : null,
    expires: about.expires === undefined ? null : about.expires + offset,
    state: STATES[state as keyof typeof STATES] ?? 'ending',
    ab: side(ab, 0),
    ba: side(ba, 1),
    tcp: tcp
      ? {
          seq: [ab.seq, ba.seq],
          ack: [ab.ack, ba.ack],
          rexmits: [ab.rexmits, ba.rexmits],
          zeroWindows: [ab.zeroWindows, ba.zeroWindows],
          exact:
            ([0, 1] as const).every(
              (n) => entry.dirs[n].pkts === 0 || startOf(about, entry, n) !== undefined,
            ) &&
            (about.start !== undefined || entry.made > 0 || entry.threshold),
        }
      : null,
  };
}

/** Where the sequence of a side stood when the shunt began: of those that the gate has begun by itself it says so. */
function startOf(about: RowAbout, entry: Entry, side: 0 | 1): number | undefined {
  return entry.made > 0 || entry.threshold ? entry.dirs[side].began : about.start?.[side];
}

function tcpPayload(dir: DirectionCounts, start: number | undefined, family: 4 | 6): number {
  if (start === undefined) return Math.max(0, dir.ipBytes - dir.pkts * LEAST_TCP[family]);
  const payload = dir.seqWraps * 2 ** 32 + dir.seq - start;
  // A wrap from before the gate began to shunt.
  return payload - dir.ipBytes >= 2 ** 32 ? payload - 2 ** 32 : payload;
}
