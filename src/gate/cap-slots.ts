import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { BpfMap, type FileLock, lockFile, MapType, programInfo } from '../kernel/index.ts';
import { RUN_DIRECTORY } from './control-places.ts';

/** Slots of an exit hook: one for each XDP action. */
export const HOOK_SLOTS = 5;

/** The program array behind the slots of a hook, which lives as long as its capture: filters, then what captures. */
export const STAGES = { name: 'sluice_stages', filter: 0, act: HOOK_SLOTS, size: 2 * HOOK_SLOTS } as const;

const NAME = /^sluice_c([0-9a-z]{1,7})$/;

/** What the program in a slot is called: by the id of the array that it goes on to, its capture can be found. */
export function entryName(stages: number): string {
  return `sluice_c${stages.toString(36)}`;
}

export function slotKey(slot: number): Uint8Array {
  return new Uint8Array(Uint32Array.of(slot).buffer);
}

/** Id of the program in a slot. */
export function programIn(map: BpfMap, slot: number): number | undefined {
  const value = new Uint32Array(1);
  return map.get(slotKey(slot), new Uint8Array(value.buffer)) ? value[0] : undefined;
}

/**
 * Whether a program is one of our captures, and that goes on. The kernel empties the array behind it with the last process that
 * has it open, so a killed capture costs a jump and is known by that.
 */
export function captureState(programId: number): 'foreign' | 'alive' | 'dead' {
  let id: string | undefined;
  try {
    id = NAME.exec(programInfo(programId).name)?.[1];
  } catch {
    // It has gone meanwhile.
  }
  if (id === undefined) return 'foreign';
  let stages: BpfMap;
  try {
    stages = BpfMap.fromId(Number.parseInt(id, 36));
  } catch {
    return 'dead';
  }
  try {
    if (stages.type !== MapType.progArray || stages.name !== STAGES.name) return 'dead';
    for (let slot = 0; slot < STAGES.size; slot++) if (programIn(stages, slot) !== undefined) return 'alive';
    return 'dead';
  } finally {
    stages.close();
  }
}

/** Held by whoever changes the slots of a hook; undefined while somebody else does. */
export function lockHook(hook: BpfMap): FileLock | undefined {
  mkdirSync(RUN_DIRECTORY, { recursive: true, mode: 0o755 });
  return lockFile(join(RUN_DIRECTORY, `hook-${hook.id}.lock`));
}

/** Takes what killed captures have left out of a hook. Whether one of ours goes on there. */
export function clearDeadCaptures(hook: BpfMap): boolean {
  const states = (): string[] =>
    Array.from({ length: Math.min(HOOK_SLOTS, hook.maxEntries) }, (_, slot) => {
      const program = programIn(hook, slot);
      return program === undefined ? 'free' : captureState(program);
    });
  const found = states();
  if (!found.includes('dead')) return found.includes('alive');
  const lock = lockHook(hook);
  // Whoever has it looks after the dead ones as well.
  if (lock === undefined) return true;
  try {
    const now = states();
    for (const [slot, state] of now.entries()) if (state === 'dead') hook.delete(slotKey(slot));
    return now.includes('alive');
  } finally {
    lock.remove();
  }
}
