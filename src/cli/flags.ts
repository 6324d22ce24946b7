import { type Command, Option } from 'commander';
import type { z } from 'zod';
import { readConfigFile } from '../base/config-file.ts';
import { type GivenFlags, type Resolved, resolveConfig } from '../base/config-resolve.ts';
import { type KeyInfo, keysOf } from '../base/config-text.ts';

function description({ meta, preset, choices }: KeyInfo): string {
  const notes: string[] = [];
  if (choices !== undefined) notes.push(choices.join(' | '));
  if (meta.kind !== 'switch' && (preset ?? meta.otherwise) !== undefined)
    notes.push(`default: ${preset ?? meta.otherwise}`);
  return notes.length === 0 ? meta.help : `${meta.help} (${notes.join('; ')})`;
}

function optionsFor(info: KeyInfo): Option[] {
  const { key, meta, preset } = info;
  const short = meta.short === undefined ? '' : `${meta.short}, `;
  if (meta.kind === 'switch') {
    // Both ways exist, so that a flag can undo what the file says; --help shows the one that changes the default.
    const on = new Option(`${short}--${key}`, description(info)).hideHelp(preset === 'true');
    const off = new Option(`--no-${key}`, meta.off ?? meta.help).hideHelp(preset !== 'true');
    return [on, off];
  }
  const option = new Option(`${short}--${key} <${meta.arg ?? 'VALUE'}>`, description(info));
  if (meta.kind === 'list') {
    option.argParser((value: string, previous: string[] | undefined) => [...(previous ?? []), value]);
  }
  return [option];
}

/** Gives a command a flag for each key of its schema, and --config. */
export function addFlags(command: Command, schema: z.ZodObject): void {
  for (const info of keysOf(schema)) {
    for (const option of optionsFor(info)) command.addOption(option.helpGroup(`${info.meta.group}:`));
  }
  command.addOption(
    new Option('--config <FILE>', 'Read settings from this YAML file; flags win.').helpGroup('Output:'),
  );
}

/** Flags over the file that --config names over defaults. @throws SluiceError */
export function configOf<S extends z.ZodObject>(command: Command, schema: S): Resolved<z.output<S>> {
  const options = command.opts<Record<string, unknown>>();
  const given: Record<string, unknown> = {};
  for (const name of Object.keys(schema.shape)) {
    if (command.getOptionValueSource(name) === 'cli') given[name] = options[name];
  }
  const path = options.config as string | undefined;
  return resolveConfig(schema, given as GivenFlags, path === undefined ? undefined : readConfigFile(path));
}
