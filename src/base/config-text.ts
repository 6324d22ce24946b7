import { z } from 'zod';
import { runSchema } from './config.ts';
import { kebab, type Origin } from './config-resolve.ts';
import { type OptionMeta, optionMeta } from './options.ts';
import { bytesText, durationText } from './units.ts';

export interface KeyInfo {
  /** As in RunConfig. */
  name: string;
  /** As in the file; the flag without its dashes. */
  key: string;
  meta: OptionMeta;
  /** The default as it would be written in the file; undefined when there is none. */
  preset: string | undefined;
  choices: readonly string[] | undefined;
}

/** A value as the file and the flags take it. */
export function valueText(meta: OptionMeta, value: unknown): string {
  if (Array.isArray(value)) return value.join(',');
  if (typeof value === 'number' && meta.unit === 'bytes') return bytesText(value);
  if (typeof value === 'number' && meta.unit === 'duration') return durationText(value);
  return String(value);
}

/** Every key of a schema in the order of its declaration. */
export function keysOf(schema: z.ZodObject): KeyInfo[] {
  return Object.entries(schema.shape as Record<string, z.ZodType>).map(([name, key]) => {
    const meta = optionMeta.get(key) as OptionMeta;
    const value = key.safeParse(undefined);
    const empty =
      !value.success || value.data === undefined || (Array.isArray(value.data) && value.data.length === 0);
    const inner = key instanceof z.ZodDefault ? key.unwrap() : key;
    return {
      name,
      key: kebab(name),
      meta,
      preset: empty ? undefined : valueText(meta, value.data),
      choices: inner instanceof z.ZodEnum ? inner.options.map(String) : undefined,
    };
  });
}

/** A configuration as a file that gives it again, each line with where it came from. */
export function configYaml(
  schema: z.ZodObject,
  config: Readonly<Record<string, unknown>>,
  origin: Readonly<Record<string, Origin>>,
): string {
  const lines: string[] = [];
  let group = '';
  for (const { name, key, meta } of keysOf(schema)) {
    if (meta.group !== group) lines.push(`${group === '' ? '' : '\n'}# ${meta.group}`);
    group = meta.group;
    const value = config[name];
    const note = origin[name] === 'default' ? '' : `  # ${origin[name]}`;
    if (value === undefined) lines.push(`# ${key}: (${meta.otherwise ?? 'not set'})`);
    else if (Array.isArray(value))
      lines.push(`${key}: [${value.map((each) => JSON.stringify(each)).join(', ')}]${note}`);
    else
      lines.push(
        `${key}: ${typeof value === 'string' ? JSON.stringify(value) : valueText(meta, value)}${note}`,
      );
  }
  return `${lines.join('\n')}\n`;
}

/** JSON Schema (2020-12) of the configuration file. */
export function configJsonSchema(): Record<string, unknown> {
  const made = z.toJSONSchema(runSchema, { io: 'input', unrepresentable: 'any' }) as {
    properties: Record<string, Record<string, unknown>>;
  };
  const properties: Record<string, unknown> = {};
  for (const { name, key, meta, preset } of keysOf(runSchema)) {
    const { default: _, ...type } = made.properties[name];
    properties[key] = {
      ...type,
      description: meta.help,
      ...(preset === undefined ? {} : { default: typed(preset) }),
    };
  }
  return {
    $schema: 'https://json-schema.org/draft/2020-12/schema',
    title: 'sluice.yaml',
    type: 'object',
    additionalProperties: false,
    properties,
  };
}

function typed(text: string): unknown {
  if (text === 'true' || text === 'false') return text === 'true';
  return /^\d+$/.test(text) ? Number(text) : text;
}
