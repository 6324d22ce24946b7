import { open, readFile } from 'node:fs/promises';
import { dirname, isAbsolute, join } from 'node:path';
import { SluiceError } from '../base/errors.ts';
import { fileError } from '../base/file-error.ts';
import { shellWord } from '../base/shell.ts';
import { compileCondition, type PolicySets } from './condition.ts';
import { type DomainTable, domainTable, MAX_DOMAINS, parseDomain } from './domain-set.ts';
import { parsePolicyFile, placed } from './file.ts';
import { MAX_PREFIXES, type PrefixTable, PrefixTableBuilder, parsePrefix } from './prefix-set.ts';
import { presetPolicy } from './presets.ts';
import { parseSchedule } from './schedule.ts';
import type { PolicySpec, SetSpec } from './spec.ts';
import { readSignatures, type SignatureFile } from './suricata/read.ts';
import type { Signature, Variables } from './suricata/signature.ts';
import { SignatureTable } from './suricata/table.ts';

/** Policies with the sets that they name: plain data and shared memory, which goes to workers as it is. */
export interface PolicyPlan {
  specs: readonly PolicySpec[];
  prefixes: readonly (readonly [name: string, table: PrefixTable])[];
  domains: readonly (readonly [name: string, table: DomainTable])[];
  words: readonly (readonly [name: string, words: readonly string[]])[];
  signatures: readonly (readonly [name: string, signatures: readonly Signature[]])[];
  /** What of a set was left out, for whoever loads it to be told: a sentence for each file. */
  warnings: readonly string[];
}

/** Words that a set may hold, and bytes of one of its lines. */
const MAX_WORDS = 1_000_000;
const MAX_LINE = 4096;
/** Lines between two turns of the event loop. */
const LINES_A_TURN = 20_000;
const MAX_FILE = 256 * 1024 * 1024;

/** The sets of a plan, as conditions want them. */
export function setsOf(plan: PolicyPlan): PolicySets {
  return {
    prefixes: new Map(plan.prefixes),
    domains: new Map(plan.domains),
    words: new Map(plan.words.map(([name, words]) => [name, new Set(words)])),
    signatures: new Map(plan.signatures.map(([name, signatures]) => [name, new SignatureTable(signatures)])),
  };
}

/**
 * The policies of texts that may each hold a comma-separated list of presets (`tls,bulk=1MB`), in this order, each once;
 * none for `none`.
 * @throws SluiceError USAGE
 */
export function parsePolicies(texts: readonly string[]): PolicySpec[] {
  const items = texts.flatMap((text) => text.split(',')).map((item) => item.trim());
  if (items.includes('none')) {
    if (items.length > 1)
      throw new SluiceError('USAGE', "policy 'none' stands alone", {
        help: 'leave it out, or leave out the others',
      });
    return [];
  }
  const specs = items.map(presetPolicy);
  specs.forEach(({ trigger }, i) => {
    if (specs.findIndex((other) => other.trigger === trigger) !== i)
      throw new SluiceError('USAGE', `policy '${items[i].split('=')[0]}' is given twice`, {
        help: 'give each policy once; what else is wanted goes into a policy file',
      });
  });
  return specs;
}

/** A plan of presets alone. */
export function planOf(specs: readonly PolicySpec[]): PolicyPlan {
  return { specs, prefixes: [], domains: [], words: [], signatures: [], warnings: [] };
}

/**
 * Presets and policy files together: those of files come first. Reads sets in portions, off no event loop for long.
 * @throws SluiceError FILE, FILE_FORMAT, USAGE; PolicyError
 */
export async function loadPolicies(texts: readonly string[], files: readonly string[]): Promise<PolicyPlan> {
  const plan: Mutable = { specs: [], prefixes: [], domains: [], words: [], signatures: [], warnings: [] };
  const places: string[] = [];
  for (const file of files) places.push(...(await readPolicyFile(file, plan)));
  plan.specs.push(...parsePolicies(texts));
  const names = new Set<string>();
  // Says now what a worker would say later.
  const sets = setsOf(plan);
  plan.specs.forEach(({ name, when, schedule }, i) => {
    const place = i < places.length ? `${places[i]}: ` : '';
    if (names.has(name))
      throw new SluiceError('USAGE', `${place}there are two policies '${name}'`, {
        help: 'give each a name of its own',
      });
    names.add(name);
    placed(`${place}policy '${name}'`, () => {
      compileCondition(when, sets);
      if (schedule !== undefined) parseSchedule(schedule);
    });
  });
  return plan;
}

type Mutable = {
  specs: PolicySpec[];
  prefixes: (readonly [string, PrefixTable])[];
  domains: (readonly [string, DomainTable])[];
  words: (readonly [string, readonly string[]])[];
  signatures: (readonly [string, readonly Signature[]])[];
  warnings: string[];
};

/** Answers the place of each policy. */
async function readPolicyFile(path: string, plan: Mutable): Promise<string[]> {
  const { sets, policies } = parsePolicyFile(path, await textOf(path));
  const { prefixes, domains, words, signatures } = plan;
  for (const { name, spec, place } of sets) {
    if ([...prefixes, ...domains, ...words, ...signatures].some(([other]) => other === name))
      throw new SluiceError('FILE_FORMAT', `${place}: there is a set '${name}' in another policy file`, {
        help: 'give each a name of its own',
      });
    await readSet(path, name, spec, plan);
  }
  plan.specs.push(...policies.map(({ spec }) => spec));
  return policies.map(({ place }) => place);
}

async function readSet(from: string, name: string, spec: SetSpec, plan: Mutable): Promise<void> {
  const of = (file: string) => (isAbsolute(file) ? file : join(dirname(from), file));
  if ('prefixes' in spec) {
    const builder = new PrefixTableBuilder();
    await eachLine(of(spec.prefixes), MAX_PREFIXES, (text) => {
      const prefix = parsePrefix(text);
      if (prefix === undefined) return 'no address or prefix';
      builder.add(prefix.bytes, prefix.bits);
      return undefined;
    });
    plan.prefixes.push([name, builder.build()]);
  } else if ('domains' in spec) {
    const domains = new Set<string>();
    await eachLine(of(spec.domains), MAX_DOMAINS, (text) => {
      const domain = parseDomain(text);
      if (domain === undefined) return 'no domain';
      domains.add(domain);
      return undefined;
    });
    plan.domains.push([name, domainTable([...domains])]);
  } else if ('suricata' in spec) {
    const path = of(spec.suricata);
    const read = await readSignatures(await textOf(path), spec.vars);
    plan.signatures.push([name, read.signatures]);
    const warning = leftOut(path, read, spec.vars);
    if (warning !== undefined) plan.warnings.push(warning);
  } else {
    const words = new Set<string>();
    await eachLine(of(spec.words), MAX_WORDS, (text) => {
      words.add(text);
      return undefined;
    });
    plan.words.push([name, [...words]]);
  }
}

/** What of a rule file does not become a policy, and the command that says why. */
function leftOut(
  path: string,
  { signatures, refused, damaged }: SignatureFile,
  vars: Variables = {},
): string | undefined {
  const parts = [];
  if (refused.length > 0)
    parts.push(
      `${refused.length} of ${refused.length + signatures.length} signatures with bypass are not taken`,
    );
  if (damaged.length > 0) parts.push(`${damaged.length} lines are no rules`);
  if (parts.length === 0) return undefined;
  const given = Object.entries(vars).map(([name, value]) => ` --var ${shellWord(`${name}=${value}`)}`);
  const command = `sluice policy signatures ${shellWord(path)}${given.join('')}`;
  return `${path}: ${parts.join(', ')}; \`${command}\` says why`;
}

/** @throws SluiceError FILE, FILE_FORMAT */
export async function textOf(path: string): Promise<string> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    throw fileError(path, cause);
  }
  if (text.length > MAX_FILE)
    throw new SluiceError('FILE_FORMAT', `${path} is larger than ${MAX_FILE} bytes`);
  return text;
}

/** Gives the first word of each line that has one and is no comment; what `take` answers is wrong with it is told. */
async function eachLine(
  path: string,
  most: number,
  take: (text: string) => string | undefined,
): Promise<void> {
  let number = 0;
  let count = 0;
  try {
    await using file = await open(path);
    for await (const line of file.readLines()) {
      if (++number % LINES_A_TURN === 0) await new Promise((resolve) => setImmediate(resolve));
      const text = /^\s*([^\s#]+)/.exec(line.slice(0, MAX_LINE))?.[1];
      if (text === undefined) continue;
      if (++count > most) throw new SluiceError('FILE_FORMAT', `${path} holds more than ${most} entries`);
      const wrong = take(text);
      if (wrong !== undefined)
        throw new SluiceError('FILE_FORMAT', `${path}, line ${number}: '${text.slice(0, 80)}' is ${wrong}`, {
          help: 'one a line; # begins a comment',
        });
    }
  } catch (cause) {
    if (cause instanceof SluiceError) throw cause;
    throw fileError(path, cause);
  }
}
