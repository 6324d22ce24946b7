import { chmodSync, chownSync, existsSync, lstatSync, renameSync, rmdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { SluiceError } from '../base/errors.ts';
import { FANOUT_COUNTS, FanoutCount, type FanoutKey, loadFanout } from '../capture/fanout.ts';
import { BpfMap, BpfProgram, ensureBpffs, Fanout, FanoutPlace, KernelError } from '../kernel/index.ts';
import { checkOwn, FRESH, letThrough, makeDirectory } from './pins.ts';

/** Where the load-balancing program is pinned unless told. */
export const FANOUT_PINS = '/sys/fs/bpf/sluice/fanout';

const PROGRAM = 'program';
const COUNTS = 'counts';

export interface FanoutPin {
  /** What other sensors open, and give to PACKET_FANOUT_DATA. */
  path: string;
  programId: number;
  tag: string;
}

export interface FanoutStatus extends FanoutPin {
  /** Of all groups that use it, since it was pinned. Fragments: first ones, those that followed one, those that did not. */
  fragments: { first: number; followed: number; unknown: number };
}

/**
 * Loads the program and pins it in a directory of bpffs, in one step in place of what may be pinned there: groups that use the old
 * one keep it. With a group, its members may open it.
 * @throws SluiceError PRIVILEGE, PIN_FOREIGN, VERIFIER
 */
export function pinFanout(directory: string, key: FanoutKey, gid?: number): FanoutPin {
  const root = ensureBpffs();
  if (directory === FANOUT_PINS) {
    makeDirectory(join(root, 'sluice'), 0o711);
    checkOwn(join(root, 'sluice'));
  }
  makeDirectory(directory, 0o700);
  checkOwn(directory);
  using object = loadFanout(key);
  const program = object.program('sluice_fanout');
  put(directory, COUNTS, object.map('counts'), gid, 0o640);
  // Whoever opens a pin the usual way asks for reading and writing; a program cannot be written to.
  put(directory, PROGRAM, program, gid, 0o660);
  if (gid !== undefined) {
    letThrough(root);
    if (directory === FANOUT_PINS) chmodSync(dirname(directory), 0o711);
    chownSync(directory, process.getuid?.() ?? 0, gid);
    chmodSync(directory, 0o750);
  }
  return { path: join(directory, PROGRAM), programId: program.id, tag: program.tag };
}

function put(
  directory: string,
  name: string,
  thing: { pin(path: string): void },
  gid: number | undefined,
  mode: number,
): void {
  const path = join(directory, name);
  rmSync(path + FRESH, { force: true });
  thing.pin(path + FRESH);
  if (gid !== undefined) {
    chownSync(path + FRESH, process.getuid?.() ?? 0, gid);
    chmodSync(path + FRESH, mode);
  }
  renameSync(path + FRESH, path);
}

/** Removes the pins; groups that use the program keep it. False when there were none. */
export function unpinFanout(directory: string): boolean {
  if (!existsSync(join(directory, PROGRAM))) return false;
  checkOwn(directory);
  for (const name of [PROGRAM, COUNTS])
    if (lstatSync(join(directory, name), { throwIfNoEntry: false })?.isFile() === true)
      rmSync(join(directory, name));
  try {
    rmdirSync(directory);
  } catch {
    // What somebody else has put beside ours is not ours to remove.
  }
  return true;
}

/** @throws SluiceError NOT_FOUND when nothing is pinned there */
export function fanoutStatus(directory: string): FanoutStatus {
  using program = openProgram(directory);
  using counts = BpfMap.openPinned(join(directory, COUNTS));
  const value = new BigUint64Array(1);
  const bytes = new Uint8Array(value.buffer);
  const of = (place: number): number => {
    counts.get(new Uint8Array(Uint32Array.of(place).buffer), bytes);
    return Number(value[0]);
  };
  if (counts.maxEntries !== FANOUT_COUNTS)
    throw new SluiceError('PIN_FOREIGN', `${directory} is of another version of Sluice`, {
      help: 'sluice fanout pin replaces it',
    });
  return {
    path: join(directory, PROGRAM),
    programId: program.id,
    tag: program.tag,
    fragments: {
      first: of(FanoutCount.first),
      followed: of(FanoutCount.followed),
      unknown: of(FanoutCount.unknown),
    },
  };
}

function openProgram(directory: string): BpfProgram {
  if (!existsSync(join(directory, PROGRAM)))
    throw new SluiceError('NOT_FOUND', `no load-balancing program is pinned in ${directory}`, {
      help: 'sluice fanout pin',
    });
  return BpfProgram.openPinned(join(directory, PROGRAM));
}

/** PACKET_FANOUT_FLAG_ROLLOVER and _DEFRAG: a group is joined with the flags that it has. */
const FLAGS = [0, 0x1000, 0x8000, 0x9000];

/**
 * Gives the pinned program to the fanout group of another sensor that has made it with PACKET_FANOUT_EBPF and no program.
 * @throws SluiceError NOT_FOUND when there is no such group on the interface
 */
export function giveFanout(directory: string, ifindex: number, ifname: string, id: number): void {
  using program = openProgram(directory);
  const unknown = (): SluiceError =>
    new SluiceError('NOT_FOUND', `${ifname} has no fanout group ${id} of mode ebpf`, {
      help: 'start the other sensor first, with PACKET_FANOUT_EBPF (Zeek: AF_Packet::FANOUT_EBPF) and this id',
    });
  // Who joins a group that is not there makes it: one of another mode, which cannot be that of the sensor.
  if (joined(() => new FanoutPlace({ ifindex, mode: Fanout.random, id, members: 1 }))) throw unknown();
  for (const flags of FLAGS) {
    const mode = Fanout.ebpf | flags;
    if (joined(() => new FanoutPlace({ ifindex, mode, id, members: 1, program }))) return;
  }
  throw unknown();
}

/** False when the group has another mode, other flags, or is of another interface. */
function joined(join: () => FanoutPlace): boolean {
  try {
    join().close();
    return true;
  } catch (error) {
    if (error instanceof KernelError && ['EINVAL', 'ENOSPC'].includes(error.errnoName)) return false;
    throw error;
  }
}
