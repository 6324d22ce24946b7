import { existsSync, lstatSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { SluiceError } from '../base/errors.ts';
import { BpfMap, type BpfObject, ensureBpffs, MapType } from '../kernel/index.ts';
import { type Abi, ZEEK_DIRECTORY } from './abi.ts';
import {
  PeerSuricataKey4,
  PeerSuricataKey6,
  PeerSuricataValue,
  PeerZeekKey,
  PeerZeekPairKey,
  PeerZeekValue,
} from './peer-layout.gen.ts';
import { peerPinsInUse, setAccess } from './peer-pins.ts';
import { checkOwn, makeDirectory, type PinAccess } from './pins.ts';

/** Other sensors whose own tables the gate serves (docs/adr/0036-peers.md). */
export interface GatePeers {
  zeek: { directory: string; entries: number } | undefined;
  suricata: { entries: number; shared: boolean; hostOrder: boolean } | undefined;
}

/** Room that xdp-zeek's loader makes. */
const ZEEK_ENTRIES = 65_535;
/** As Suricata's own program has it. */
const SURICATA_ENTRIES = 32_768;

/** From the options of `gate up`. @throws SluiceError USAGE */
export function gatePeers(
  abis: readonly Abi[],
  given: { zeekPins?: string | undefined; entries?: number | undefined },
): GatePeers | undefined {
  const suricata = abis.filter((abi) => abi.startsWith('suricata'));
  if (suricata.length > 1)
    throw new SluiceError('USAGE', `${suricata.join(' and ')} are the same tables in different forms`, {
      help: 'docs/suricata.md says which of them is for what',
    });
  if (abis.length === 0) return undefined;
  return {
    zeek: abis.includes('zeek')
      ? { directory: given.zeekPins ?? ZEEK_DIRECTORY, entries: given.entries ?? ZEEK_ENTRIES }
      : undefined,
    suricata:
      suricata[0] === undefined
        ? undefined
        : {
            entries: given.entries ?? SURICATA_ENTRIES,
            shared: suricata[0] === 'suricata-shared',
            hostOrder: suricata[0] === 'suricata-filter',
          },
  };
}

/** Tables in the object of a gate with peers that are theirs, by name. */
export const PEER_TABLES = ['shunt_map', 'ip_pair_map', 'flow_table_v4', 'flow_table_v6'] as const;
export type PeerTableName = (typeof PEER_TABLES)[number];
/** Maps that only such an object has. */
export const PEER_MAPS: ReadonlySet<string> = new Set([...PEER_TABLES, 'peer_ends']);

/** PEER_* of bpf/peers.h. */
const Bits = { suricata: 1, shared: 2, hostOrder: 4 } as const;

/** Constants of bpf/peers.h; none where there are no peers: the object has none. */
export function peerConstants(peers: GatePeers | undefined): Record<string, number> {
  if (peers === undefined) return {};
  const { zeek, suricata } = peers;
  return {
    cfg_zeek: zeek === undefined ? 0 : 1,
    cfg_suricata:
      suricata === undefined
        ? 0
        : Bits.suricata | (suricata.shared ? Bits.shared : 0) | (suricata.hostOrder ? Bits.hostOrder : 0),
  };
}

interface Shape {
  type: number;
  keySize: number;
  valueSize: number;
  maxEntries: number;
}

/** What Suricata looks for beside its tables when it starts; the gate does nothing with them. */
const SURICATA_EXTRAS: Readonly<Record<string, Shape>> = {
  cpu_map: { type: MapType.cpumap, keySize: 4, valueSize: 4, maxEntries: 64 },
  cpus_available: { type: MapType.array, keySize: 4, valueSize: 4, maxEntries: 64 },
  cpus_count: { type: MapType.array, keySize: 4, valueSize: 4, maxEntries: 1 },
  tx_peer: { type: MapType.devmap, keySize: 4, valueSize: 4, maxEntries: 1 },
  tx_peer_int: { type: MapType.array, keySize: 4, valueSize: 4, maxEntries: 1 },
};

function shapes({ zeek, suricata }: GatePeers): Partial<Record<PeerTableName, Shape>> {
  const found: Partial<Record<PeerTableName, Shape>> = {};
  if (zeek !== undefined) {
    const of = { type: MapType.hash, valueSize: PeerZeekValue.size, maxEntries: zeek.entries };
    found.shunt_map = { ...of, keySize: PeerZeekKey.size };
    found.ip_pair_map = { ...of, keySize: PeerZeekPairKey.size };
  }
  if (suricata !== undefined) {
    const type = suricata.shared ? MapType.hash : MapType.percpuHash;
    const of = { type, valueSize: PeerSuricataValue.size, maxEntries: suricata.entries };
    found.flow_table_v4 = { ...of, keySize: PeerSuricataKey4.size };
    found.flow_table_v6 = { ...of, keySize: PeerSuricataKey6.size };
  }
  return found;
}

const suricataPin = (ifname: string, map: string): string => join('/sys/fs/bpf', `suricata-${ifname}-${map}`);

/** The tables of other sensors, and the pins by which those find them. */
export class PeerTables {
  readonly peers: GatePeers;
  /** Of an earlier gate, or made beside the object. */
  readonly reuse: Record<string, BpfMap> = {};
  /** Of those that the object makes. */
  readonly sizes: Record<string, number> = {};
  readonly #wanted: readonly (readonly [map: string, path: string])[];
  readonly #extras = new Map<string, BpfMap>();
  readonly #pinned: string[] = [];

  /**
   * Opens what is pinned already: the tables of a gate before, or of the sensor itself. `before`: maps of a gate before.
   * @throws SluiceError PIN_FOREIGN, INTERFACE_BUSY, USAGE for an interface whose name cannot be in a pin
   */
  constructor(
    peers: GatePeers,
    ifnames: readonly string[],
    own: string,
    before: ReadonlyMap<string, BpfMap> | undefined,
  ) {
    ensureBpffs();
    this.peers = peers;
    this.#wanted = wantedPins(peers, ifnames);
    const others = peerPinsInUse(own);
    const of = shapes(peers);
    const suricata = peers.suricata === undefined ? [] : Object.entries(SURICATA_EXTRAS);
    try {
      for (const [, path] of this.#wanted)
        if (others.has(path) && path.includes('/suricata-'))
          throw new SluiceError('INTERFACE_BUSY', `another gate serves Suricata at ${path}`, {
            help: "Suricata's names have no network namespace in them: one interface of a name can be served",
          });
      for (const [name, shape] of [...Object.entries(of), ...suricata]) {
        const isExtra = Object.hasOwn(SURICATA_EXTRAS, name);
        const map = this.#find(name, shape) ?? (isExtra ? undefined : takeOver(before?.get(name), shape));
        if (isExtra) this.#extras.set(name, map ?? BpfMap.create({ name, ...shape }));
        else if (map !== undefined) this.reuse[name] = map;
        // Of another type than in the object.
        else if (shape.type === MapType.hash && name.startsWith('flow_table'))
          this.reuse[name] = BpfMap.create({ name, ...shape });
        else this.sizes[name] = shape.maxEntries;
      }
      if (peers.suricata !== undefined) this.sizes['peer_ends'] = 2 * peers.suricata.entries;
    } catch (error) {
      this.closeHandles();
      throw error;
    }
  }

  /** What is pinned where the sensor looks. */
  #find(name: string, shape: Shape): BpfMap | undefined {
    for (const [map, path] of this.#wanted) {
      if (map !== name || !existsSync(path)) continue;
      const there = BpfMap.openPinned(path);
      const owner = lstatSync(path).uid;
      if (fits(there, shape) && (owner === 0 || owner === process.getuid?.())) return there;
      there.close();
      throw new SluiceError('PIN_FOREIGN', `${path} is not the table that the gate would serve there`, {
        help: `stop what uses it and remove it (rm ${path}); Suricata's is per CPU unless it has use-percpu-hash: no (--abi suricata-shared)`,
      });
    }
    return undefined;
  }

  /** Pins the tables where the sensors look; whoever may read the gate's pins may write these. */
  pin(object: BpfObject, access: PinAccess): void {
    const mode = access.mode | ((access.mode & 0o444) >> 1);
    for (const [name, path] of this.#wanted) {
      if (this.peers.zeek !== undefined && dirname(path) === this.peers.zeek.directory) {
        makeDirectory(dirname(path), 0o755);
        checkOwn(dirname(path));
      }
      this.#pinned.push(path);
      if (existsSync(path)) continue;
      (this.#extras.get(name) ?? object.map(name)).pin(path);
      setAccess(path, { ...access, mode });
    }
    this.closeHandles();
  }

  /** Paths of the pins. */
  get paths(): readonly string[] {
    return this.#pinned;
  }

  /** Handles that were only for loading: the object has its own. */
  closeHandles(): void {
    for (const map of [...Object.values(this.reuse), ...this.#extras.values()]) map.close();
  }
}

function wantedPins({ zeek, suricata }: GatePeers, ifnames: readonly string[]): [string, string][] {
  const wanted: [string, string][] = [];
  if (zeek !== undefined)
    for (const map of ['shunt_map', 'ip_pair_map']) wanted.push([map, join(zeek.directory, map)]);
  if (suricata === undefined) return wanted;
  for (const ifname of ifnames) {
    if (ifname.includes('.'))
      throw new SluiceError(
        'USAGE',
        `Suricata's tables cannot be pinned for ${ifname}: bpffs takes no dots`,
        {
          help: 'give the interface another name (ip link set … name …)',
        },
      );
    for (const map of ['flow_table_v4', 'flow_table_v6', ...Object.keys(SURICATA_EXTRAS)])
      wanted.push([map, suricataPin(ifname, map)]);
  }
  return wanted;
}

function fits(map: BpfMap, { type, keySize, valueSize }: Shape): boolean {
  return map.type === type && map.keySize === keySize && map.valueSize === valueSize;
}

/** The gate before had it, and its pin has gone. */
function takeOver(map: BpfMap | undefined, shape: Shape): BpfMap | undefined {
  if (map === undefined || !fits(map, shape) || map.maxEntries !== shape.maxEntries) return undefined;
  return map.duplicate();
}
