import { chmodSync, chownSync, existsSync, readdirSync, rmdirSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { RUN_DIRECTORY } from './control-places.ts';
import { readState } from './daemon-state.ts';
import type { PinAccess } from './pins.ts';

/** Where the gates of this machine that live serve tables of other sensors, in whatever namespace; `own` left out. */
export function peerPinsInUse(own: string): Set<string> {
  const found = new Set<string>();
  if (!existsSync(RUN_DIRECTORY)) return found;
  for (const file of readdirSync(RUN_DIRECTORY)) {
    if (!file.endsWith('.json') || file === `${own}.json`) continue;
    const state = readState({ state: join(RUN_DIRECTORY, file) });
    if (state === undefined || !isAlive(state.pid)) continue;
    for (const path of state.peers ?? []) found.add(path);
  }
  return found;
}

/** Takes tables of other sensors away, those left to which another gate still serves. */
export function removePeerPins(paths: readonly string[], own: string): void {
  const others = peerPinsInUse(own);
  for (const path of paths) if (!others.has(path)) rmSync(path, { force: true });
  for (const directory of new Set(paths.map(dirname))) {
    if (directory === '/sys/fs/bpf' || !existsSync(directory)) continue;
    if (readdirSync(directory).length === 0) rmdirSync(directory);
  }
}

/** Gives a pin to a user and a group. */
export function setAccess(path: string, { uid, gid, mode }: PinAccess): void {
  chownSync(path, uid, gid);
  chmodSync(path, mode);
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
