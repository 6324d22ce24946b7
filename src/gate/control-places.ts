import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '../base/errors.ts';
import { interfaces, netnsInode } from '../kernel/index.ts';

/** Locks, sockets and states of the gates of this machine. */
export const RUN_DIRECTORY = '/run/sluice';

/** Where the files of a gate lie. Indices of interfaces repeat across namespaces, so the namespace is in the name. */
export interface Place {
  ifindex: number;
  /** As it is called now; the index as text when it has gone. */
  ifname: string;
  /** `<netns inode>-<ifindex>`: also the directory of the pins. */
  name: string;
  lock: string;
  socket: string;
  /** What the daemon last wrote about itself, for whoever comes after its death. */
  state: string;
  /** The rules, for the daemon after this one. */
  rules: string;
}

export function gateName(ifindex: number): string {
  return `${netnsInode()}-${ifindex}`;
}

export function placeOf(ifindex: number, ifname: string): Place {
  const name = gateName(ifindex);
  const file = (ending: string): string => join(RUN_DIRECTORY, `${name}.${ending}`);
  return {
    ifindex,
    ifname,
    name,
    lock: file('lock'),
    socket: file('sock'),
    state: file('json'),
    rules: file('rules'),
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
    .toSorted((a, b) => a - b)
    .map((ifindex) => placeOf(ifindex, names.get(ifindex) ?? `${ifindex}`));
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
  const found = up.find((place) => place.ifname === ifname);
  if (found !== undefined) return found;
  if (!interfaces().some(({ name }) => name === ifname)) {
    throw new SluiceError('INTERFACE_UNKNOWN', `there is no interface ${ifname} in this network namespace`);
  }
  throw noGate(`no gate is up on ${ifname}`);
}

function noGate(message: string): SluiceError {
  return new SluiceError('GATE_DOWN', message, { help: 'sluice gate up -i IFACE starts one' });
}
