import { SluiceError } from '../base/errors.ts';
import { type BpfMap, type BpfObject, type BpfProgram, interfaces, possibleCpus } from '../kernel/index.ts';
import { Claims } from './claims.ts';
import { type GateInterface, gateName, interfacesText, placeWith, upCommand } from './control-places.ts';
import { LIMITS } from './control-protocol.ts';
import { constantsOf, type Features, NO_FEATURES } from './features.ts';
import { type GateOptions, interfacesOf } from './gate-options.ts';
import {
  bpfObjectPath,
  FRAGMENT_MAPS,
  isSlotMap,
  KINDS,
  objectOf,
  snapConstant,
  TUNNEL_MAPS,
  WATCH_MAPS,
} from './kind.ts';
import { OWNERS, RulesSlot } from './layout.ts';
import { mapLedger } from './ledger.ts';
import { carryOver, type Leftovers, NOTHING_LEFT } from './leftovers.ts';
import type { GateSeats } from './links.ts';
import { removePeerPins } from './peer-pins.ts';
import { PEER_MAPS, PeerTables } from './peers.ts';
import { Found, writeMeta } from './pinned.ts';
import type { PinAccess, PinDirectory } from './pins.ts';
import { refuseSeats, seatsOf } from './seats.ts';
import { installOwn, occupant } from './slots.ts';
import { makeQueues, STEER_MAPS, SteerBooks, steerOptions } from './steer.ts';

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

/** A gate that is loaded and pinned, and attached only where an earlier one was. */
export interface OpenedGate {
  object: BpfObject;
  claims: Claims;
  leftovers: Leftovers;
  seats: GateSeats;
  tookOver: boolean;
  features: Features;
  peerTables: PeerTables | undefined;
  /** See `mapLedger`. */
  ledger: Uint32Array;
  steerBooks: SteerBooks | undefined;
}

/**
 * Loads a gate and pins its tables, in place of what an earlier one left.
 * @throws SluiceError INTERFACE_BUSY, PIN_FOREIGN, VERIFIER, PRIVILEGE, KERNEL_FEATURE: what stands goes on
 */
export function openGate(options: GateOptions): OpenedGate {
  if (options.workers >= OWNERS) throw new SluiceError('USAGE', `at most ${OWNERS - 1} workers`);
  const {
    vlanKey,
    keep,
    fragments = false,
    home = options.ifindex,
    kind = 'xdp',
    tunnels,
    peers,
    steer,
    watch,
    thresholds = watch !== undefined,
  } = options;
  const all = interfacesOf(options);
  const parts = KINDS[kind];
  const { kept: sizes, fresh } = mapSizes(options);
  const claims = Claims.claim(all, home);
  const { pins } = claims;
  let object: BpfObject | undefined;
  let found: Found | undefined;
  let peerTables: PeerTables | undefined;
  let made = false;
  try {
    found = pins.occupied ? new Found(pins, home) : undefined;
    refuseOthers(all, home, keep === undefined, found);
    // Before anything is touched: what stands goes on.
    if (keep !== undefined) refuseSeats(all, found, options.libxdp);
    const keyed = { vlanKey, tunnelKey: tunnels?.inKey === true };
    const tookOver = keep !== undefined && found?.fits(sizes, keyed) === true;
    const slots = keep === undefined ? [] : [...(found?.maps ?? [])].filter(([name]) => isSlotMap(name));
    const kept = [...(found?.maps ?? [])].filter(([name]) => outlives(name, tunnels !== undefined));
    const place = slots.find(([name]) => name === 'rules')?.[1];
    const rules = place !== undefined && occupant(place, RulesSlot.entry) !== undefined;
    const features = { ...NO_FEATURES, fragments, rules, tunnels, peers, steer, watch, thresholds };
    const names = all.map(({ ifname }) => ifname);
    if (peers !== undefined) peerTables = new PeerTables(peers, names, gateName(home), found?.maps);
    const { mapSizes: queues, programs } = steerOptions(steer, tunnels !== undefined);
    object = parts.load(bpfObjectPath(objectOf(kind, features)), {
      constants: { ...constantsOf(features, vlanKey), ...snapConstant(kind, options.snaplen) },
      reuseMaps: { ...Object.fromEntries(tookOver ? kept : slots), ...peerTables?.reuse },
      mapSizes: { ...(tookOver ? {} : sizes), ...fresh, ...queues, ...peerTables?.sizes },
      programs,
      frags: framesInSeveral(options),
    });
    if (steer !== undefined) makeQueues(object, steer);
    installOwn(object.map('rules'), object);
    writeMeta(object.map('meta'), home, keyed);
    const tables = { 4: object.map('flows4'), 6: object.map('flows6'), side: object.map('side') };
    const leftovers =
      tookOver || found === undefined
        ? NOTHING_LEFT
        : carryOver(found.tables(), tables, found.joins(keyed) ? (options.join ?? never) : never);
    const seats = seatsOf(pins, home, keep !== undefined, found, options.libxdp);
    made = true;
    pins.make();
    // Pin by pin in place of what an earlier run left: what is carried over is to be found at any moment.
    pinAll(object, pins, keep, parts.pinned, seats.pinNames);
    peerTables?.pin(object, keep ?? { uid: 0, gid: 0, mode: 0o600 });
    // Attached all the while: from one packet to the next the new program takes over.
    seats.update(object.program(parts.program));
    for (const map of found?.maps.values() ?? []) map.close();
    return {
      object,
      claims,
      leftovers,
      seats,
      tookOver,
      features,
      peerTables,
      ledger: mapLedger(object),
      steerBooks: steer && new SteerBooks(object, steer),
    };
  } catch (error) {
    object?.close();
    // What was there before is left to the next one.
    if (made && found === undefined) pins.clear();
    if (found === undefined) removePeerPins(peerTables?.paths ?? [], gateName(home));
    peerTables?.closeHandles();
    found?.close();
    claims.release();
    throw error;
  }
}

const never = (): boolean => false;

/** The kernel has components take frames in one buffer, and gives them others if their dispatcher takes those. */
export const framesInSeveral = ({ libxdp }: GateOptions): boolean =>
  libxdp === undefined || libxdp.single === true;
