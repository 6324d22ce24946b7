import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '../base/errors.ts';
import { interfaces, netnsInode } from '../kernel/index.ts';
import { type DaemonState, readState } from './daemon-state.ts';

/** Locks, sockets and states of the gates of this machine. */
export const RUN_DIRECTORY = '/run/sluice';

export interface GateInterface {
  ifname: string;
  ifindex: number;
}

/** Where the files of a gate lie. Indices of interfaces repeat across namespaces, so the namespace is in the name. */
export interface Place {
  /** Of the interface that the files and pins are named after: the first that the gate was put on. */
  ifindex: number;
  /** As it is called now; where it has gone, another one of the gate, or the index as text. */
  ifname: string;
  /** All that share the gate's tables and are there, by their present names. */
  interfaces: readonly GateInterface[];
  /** `<netns inode>-<ifindex>`: also the directory of the pins. */
  name: string;
  lock: string;
  socket: string;
  /** What the daemon last wrote about itself, for whoever comes after its death. */
  state: string;
  /** The rules, for the daemon after this one. */
  rules: string;
  /** What is usual, as its detector has learned it. */
  baseline: string;
  /** The attacks that its keeper knows: JSON, the document of `sluice attack ls --json`. */
  attacks: string;
}

export function gateName(ifindex: number): string {
  return `${netnsInode()}-${ifindex}`;
}

export function placeOf(
  ifindex: number,
  ifname: string,
  all: readonly GateInterface[] = [{ ifindex, ifname }],
): Place {
  const name = gateName(ifindex);
  const file = (ending: string): string => join(RUN_DIRECTORY, `${name}.${ending}`);
  return {
    ifindex,
    ifname,
    interfaces: all,
    name,
    lock: file('lock'),
    socket: file('sock'),
    state: file('json'),
    rules: file('rules'),
    baseline: file('baseline'),
    attacks: file('attacks'),
  };
}

/** The gates that `sluice gate up` has left traces of in this network namespace, their daemons alive or not. */
export function places(): Place[] {
  let files: string[];
  try {
    files = readdirSync(RUN_DIRECTORY);
  } catch {
    return [];
  }
  const prefix = `${netnsInode()}-`;
  const names = new Map(interfaces().map(({ index, name }) => [index, name]));
  return files
    .filter((file) => file.startsWith(prefix) && /^\d+\.json$/.test(file.slice(prefix.length)))
    .map((file) => Number.parseInt(file.slice(prefix.length), 10))
    .filter((ifindex) => !isOver(readState(placeOf(ifindex, ''))))
    .toSorted((a, b) => a - b)
    .map((ifindex) => {
      const place = placeOf(ifindex, '');
      const all = readState(place)?.interfaces.map((each) => each.ifindex) ?? [ifindex];
      const there = all.flatMap((each) => {
        const ifname = names.get(each);
        return ifname === undefined ? [] : [{ ifindex: each, ifname }];
      });
      return { ...place, ifname: names.get(ifindex) ?? there[0]?.ifname ?? `${ifindex}`, interfaces: there };
    });
}

/** A run that was killed: its gate went with it. */
function isOver(state: DaemonState | undefined): boolean {
  if (state?.driven !== true) return false;
  try {
    process.kill(state.pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'ESRCH';
  }
}

/** The gate that this interface belongs to, its daemon alive or not. */
export function placeWith(ifindex: number): Place | undefined {
  return places().find(({ interfaces: all }) => all.some((each) => each.ifindex === ifindex));
}

/** What people call the interfaces of a gate: `eth1 and eth2`. */
export function interfacesText(names: readonly string[]): string {
  return names.length < 2 ? names.join() : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}

/** The command that starts a gate on these interfaces, or takes it over. */
export function upCommand(names: readonly string[]): string {
  const shared = names.length > 1 ? ' --share-tables' : '';
  return `sluice gate up ${names.map((name) => `-i ${name}`).join(' ')}${shared}`;
}

/**
 * The gate of this interface, or the only one that is up.
 * @throws SluiceError GATE_DOWN, USAGE when there are several to choose from, INTERFACE_UNKNOWN
 */
export function findPlace(ifname: string | undefined): Place {
  const up = places();
  if (ifname === undefined) {
    if (up.length === 1) return up[0];
    if (up.length === 0) throw noGate('no gate is up in this network namespace');
    throw new SluiceError('USAGE', `${up.length} gates are up`, {
      help: `name one with -i: ${up.map((place) => place.ifname).join(', ')}`,
    });
  }
  const found = up.find(
    (place) => place.ifname === ifname || place.interfaces.some((each) => each.ifname === ifname),
  );
  if (found !== undefined) return found;
  if (!interfaces().some(({ name }) => name === ifname)) {
    throw new SluiceError('INTERFACE_UNKNOWN', `there is no interface ${ifname} in this network namespace`);
  }
  throw noGate(`no gate is up on ${ifname}`);
}

function noGate(message: string): SluiceError {
  return new SluiceError('GATE_DOWN', message, { help: 'sluice gate up -i IFACE starts one' });
}
