import { join } from 'node:path';
import { SluiceError } from '../base/errors.ts';
import {
  type BpfObject,
  loadObject,
  type ObjectOptions,
  packageRoot,
  possibleCpus,
} from '../kernel/index.ts';
import type { Features } from './features.ts';
import { loadGate } from './load.ts';
import { SLOT_MAPS } from './slots.ts';

/** What the gate is: an XDP program on the interface, or a filter on the sockets of the sensor's own rings. */
export type GateKind = 'xdp' | 'socket';

interface KindParts {
  /** Of bpf/. */
  object: string;
  /** The same, looking into tunnels. */
  tunnels: string;
  /** The same two, looking in the tables of other sensors. */
  peers?: readonly [plain: string, tunnels: string];
  /** The same with all of that, handing packets to CPUs. */
  steer?: string;
  program: string;
  load: (path: string, options: ObjectOptions) => BpfObject;
  /** Sizes of the maps that only this kind has. */
  sizes: () => Record<string, number>;
  /** What a gate that ends with its process pins, for the next one to find, of either kind. */
  pinned: readonly string[];
}

/** What the next run goes on with. */
const TABLES = ['flows4', 'flows6', 'side', 'leases', 'ledger', 'meta'] as const;

export const KINDS: Readonly<Record<GateKind, KindParts>> = {
  xdp: {
    object: 'gate',
    tunnels: 'gate_tunnels',
    peers: ['gate_peers', 'gate_peers_tunnels'],
    steer: 'gate_steer',
    program: 'sluice_gate',
    load: loadGate,
    sizes: () => ({}),
    // And what captures use.
    pinned: [...TABLES, 'hook', 'next', 'scratch'],
  },
  socket: {
    object: 'filter',
    tunnels: 'filter_tunnels',
    program: 'sluice_filter',
    load: loadObject,
    sizes: () => ({ copies: possibleCpus() }),
    // Captures are XDP programs: there is nothing for them here.
    pinned: TABLES,
  },
};

/** Maps that only a gate has that looks into tunnels. */
export const TUNNEL_MAPS: ReadonlySet<string> = new Set(['way', 'mirrors']);

/** Maps of fragments that follow their flow. */
export const FRAGMENT_MAPS: ReadonlySet<string> = new Set(['fragments', 'fragment_room']);

/** Maps of a gate that shunts by itself. */
export const WATCH_MAPS: ReadonlySet<string> = new Set([
  'watch4',
  'watch6',
  'watch_count',
  'watch_room',
  'held',
]);

/** The object of a gate with these features. */
export function objectOf(kind: GateKind, features: Readonly<Features>): string {
  const { object, tunnels, peers, steer } = KINDS[kind];
  if (features.thresholds || features.watch !== undefined) {
    if (features.steer !== undefined || features.peers !== undefined)
      throw new SluiceError(
        'USAGE',
        "a gate that shunts by itself serves no other sensor's tables and steers nothing",
        {
          help: 'leave out --alone, --abi or --steer; of a gate that has one of them, shunt at once, without a threshold',
        },
      );
    return `${features.tunnels === undefined ? object : tunnels}_watch`;
  }
  if (features.steer !== undefined && steer !== undefined) return steer;
  const [plain, inside] = features.peers === undefined || peers === undefined ? [object, tunnels] : peers;
  return features.tunnels === undefined ? plain : inside;
}

/** What a filter on sockets is told of what the rings keep of a frame. */
export function snapConstant(kind: GateKind, snaplen: number | undefined): Record<string, number> {
  return kind === 'xdp' || snaplen === undefined ? {} : { cfg_snaplen: snaplen };
}

/** Maps that hold programs, or belong to them: of one kind only. */
export const isSlotMap = (name: string): boolean => (SLOT_MAPS as readonly string[]).includes(name);

/** A compiled object of bpf/, by its name without endings. */
export function bpfObjectPath(name: string): string {
  return join(packageRoot(), 'build', 'bpf', `${name}.bpf.o`);
}
