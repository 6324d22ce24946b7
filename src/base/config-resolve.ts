import type { z } from 'zod';
import { runSchema } from './config.ts';
import { CONFLICTS } from './config-conflicts.ts';
import type { ConfigFile } from './config-file.ts';
import { SluiceError } from './errors.ts';
import { optionMeta } from './options.ts';
import { nearest } from './suggest.ts';

/** `logDir` as it is written on the command line and in the file: `log-dir`. */
export const kebab = (name: string): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);

/** All keys as the file writes them. */
export const CONFIG_KEYS: readonly string[] = Object.keys(runSchema.shape).map(kebab);

/** Keys, as the file writes them, of which the values are not the same. */
export function changedKeys(before: object, after: object): string[] {
  const [old, fresh] = [before, after] as Readonly<Record<string, unknown>>[];
  return Object.keys({ ...old, ...fresh })
    .filter((name) => JSON.stringify(old[name]) !== JSON.stringify(fresh[name]))
    .map(kebab);
}

/** Values of flags that were given, by key in camel case; texts, lists of texts, or booleans. */
export type GivenFlags = Readonly<Record<string, unknown>>;

export type Origin = 'flag' | 'file' | 'default';

export interface Resolved<T> {
  config: T;
  origin: Readonly<Record<string, Origin>>;
}

/** Flags over file over defaults; every problem in one error. @throws SluiceError USAGE */
export function resolveConfig<S extends z.ZodObject>(
  schema: S,
  flags: GivenFlags,
  file?: ConfigFile,
): Resolved<z.output<S>> {
  const problems: string[] = [];
  const known = new Set(CONFIG_KEYS);
  let hint: string | undefined;
  for (const [name, entry] of file?.entries ?? []) {
    if (known.has(name)) continue;
    const meant = nearest(name, CONFIG_KEYS);
    problems.push(`${file?.path}:${entry.line}: unknown key '${name}'`);
    hint ??= meant === undefined ? 'sluice config schema lists the keys' : `did you mean '${meant}'?`;
  }

  const config: Record<string, unknown> = {};
  const origin: Record<string, Origin> = {};
  const where = (name: string): string => {
    const entry = file?.entries.get(kebab(name));
    if (origin[name] === 'file' && entry !== undefined) return `${file?.path}:${entry.line}: ${kebab(name)}`;
    return flagText(name, config[name]);
  };

  // The whole file is checked by every command, as one file serves them all.
  for (const [name, key] of Object.entries(runSchema.shape as Record<string, z.ZodType>)) {
    const ours = Object.hasOwn(schema.shape, name);
    const entry = file?.entries.get(kebab(name));
    const given = ours && flags[name] !== undefined;
    if (!ours && entry === undefined) continue;
    origin[name] = given ? 'flag' : entry === undefined ? 'default' : 'file';
    // A command may take less of a key than others do.
    const own = ours ? (schema.shape as Record<string, z.ZodType>)[name] : key;
    const result = own.safeParse(given ? flags[name] : entry?.value);
    if (result.success) {
      if (ours) config[name] = result.data;
    } else {
      for (const issue of result.error.issues) problems.push(`${where(name)}: ${issue.message}`);
    }
  }

  for (const { keys, broken, verb, why } of problems.length > 0 ? [] : CONFLICTS) {
    if (!broken(config)) continue;
    const [a, b] = keys;
    // A flag wins over what the file says, also where the two exclude each other.
    if (origin[a] !== origin[b] && origin[a] !== 'default' && origin[b] !== 'default') {
      const loser = origin[a] === 'file' ? a : b;
      const preset = (runSchema.shape[loser] as z.ZodType).parse(undefined);
      const retry = { ...config, [loser]: preset };
      if (!broken(retry)) {
        config[loser] = preset;
        origin[loser] = 'default';
        continue;
      }
    }
    problems.push(a === b ? `${where(a)}: ${why}` : `${where(a)} ${verb} ${where(b)}: ${why}`);
  }

  if (problems.length > 0) {
    throw new SluiceError(
      'USAGE',
      problems.length === 1 ? problems[0] : `${problems.length} settings are not valid`,
      {
        ...(problems.length === 1 ? {} : { cause: problems.join('\n') }),
        help: hint ?? 'docs/configuration.md has every key; sluice config show prints what is in force',
      },
    );
  }
  return { config: config as z.output<S>, origin };
}

function flagText(name: string, value: unknown): string {
  const kind = optionMeta.get((runSchema.shape as Record<string, z.ZodType>)[name])?.kind;
  return kind === 'switch' && value === false ? `--no-${kebab(name)}` : `--${kebab(name)}`;
}
