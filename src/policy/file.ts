import { type Document, isMap, isNode, isScalar, LineCounter, parseDocument } from 'yaml';
import type { core } from 'zod';
import { SluiceError } from '../base/errors.ts';
import { nearest } from '../base/suggest.ts';
import { presetPolicy } from './presets.ts';
import { type PolicySpec, policyFileSchema, policySchema, presetSchema, type SetSpec } from './spec.ts';

/** A policy file as it is written: sets are not read yet, conditions not compiled. `place`: file and line, as `FILE:7`. */
export interface WrittenFile {
  sets: readonly { name: string; spec: SetSpec; place: string }[];
  policies: readonly { spec: PolicySpec; place: string }[];
}

const HELP = 'docs/policies.md describes the file';

/** Every error begins with file and line. @throws SluiceError FILE_FORMAT, USAGE for a preset's argument */
export function parsePolicyFile(path: string, text: string): WrittenFile {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const at = (offset: number) => `${path}:${lines.linePos(offset).line}`;
  const [problem] = document.errors;
  if (problem !== undefined)
    throw new SluiceError('FILE_FORMAT', `${at(problem.pos[0])}: this is not YAML: ${problem.message}`);
  const place = (keys: readonly PropertyKey[]) => at(offsetOf(document, keys));
  let plain: unknown;
  try {
    plain = document.toJS();
  } catch (cause) {
    // A few aliases can stand for gigabytes.
    throw new SluiceError('FILE_FORMAT', `${path}: ${(cause as Error).message}`, { cause, help: HELP });
  }
  const parsed = policyFileSchema.safeParse(plain);
  if (!parsed.success) {
    const { keys, message, unknown } = plainest(parsed.error.issues, plain);
    const name = keys.join('.') || 'the file';
    const line = place(unknown === undefined ? keys : [...keys, unknown]);
    throw new SluiceError('FILE_FORMAT', `${line}: ${name}: ${message}`, { help: HELP });
  }
  const { sets, policies } = parsed.data;
  return {
    sets: Object.entries(sets).map(([name, spec]) => ({ name, spec, place: place(['sets', name]) })),
    policies: policies.map((written, i) => {
      const where = place(['policies', i]);
      if (!('preset' in written)) return { spec: written, place: where };
      const { preset, ...changes } = written;
      const made = placed(where, () => presetPolicy(preset));
      return { spec: { ...made, ...changes, name: changes.name ?? made.name }, place: where };
    }),
  };
}

/** An error gets the place in front. */
export function placed<T>(place: string, run: () => T): T {
  try {
    return run();
  } catch (thrown) {
    if (!(thrown instanceof SluiceError)) throw thrown;
    throw new SluiceError(thrown.code, `${place}: ${thrown.message}`, {
      cause: thrown.cause,
      ...(thrown.help === undefined ? {} : { help: thrown.help }),
    });
  }
}

/** Where what these keys lead to stands, or the last of them that is there. */
function offsetOf(document: Document, keys: readonly PropertyKey[]): number {
  for (let n = keys.length; n > 0; n--) {
    const parent: unknown = n === 1 ? document.contents : document.getIn(keys.slice(0, n - 1), true);
    const pair = isMap(parent)
      ? parent.items.find(({ key }) => isScalar(key) && String(key.value) === String(keys[n - 1]))
      : undefined;
    const node: unknown = pair?.key ?? document.getIn(keys.slice(0, n), true);
    if (isNode(node) && node.range) return node.range[0];
  }
  return document.contents?.range?.[0] ?? 0;
}

interface Problem {
  keys: readonly PropertyKey[];
  message: string;
  /** The key that nobody knows. */
  unknown?: string;
}

/** What is wrong, where it may be one of several things: by what it was most likely meant to be. */
function plainest(issues: readonly core.$ZodIssue[], plain: unknown): Problem {
  // A mistyped key is also one that is missing.
  const issue = issues.find(({ code }) => code === 'unrecognized_keys') ?? issues[0];
  const keys = issue.path;
  if (issue.code === 'unrecognized_keys') {
    const [unknown] = issue.keys;
    const known = keys[0] === 'policies' ? knownTo(valueAt(plain, keys)) : ['sets', 'policies'];
    const near = nearest(unknown, known);
    const hint = near === undefined ? '' : `, did you mean '${near}'?`;
    return { keys, message: `there is no key '${unknown}'${hint}`, unknown };
  }
  if (issue.code !== 'invalid_union')
    return { keys, message: valueAt(plain, keys) === undefined ? 'is missing' : issue.message };
  if (keys[0] === 'sets')
    return { keys, message: 'must be one of prefixes, domains, words, suricata, with the name of a file' };
  const written = valueAt(plain, keys);
  const schema = isPreset(written) ? presetSchema : policySchema;
  const inner = schema.safeParse(written).error?.issues ?? [];
  return inner.length === 0
    ? { keys, message: issue.message }
    : plainest(
        inner.map((each) => ({ ...each, path: [...keys, ...each.path] })),
        plain,
      );
}

const isPreset = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && 'preset' in value;

const knownTo = (written: unknown): string[] =>
  Object.keys((isPreset(written) ? presetSchema : policySchema).shape);

function valueAt(plain: unknown, keys: readonly PropertyKey[]): unknown {
  let value = plain;
  for (const key of keys) value = (value as Record<PropertyKey, unknown> | undefined)?.[key];
  return value;
}
