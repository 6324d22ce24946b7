import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Argument, type Command, InvalidArgumentError, Option } from 'commander';
import { parse as parseYaml } from 'yaml';
import { SluiceError } from '../../base/errors.ts';
import { fileError } from '../../base/file-error.ts';
import { parseDuration } from '../../base/units.ts';
import { LANGUAGES, type Language } from '../../filter/index.ts';
import {
  actionText,
  parseAction,
  parseRule,
  RULE_LIMITS,
  type Rule,
  type RuleInput,
} from '../../rules/spec.ts';

/** What describes a rule on the command line. */
export interface RuleOptions {
  interface?: string;
  id?: string;
  lang?: Language;
  action?: string;
  priority?: number;
  ttl?: number;
  note?: string;
  offload?: 'nic';
  file?: string;
  replace?: boolean;
  off?: boolean;
  why?: string;
  pcap?: string;
}

/** Bytes of a file of rules. */
const MAX_FILE = 64 << 20;

export function withRule(command: Command): Command {
  return command
    .addArgument(new Argument('[EXPR]', 'the expression; not with --file'))
    .addOption(new Option('--id <ID>', 'Its name; default: made of what it says.'))
    .addOption(
      new Option('--lang <LANG>', 'Language of the expression.').choices(LANGUAGES).default('tcpdump'),
    )
    .addOption(
      new Option(
        '--action <ACTION>',
        'drop, count, limit=1000pps, limit=10mbit,per=source/24,burst=200ms, sample=100,size=128B.',
      ).default('drop'),
    )
    .addOption(new Option('--priority <N>', 'Lower comes first; default 1000.').argParser(priority))
    .addOption(new Option('--ttl <TIME>', 'For so long; default: until it is removed.').argParser(ttl))
    .addOption(new Option('--note <TEXT>', 'For people.'));
}

/** The rule that the command line describes. */
export function written(expr: string | undefined, given: RuleOptions): RuleInput {
  if (expr === undefined)
    throw new SluiceError('USAGE', 'give an expression, or a --file of rules', {
      help: "sluice rule add 'udp src port 123' --action drop",
    });
  const { lang = 'tcpdump', action: text = 'drop', priority, ttl, note, offload } = given;
  const action = parseAction(text);
  const made = createHash('sha256')
    .update(`${lang} ${expr} ${actionText(action)}`)
    .digest('hex')
    .slice(0, 8);
  return {
    id: given.id ?? `rule-${made}`,
    expr,
    lang,
    action,
    ...(priority === undefined ? {} : { priority }),
    ...(note === undefined ? {} : { note }),
    ...(offload === undefined ? {} : { offload }),
    ...(ttl === undefined ? {} : { expires: Date.now() / 1000 + ttl }),
    enabled: given.off !== true,
  };
}

/** A list of rules; actions may be written as on the command line. @throws SluiceError FILE, FILE_FORMAT, USAGE */
export function fromFile(path: string, expr: string | undefined): Rule[] {
  if (expr !== undefined) throw new SluiceError('USAGE', 'give an expression or --file, not both');
  let text: string;
  try {
    text = readFileSync(path === '-' ? 0 : path, 'utf8');
  } catch (cause) {
    throw fileError(path, cause, { missing: 'check the path; - reads standard input' });
  }
  if (text.length > MAX_FILE)
    throw new SluiceError('FILE_FORMAT', `${path} is larger than ${MAX_FILE} bytes`);
  let list: unknown;
  try {
    list = parseYaml(text, { maxAliasCount: 0 });
  } catch (cause) {
    throw new SluiceError('FILE_FORMAT', `${path} is neither YAML nor JSON`, { cause });
  }
  if (!Array.isArray(list) || list.length === 0)
    throw new SluiceError('FILE_FORMAT', `${path} is not a list of rules`, {
      help: 'docs/rules.md shows one',
    });
  if (list.length > RULE_LIMITS.rules)
    throw new SluiceError(
      'LIMIT',
      `${path} has ${list.length} rules; a gate has room for ${RULE_LIMITS.rules}`,
    );
  return list.map((item: unknown) => {
    const given = item as { action?: unknown } | null;
    if (typeof given?.action !== 'string') return parseRule(item);
    return parseRule({ ...given, action: parseAction(given.action) });
  });
}

function priority(text: string): number {
  if (!/^\d{1,5}$/.test(text) || Number(text) > 65_535)
    throw new InvalidArgumentError('not a number up to 65535');
  return Number(text);
}

function ttl(text: string): number {
  try {
    const value = parseDuration(text);
    if (value >= 1 && value <= 366 * 86_400) return value;
  } catch {
    // Told below.
  }
  throw new InvalidArgumentError('not a time from 1 second to 366 days, such as 30 or 5m');
}
