import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { SluiceError } from '../base/errors.ts';
import { fileError } from '../base/file-error.ts';
import { RUN_DIRECTORY } from '../gate/control-places.ts';
import { bootId, type FileLock, lockFile, netnsCookie } from '../kernel/index.ts';
import type { Change, Finding, Setting } from './finding.ts';
import { commandOf, readSetting, settingText, writeSetting } from './settings.ts';

/** One step: what a change is for, and what it takes. */
export interface Step {
  check: string;
  risk: string;
  riskText: string;
  change: Change;
  command: string;
}

/** What is to be changed for some findings: each setting once, the first wish counts. */
export function planOf(findings: readonly Finding[]): Step[] {
  const seen = new Set<string>();
  return findings.flatMap(({ check, level, fix }) => {
    if (level === 'ok' || fix === undefined) return [];
    return fix.changes.flatMap((change) => {
      const key = JSON.stringify(change.setting);
      if (seen.has(key)) return [];
      seen.add(key);
      return [{ check, risk: fix.risk, riskText: fix.riskText, change, command: commandOf(change) }];
    });
  });
}

const ifname = z.string().min(1).max(15);
const settingSchema: z.ZodType<Setting> = z.discriminatedUnion('kind', [
  z.object({ kind: z.enum(['feature', 'private-flag']), ifname, name: z.string().max(64) }),
  z.object({ kind: z.enum(['ring', 'rss-key', 'rss-table', 'pause']), ifname }),
  z.object({ kind: z.literal('channels'), ifname, name: z.enum(['rx', 'tx', 'combined']) }),
  z.object({ kind: z.literal('coalescing'), ifname, name: z.enum(['adaptive-rx', 'rx-usecs']) }),
  z.object({ kind: z.literal('hash-fields'), ifname, name: z.enum(['tcp4', 'udp4', 'tcp6', 'udp6']) }),
  z.object({ kind: z.literal('file'), path: z.string().max(4096) }),
]);

const MOST_CHANGES = 100_000;
const stateSchema = z.object({
  version: z.literal(1),
  boot: z.string(),
  changes: z
    .array(
      z.object({
        setting: settingSchema,
        /** Before, and as it read back afterwards. */
        before: z.string().max(2 ** 20),
        after: z.string().max(2 ** 20),
      }),
    )
    .max(MOST_CHANGES),
});
export type State = z.output<typeof stateSchema>;

/** Settings last until the next boot, and so does this; names of interfaces repeat across namespaces. */
export const statePath = (): string => join(RUN_DIRECTORY, `doctor-${netnsCookie()}.json`);

/** What `apply` has left to undo; undefined: nothing, or of before the last boot. @throws SluiceError FILE_FORMAT */
export function readState(path: string): State | undefined {
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw fileError(path, error);
  }
  let state: State;
  try {
    state = stateSchema.parse(JSON.parse(text));
  } catch (error) {
    throw new SluiceError('FILE_FORMAT', `${path} is not what \`sluice doctor --apply\` writes`, {
      cause: error,
      help: 'undo by hand what it lists, and remove the file',
    });
  }
  return state.boot === bootId() ? state : undefined;
}

/** Whole or not at all, so that a sudden end leaves the one before. */
function writeState(path: string, state: State): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  const next = `${path}.new`;
  writeFileSync(next, `${JSON.stringify(state)}\n`, { mode: 0o600 });
  renameSync(next, path);
}

export type Outcome = 'done' | 'same' | 'refused' | 'left';

export interface Result {
  setting: string;
  outcome: Outcome;
  from: string;
  to: string;
  /** Of what was refused or left alone: why. */
  why?: string;
}

const message = (error: unknown): string => (error instanceof Error ? error.message : String(error));

/** One at a time: two would record each other's settings as what was before. */
function locked<T>(path: string, work: () => T): T {
  let lock: FileLock | undefined;
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
    lock = lockFile(`${path}.lock`);
  } catch (error) {
    throw new SluiceError('PRIVILEGE', `what is changed cannot be noted in ${dirname(path)}`, {
      cause: error,
      help: 'run as root; --plan prints the commands without',
    });
  }
  if (lock === undefined)
    throw new SluiceError('EXISTS', 'another `sluice doctor` is changing settings', {
      help: 'wait for its end',
    });
  try {
    return work();
  } finally {
    lock.remove();
  }
}

/**
 * Makes the changes of a plan one after the other, and notes before each what there was. What the machine refuses is told, and the
 * others are made.
 */
export function apply(steps: readonly Step[], path = statePath()): Result[] {
  return locked(path, () => {
    const state: State = readState(path) ?? { version: 1, boot: bootId(), changes: [] };
    const results: Result[] = [];
    for (const { change } of steps) {
      const { setting, value } = change;
      const name = settingText(setting);
      const before = readSetting(setting);
      if (before === undefined) {
        results.push({ setting: name, outcome: 'refused', from: '', to: value, why: 'it is not there' });
        continue;
      }
      if (before === value) {
        results.push({ setting: name, outcome: 'same', from: before, to: before });
        continue;
      }
      // Noted before it is made: after a sudden end `--undo` finds it, made or not.
      const known = state.changes.find((each) => settingText(each.setting) === name);
      const note = known ?? { setting, before, after: value };
      if (known === undefined) state.changes.push(note);
      else known.after = value;
      writeState(path, state);
      try {
        writeSetting(setting, value);
      } catch (error) {
        results.push({ setting: name, outcome: 'refused', from: before, to: value, why: message(error) });
      }
      const after = readSetting(setting) ?? before;
      note.after = after;
      if (after === note.before) state.changes.splice(state.changes.indexOf(note), 1);
      writeState(path, state);
      if (results.at(-1)?.setting === name) continue;
      if (after === before)
        results.push({
          setting: name,
          outcome: 'refused',
          from: before,
          to: value,
          why: 'it stays as it was',
        });
      else results.push({ setting: name, outcome: 'done', from: before, to: after });
    }
    if (state.changes.length === 0) rmSync(path, { force: true });
    return results;
  });
}

/** Puts back what `apply` has changed, the last first. What somebody has changed since is left alone, unless `force`. */
export function undo(path = statePath(), force = false): Result[] {
  return locked(path, () => {
    const state = readState(path);
    if (state === undefined) {
      rmSync(path, { force: true });
      return [];
    }
    const results: Result[] = [];
    for (const note of state.changes.toReversed()) {
      const { setting, before, after } = note;
      const name = settingText(setting);
      const now = readSetting(setting);
      const done = (): void => {
        state.changes.splice(state.changes.indexOf(note), 1);
        writeState(path, state);
      };
      if (now === undefined) {
        results.push({ setting: name, outcome: 'left', from: '', to: before, why: 'it has gone' });
        done();
        continue;
      }
      if (now === before) {
        results.push({ setting: name, outcome: 'same', from: now, to: before });
        done();
        continue;
      }
      if (now !== after && !force) {
        results.push({
          setting: name,
          outcome: 'left',
          from: now,
          to: before,
          why: `somebody has changed it since, from ${after}; --force puts it back all the same`,
        });
        continue;
      }
      try {
        writeSetting(setting, before);
      } catch (error) {
        results.push({ setting: name, outcome: 'refused', from: now, to: before, why: message(error) });
        continue;
      }
      const back = readSetting(setting);
      if (back === before) {
        results.push({ setting: name, outcome: 'done', from: now, to: before });
        done();
      } else
        results.push({ setting: name, outcome: 'refused', from: now, to: before, why: `it is ${back} now` });
    }
    if (state.changes.length === 0) rmSync(path, { force: true });
    return results;
  });
}
