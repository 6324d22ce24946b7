import { SluiceError } from '../base/errors.ts';
import { type BpfMap, type BpfObject, type BpfProgram, interfaces, possibleCpus } from '../kernel/index.ts';
import { type GateInterface, interfacesText, placeWith, upCommand } from './control-places.ts';
import { LIMITS } from './control-protocol.ts';
import type { GateOptions } from './gate-options.ts';
import { FRAGMENT_MAPS, KINDS, TUNNEL_MAPS, WATCH_MAPS } from './kind.ts';
import { PEER_MAPS } from './peers.ts';
import type { Found } from './pinned.ts';
import type { PinAccess, PinDirectory } from './pins.ts';
import { STEER_MAPS } from './steer.ts';

/** Rows of the operations array for each worker: one batch. */
export const OPS_PER_WORKER = 1024;
/** Datagrams in fragments that are known at a time. */
const MAX_FRAGMENTS = 16_384;
/** Addresses and ports of mirrors that end at this host. */
const MAX_MIRRORS = 1024;
const MAX_PAIRS = 4096;
const MAX_PREFIX_PAIRS = 64;

type Sizes = Record<string, number>;

/** Entries of the gate's maps: of those that an earlier gate's may stand for, and of those that are always made anew. */
export function mapSizes(options: GateOptions): { kept: Sizes; fresh: Sizes } {
  const { fragments = false, keep, kind = 'xdp', tunnels, watch } = options;
  return {
    kept: {
      flows4: options.maxShunts4,
      flows6: options.maxShunts6,
      side: options.maxShunts4 + options.maxShunts6,
      ledger: possibleCpus(),
      ops: OPS_PER_WORKER * options.workers,
      ...KINDS[kind].sizes(),
      ...(tunnels?.mirror === true ? { mirrors: MAX_MIRRORS } : {}),
      // Only what is asked over the control socket makes pairs.
      ...(keep === undefined ? {} : { pairs: MAX_PAIRS, prefixes: MAX_PREFIX_PAIRS }),
    },
    fresh: {
      ...(fragments ? { fragments: MAX_FRAGMENTS } : {}),
      ...(watch === undefined ? {} : { watch4: watch.size, watch6: watch.size, held: LIMITS.holds }),
    },
  };
}

/**
 * Whether a map of an earlier gate goes on in the next. Notes about fragments live as long as datagrams do, and are of another
 * number with another option; what is watched is watched anew.
 */
export function outlives(name: string, tunnels: boolean): boolean {
  if (FRAGMENT_MAPS.has(name) || STEER_MAPS.has(name) || PEER_MAPS.has(name) || WATCH_MAPS.has(name))
    return false;
  return tunnels || !TUNNEL_MAPS.has(name);
}

/** Tables, and for a gate that outlives its process programs too. */
export function pinAll(
  object: BpfObject,
  pins: PinDirectory,
  keep: PinAccess | undefined,
  pinned: readonly string[],
  seats: readonly string[],
): void {
  // Names with a dot are data sections, which belong to the programs.
  const things: [string, BpfMap | BpfProgram][] =
    keep === undefined
      ? pinned.map((name) => [name, object.map(name)])
      : [...[...object.maps].filter(([name]) => !name.includes('.')), ...object.programs];
  for (const [name, thing] of things) pins.put(name, thing);
  pins.prune(new Set([...things.map(([name]) => name), ...seats]));
  if (keep !== undefined) pins.share(keep);
}

/**
 * A gate whose daemon has ended is taken over with all of its interfaces, by a gate that is to outlive its process.
 * @throws SluiceError INTERFACE_BUSY
 */
export function refuseOthers(
  all: readonly GateInterface[],
  home: number,
  short: boolean,
  found: Found | undefined,
): void {
  const ours = all.map(({ ifindex }) => ifindex);
  const linked = [...(found?.attached ?? [])];
  if (short ? linked.length > 0 : linked.some((ifindex) => !ours.includes(ifindex)))
    throw gateWithoutDaemon(linked);
  for (const ifindex of ours) {
    const place = placeWith(ifindex);
    if (place !== undefined && place.ifindex !== home)
      throw gateWithoutDaemon(place.interfaces.map((each) => each.ifindex));
  }
}

function gateWithoutDaemon(ifindices: readonly number[]): SluiceError {
  const names = interfaces()
    .filter(({ index }) => ifindices.includes(index))
    .map(({ name }) => name);
  return new SluiceError(
    'INTERFACE_BUSY',
    `a gate whose daemon has ended is still up on ${interfacesText(names)}`,
    {
      help: `\`${upCommand(names)}\` takes it over, \`sluice gate down -i ${names[0]}\` takes it down`,
    },
  );
}
