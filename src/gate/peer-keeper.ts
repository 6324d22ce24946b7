import { BatchCursor, type BpfMap, possibleCpus } from '../kernel/index.ts';
import { ipText } from '../packet/address.ts';
import { monotonicSeconds } from './clock.ts';
import type { PairRow, PeerStatus, ShuntRow, SideRow } from './control-protocol.ts';
import { mappedText } from './exceptions.ts';
import { keyText, protocolName } from './flow-key.ts';
import {
  PeerSuricataKey4,
  PeerSuricataKey6,
  PeerSuricataValue,
  PeerZeekKey,
  PeerZeekPairKey,
  PeerZeekValue,
} from './peer-layout.gen.ts';
import type { GatePeers, PeerTableName } from './peers.ts';
import { nextTurn, Portion } from './turns.ts';

/** Entries of a table that are read in one call, and looked at in one turn of the event loop. */
const BATCH = 1024;
const PORTION = 256;
/** Looking takes a fiftieth of a processor at most. */
const SHARE = 50;
const LEAST_MS = 500;

const ENDED = 0x5e1de9d1;
/** Why an entry is over that its sensor has taken out. */
const REMOVED = 'removed';
const ETHERNET = 14;
const TAG = 4;
const IPPROTO_TCP = 6;
const IPPROTO_UDP = 17;

/** What of a sensor's table is told to others. */
export interface PeerEvents {
  started(row: ShuntRow): void;
  ended(row: ShuntRow, reason: string): void;
  pairStarted(row: PairRow): void;
  pairEnded(row: PairRow, reason: string): void;
}

interface Flow {
  row: ShuntRow;
  /** The look that saw it last. */
  seen: number;
}

interface Pair {
  row: PairRow;
  seen: number;
}

/**
 * Follows what other sensors write into their tables: who has come is told, and who has gone, with the counts as they were
 * last seen. Only looks: the kernel acts on the tables itself, and the sensors take out what they have put in.
 */
export class PeerKeeper {
  readonly #peers: GatePeers;
  readonly #table: (name: PeerTableName) => BpfMap;
  readonly #events: PeerEvents;
  readonly #flows = new Map<string, Flow>();
  readonly #pairs = new Map<string, Pair>();
  #look = 0;
  #next = 0;
  #looking: Promise<void> | undefined;
  #stopped = false;

  constructor(peers: GatePeers, table: (name: PeerTableName) => BpfMap, events: PeerEvents) {
    this.#peers = peers;
    this.#table = table;
    this.#events = events;
  }

  /** To be called from time to time: looks when it is time for it. */
  async tick(): Promise<void> {
    if (this.#stopped || performance.now() < this.#next) return await this.#looking;
    this.#looking ??= this.#lookAll().finally(() => (this.#looking = undefined));
    await this.#looking;
  }

  /** The gate is off for good: takes the last counts, and tells of the end of all. */
  async finish(reason: string): Promise<void> {
    await this.#looking?.catch(() => {});
    await this.#lookAll();
    this.#stopped = true;
    for (const { row } of this.#flows.values()) this.#events.ended(row, reason);
    for (const { row } of this.#pairs.values()) this.#events.pairEnded(row, reason);
    this.#flows.clear();
    this.#pairs.clear();
  }

  /** Those of a sensor, or all. */
  *rows(owner?: string): Generator<ShuntRow> {
    for (const { row } of this.#flows.values()) if (owner === undefined || row.owner === owner) yield row;
  }

  *pairRows(): Generator<PairRow> {
    for (const { row } of this.#pairs.values()) yield row;
  }

  status(): PeerStatus {
    const count = { zeek: 0, 4: 0, 6: 0 };
    for (const { row } of this.#flows.values())
      count[row.owner === 'zeek' ? 'zeek' : row.a.addr.includes(':') ? 6 : 4]++;
    const { zeek, suricata } = this.#peers;
    return {
      zeek:
        zeek === undefined
          ? null
          : { flows: count.zeek, pairs: this.#pairs.size, max: this.#table('shunt_map').maxEntries },
      suricata:
        suricata === undefined
          ? null
          : { flows4: count[4], flows6: count[6], max: this.#table('flow_table_v4').maxEntries },
    };
  }

  async #lookAll(): Promise<void> {
    const began = performance.now();
    this.#look++;
    const now = Date.now() / 1000;
    if (this.#peers.zeek !== undefined) {
      await this.#each('shunt_map', (key, value, at) => this.#zeekFlow(key, value, at, now));
      await this.#each('ip_pair_map', (key, value, at) => this.#zeekPair(key, value, at));
    }
    if (this.#peers.suricata !== undefined) {
      await this.#each('flow_table_v4', (key, value, at) => this.#suricata(4, key, value, at, now));
      await this.#each('flow_table_v6', (key, value, at) => this.#suricata(6, key, value, at, now));
    }
    for (const [text, { row, seen }] of this.#flows) {
      if (seen === this.#look) continue;
      this.#flows.delete(text);
      this.#events.ended(row, REMOVED);
    }
    for (const [text, { row, seen }] of this.#pairs) {
      if (seen === this.#look) continue;
      this.#pairs.delete(text);
      this.#events.pairEnded(row, REMOVED);
    }
    const took = performance.now() - began;
    this.#next = performance.now() + Math.max(LEAST_MS, took * SHARE);
  }

  async #each(
    name: PeerTableName,
    take: (key: Uint8Array, values: DataView, at: number) => void,
  ): Promise<void> {
    const map = this.#table(name);
    const keys = new Uint8Array(map.keySize * BATCH);
    const values = new Uint8Array(map.valueBytes * BATCH);
    const view = new DataView(values.buffer);
    const cursor = new BatchCursor();
    const portion = new Portion(PORTION);
    for (let done = false; !done && !this.#stopped; ) {
      const read = await map.readBatch(cursor, keys, values, BATCH);
      done = read.done;
      for (let i = 0; i < read.count; i++) {
        take(keys.subarray(i * map.keySize, (i + 1) * map.keySize), view, i * map.valueBytes);
        if (portion.full()) await nextTurn();
      }
    }
  }

  #zeekFlow(key: Uint8Array, values: DataView, at: number, now: number): void {
    const text = `z${keyText(key)}`;
    const known = this.#flows.get(text);
    const row = known?.row ?? zeekRow(key, now);
    const V = PeerZeekValue.members;
    const layer2 = layer2Of(row);
    setSide(row.ab, word64(values, at + V.packets_from_1), word64(values, at + V.bytes_from_1), layer2);
    setSide(row.ba, word64(values, at + V.packets_from_2), word64(values, at + V.bytes_from_2), layer2);
    const last = word64(values, at + V.last);
    row.last = last === 0 ? null : now - monotonicSeconds() + last / 1e9;
    row.state = values.getUint32(at + V.ended, true) === ENDED ? 'ending' : 'shunted';
    this.#saw(text, known, row);
  }

  #zeekPair(key: Uint8Array, values: DataView, at: number): void {
    const text = keyText(key);
    const known = this.#pairs.get(text);
    const view = viewOf(key);
    const K = PeerZeekPairKey.members;
    const V = PeerZeekValue.members;
    const row = known?.row ?? {
      a: mappedText(key, K.ip1),
      b: mappedText(key, K.ip2),
      vlan: view.getUint16(K.outer_vlan, true),
      innerVlan: view.getUint16(K.inner_vlan, true),
      owner: 'zeek',
      expires: null,
      last: null,
      ab: { pkts: 0, ipBytes: 0 },
      ba: { pkts: 0, ipBytes: 0 },
    };
    const layer2 = layer2Of(row);
    for (const [side, pkts, bytes] of [
      [row.ab, V.packets_from_1, V.bytes_from_1],
      [row.ba, V.packets_from_2, V.bytes_from_2],
    ] as const) {
      side.pkts = word64(values, at + pkts);
      side.ipBytes = Math.max(0, word64(values, at + bytes) - side.pkts * layer2);
    }
    const last = word64(values, at + V.last);
    row.last = last === 0 ? null : Date.now() / 1000 - monotonicSeconds() + last / 1e9;
    if (known === undefined) this.#events.pairStarted(row);
    this.#pairs.set(text, { row, seen: this.#look });
  }

  /** An entry is one direction: both are one flow here, known by the direction that was seen first. */
  #suricata(family: 4 | 6, key: Uint8Array, values: DataView, at: number, now: number): void {
    const text = `s${keyText(key)}`;
    const other = `s${keyText(reversed(family, key))}`;
    const known = this.#flows.get(text);
    const back = known === undefined ? this.#flows.get(other) : undefined;
    const flow = known ?? back;
    const row = flow?.row ?? suricataRow(family, key, this.#peers.suricata?.hostOrder === true, now);
    const V = PeerSuricataValue.members;
    const cpus = this.#peers.suricata?.shared === true ? 1 : possibleCpus();
    let pkts = 0;
    let bytes = 0;
    for (let cpu = 0; cpu < cpus; cpu++) {
      pkts += word64(values, at + cpu * PeerSuricataValue.size + V.packets);
      bytes += word64(values, at + cpu * PeerSuricataValue.size + V.bytes);
    }
    const side = back === undefined ? row.ab : row.ba;
    if (pkts !== side.pkts) row.last = now;
    setSide(side, pkts, bytes, layer2Of(row));
    this.#saw(back === undefined ? text : other, flow, row);
  }

  #saw(text: string, known: Flow | undefined, row: ShuntRow): void {
    if (known !== undefined) {
      known.seen = this.#look;
      return;
    }
    this.#flows.set(text, { row, seen: this.#look });
    this.#events.started(row);
  }
}

const viewOf = (key: Uint8Array): DataView => new DataView(key.buffer, key.byteOffset, key.byteLength);

function word64(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 2 ** 32 + view.getUint32(at, true);
}

function layer2Of({ vlan, innerVlan }: { vlan: number; innerVlan: number }): number {
  return ETHERNET + TAG * (Number(vlan !== 0) + Number(innerVlan !== 0));
}

const emptySide = (): SideRow => ({ pkts: 0, bytes: 0, ipBytes: 0, payloadBytes: 0 });

/** The sensors count L2 bytes; of payload there is only an upper bound. */
function setSide(side: SideRow, pkts: number, bytes: number, layer2: number): void {
  side.pkts = pkts;
  side.bytes = bytes;
  side.ipBytes = Math.max(0, bytes - pkts * layer2);
  side.payloadBytes = side.ipBytes;
}

function emptyRow(owner: string, now: number): Omit<ShuntRow, 'proto' | 'a' | 'b' | 'vlan' | 'innerVlan'> {
  return {
    vni: 0,
    owner,
    trigger: owner,
    since: now,
    last: null,
    expires: null,
    state: 'shunted',
    ab: emptySide(),
    ba: emptySide(),
    tcp: null,
  };
}

function zeekRow(key: Uint8Array, now: number): ShuntRow {
  const view = viewOf(key);
  const K = PeerZeekKey.members;
  return {
    proto: protocolName(view.getUint16(K.protocol, true)),
    a: { addr: mappedText(key, K.ip1), port: view.getUint16(K.port1, true) },
    b: { addr: mappedText(key, K.ip2), port: view.getUint16(K.port2, true) },
    vlan: view.getUint16(K.outer_vlan, true),
    innerVlan: view.getUint16(K.inner_vlan, true),
    ...emptyRow('zeek', now),
  };
}

function suricataRow(family: 4 | 6, given: Uint8Array, hostOrder: boolean, now: number): ShuntRow {
  const K = (family === 4 ? PeerSuricataKey4 : PeerSuricataKey6).members;
  const size = family === 4 ? 4 : 16;
  const key = hostOrder ? turned(given, 2 * size) : given;
  const view = viewOf(key);
  const vlan0 = view.getUint16(K.vlan0, true);
  return {
    proto: protocolName((vlan0 & 1) === 1 ? IPPROTO_TCP : IPPROTO_UDP),
    a: { addr: ipText(key, K.src, size), port: view.getUint16(K.sport) },
    b: { addr: ipText(key, K.dst, size), port: view.getUint16(K.dport) },
    vlan: vlan0 >>> 1,
    innerVlan: view.getUint16(K.vlan1, true),
    ...emptyRow('suricata', now),
  };
}

/** Words of addresses, then two ports, in the other byte order. */
function turned(key: Uint8Array, addresses: number): Uint8Array {
  const out = Uint8Array.from(key);
  for (let at = 0; at < addresses; at += 4) out.subarray(at, at + 4).reverse();
  for (const at of [addresses, addresses + 2]) out.subarray(at, at + 2).reverse();
  return out;
}

/** The key of the other direction. */
function reversed(family: 4 | 6, key: Uint8Array): Uint8Array {
  const size = family === 4 ? 4 : 16;
  const out = Uint8Array.from(key);
  out.set(key.subarray(size, 2 * size), 0);
  out.set(key.subarray(0, size), size);
  out.set(key.subarray(2 * size + 2, 2 * size + 4), 2 * size);
  out.set(key.subarray(2 * size, 2 * size + 2), 2 * size + 2);
  return out;
}
