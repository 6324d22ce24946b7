import { readFileSync, statSync } from 'node:fs';
// The ban is on the addon; this one is for a package of npm.
// oxlint-disable-next-line no-restricted-imports
import { createRequire } from 'node:module';
import type * as Yaml from 'yaml';
import { SluiceError } from './errors.ts';
import { fileError } from './file-error.ts';

/** A configuration file as read: values are not checked yet. */
export interface ConfigFile {
  path: string;
  /** By key as written; `line` counts from 1. */
  entries: ReadonlyMap<string, { value: unknown; line: number }>;
}

const MAX_BYTES = 1_000_000;

/** @throws SluiceError FILE when it cannot be read, USAGE when it is no YAML map */
export function readConfigFile(path: string): ConfigFile {
  let text: string;
  try {
    const { size } = statSync(path);
    if (size > MAX_BYTES) {
      throw new SluiceError('USAGE', `${path} is too large for a configuration file (${size} bytes)`, {
        help: `a configuration has at most ${MAX_BYTES} bytes`,
      });
    }
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    if (cause instanceof SluiceError) throw cause;
    throw fileError(path, cause, { missing: 'check the path given to --config' });
  }
  return parseConfig(path, text);
}

/** @throws SluiceError USAGE */
export function parseConfig(path: string, text: string): ConfigFile {
  // Loaded when there is a file: most runs have none, and it would take a good part of their start.
  const { isMap, isScalar, LineCounter, parseDocument } = createRequire(import.meta.url)(
    'yaml',
  ) as typeof Yaml;
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false, uniqueKeys: true });
  const line = (offset: number | undefined) => (offset === undefined ? 1 : lines.linePos(offset).line);
  const [problem] = document.errors;
  if (problem !== undefined) {
    throw new SluiceError('USAGE', `${path}:${line(problem.pos[0])}: ${problem.message}`, {
      help: "each line of the file is 'key: value'",
    });
  }
  const entries = new Map<string, { value: unknown; line: number }>();
  if (document.contents === null) return { path, entries };
  if (!isMap(document.contents)) {
    throw new SluiceError('USAGE', `${path} is not a list of settings`, {
      help: "each line of the file is 'key: value'",
    });
  }
  for (const { key, value } of document.contents.items) {
    const name = isScalar(key) ? String(key.value) : String(key);
    const at = isScalar(key) ? line(key.range?.[0]) : 1;
    let plain: unknown;
    try {
      // Aliases are not needed in a flat file, and a few of them can stand for gigabytes.
      plain =
        value === null
          ? null
          : (value as { toJS(doc: unknown, options: { maxAliasCount: number }): unknown }).toJS(document, {
              maxAliasCount: 10,
            });
    } catch (cause) {
      throw new SluiceError('USAGE', `${path}:${at}: the value of '${name}' cannot be read`, { cause });
    }
    // `key:` without a value leaves the default in force.
    if (plain !== null) entries.set(name, { value: plain, line: at });
  }
  return { path, entries };
}
