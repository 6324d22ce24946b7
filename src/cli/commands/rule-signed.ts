import { writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { Argument, type Command, Option } from 'commander';
import { outputSchema } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import { parseRule, type Rule } from '../../rules/spec.ts';
import { wholeNumber } from '../arguments.ts';
import type { Register } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';
import { readText } from './gate-fleet.ts';
import { fromFile, type RuleOptions, withRule, written } from './rule-input.ts';

/** Of who signs something (withAuthor). */
export interface AuthorOptions {
  key: string;
  author?: string;
  revision?: number;
}

interface SignOptions extends RuleOptions, AuthorOptions {
  site?: string[];
  role?: string[];
  node?: string[];
  onInterface?: string[];
  canary?: string[];
}

const names = (flag: string, what: string): Option =>
  new Option(`${flag} <NAME>`, `${what} Repeatable.`).argParser(
    (value: string, before: string[] | undefined) => [...(before ?? []), value],
  );

/** @param highest of what the highest revision counts */
export function withAuthor(command: Command, highest = 'several about one id'): Command {
  return command
    .addOption(new Option('--key <FILE>', 'The private key.').makeOptionMandatory())
    .addOption(new Option('--author <TEXT>', 'Who says so; default: the user.'))
    .addOption(
      new Option(
        '--revision <N>',
        `Of ${highest} the highest counts; default: milliseconds since 1970.`,
      ).argParser(wholeNumber(1, 1e15)),
    );
}

/** Signs statements, one line each. @throws SluiceError USAGE, FILE, FILE_FORMAT */
async function signAll(
  statements: readonly { id: string; rule: Rule | null; expires: number }[],
  { key: path, author = userInfo().username, revision = Date.now(), canary = [] }: SignOptions,
): Promise<string[]> {
  const { readSigningKey } = await import('../../fleet/keys.ts');
  const { canaryOf } = await import('../../fleet/canary.ts');
  const { signStatement } = await import('../../fleet/statement.ts');
  const key = readSigningKey(readText(path), path);
  const issued = Math.floor(Date.now() / 1000);
  return statements.flatMap(({ id, rule, expires }) => {
    const about = { version: 1, id, revision, author, issued, expires: Math.ceil(expires) } as const;
    if (rule === null) return signStatement({ ...about, rule: null }, key);
    const { id: _id, enabled: _enabled, expires: _expires, ...body } = rule;
    if (canary.length === 0) return signStatement({ ...about, rule: body }, key);
    const next = { ...about, revision: revision + 1, rule: body };
    return [canaryOf({ ...about, rule: body }, canary), next].map((input) => signStatement(input, key));
  });
}

/** `sluice rule keygen|sign|withdraw|verify`: rules that go to many gates. */
export function registerSigned(rule: Command, host: Parameters<Register>[1]): void {
  registerKeygen(rule, host);
  registerSign(rule, host);
  registerVerify(rule, host);
}

function registerKeygen(rule: Command, host: Parameters<Register>[1]): void {
  const keygen = rule
    .command('keygen')
    .description(
      'Make a key to sign rules with: NAME.key, which is secret, and NAME.pub for those who trust it.',
    )
    .addArgument(new Argument('<NAME>', 'of the key, and of its files'))
    .action(async (path: string) => {
      const { config } = configOf(keygen, outputSchema);
      await host.run(config, async (io) => {
        const { generateKeys } = await import('../../fleet/keys.ts');
        const { id, privatePem, publicLine } = generateKeys(path.replace(/.*\//, ''));
        const files = { private: `${path}.key`, public: `${path}.pub` };
        try {
          writeFileSync(files.private, privatePem, { mode: 0o600, flag: 'wx' });
          writeFileSync(files.public, publicLine, { flag: 'wx' });
        } catch (cause) {
          throw new SluiceError('FILE', `cannot make ${files.private} and ${files.public}`, { cause });
        }
        if (config.json) io.out(`${JSON.stringify({ id, ...files })}\n`);
        else io.say(`key ${id}: ${files.private} signs, ${files.public} is for --trust`);
        return undefined;
      });
    });
  addFlags(keygen, outputSchema);
  keygen.addHelpText('after', '\nExample:\n  sluice rule keygen desk');
}

function registerSign(rule: Command, host: Parameters<Register>[1]): void {
  const sign = withAuthor(
    withRule(
      rule.command('sign').description('Sign rules, one a line, on the standard output (docs/fleet.md).'),
    ),
  )
    .addOption(new Option('--file <FILE>', 'Rules from a YAML or JSON file, as for sluice rule add.'))
    .addOption(names('--site', 'Only at this site.'))
    .addOption(names('--role', 'Only where this is the role.'))
    .addOption(names('--node', 'Only on this host.'))
    .addOption(names('--on-interface', 'Only on this interface.'))
    .addOption(
      names(
        '--canary',
        'Sign two revisions: the first for this site alone, the next for all; sluice rule publish tries the first.',
      ),
    )
    .action(async (expr: string | undefined) => {
      const { config } = configOf(sign, outputSchema);
      const given = sign.opts<SignOptions>();
      await host.run(config, async (io) => {
        const { compileFilterText } = await import('../../filter/index.ts');
        const scope = {
          ...(given.site === undefined ? {} : { sites: given.site }),
          ...(given.role === undefined ? {} : { roles: given.role }),
          ...(given.node === undefined ? {} : { nodes: given.node }),
          ...(given.onInterface === undefined ? {} : { interfaces: given.onInterface }),
        };
        const rules =
          given.file === undefined ? [parseRule(written(expr, given))] : fromFile(given.file, expr);
        const statements = rules.map((one) => {
          compileFilterText(one.expr, one.lang);
          if (!one.enabled) throw new SluiceError('USAGE', `rule ${one.id} is off: withdraw it instead`);
          const expires =
            one.expires ?? (given.ttl === undefined ? undefined : Date.now() / 1000 + given.ttl);
          if (expires === undefined)
            throw new SluiceError('USAGE', `rule ${one.id} would never expire`, { help: 'give --ttl' });
          return { id: one.id, rule: { ...one, scope: { ...one.scope, ...scope } }, expires };
        });
        io.out((await signAll(statements, given)).map((line) => `${line}\n`).join(''));
        return undefined;
      });
    });
  addFlags(sign, outputSchema);
  sign.addHelpText(
    'after',
    `
Examples:
  sluice rule sign 'dst host 192.0.2.7 and udp src port 123' --id ntp --ttl 1h --key desk.key >> rules.jsonl
  sluice rule sign --file rules.yaml --ttl 1d --site fra1 --key desk.key | sluice rule publish - --to nats://nats.example
  sluice rule sign udp --id flood --ttl 1h --canary fra1 --key desk.key | sluice rule publish - --to nats://nats.example --canary-for 10m`,
  );

  const withdraw = withAuthor(
    rule
      .command('withdraw')
      .description('Sign that rules are withdrawn; that they are missing says nothing.'),
  )
    .addArgument(new Argument('<ID...>', 'ids of rules, as signed'))
    .action(async (ids: string[]) => {
      const { config } = configOf(withdraw, outputSchema);
      const given = withdraw.opts<SignOptions>();
      await host.run(config, async (io) => {
        const { MAX_LIFE } = await import('../../fleet/statement.ts');
        const expires = Math.floor(Date.now() / 1000) + MAX_LIFE - 1;
        const lines = await signAll(
          ids.map((id) => ({ id, rule: null, expires })),
          given,
        );
        io.out(lines.map((line) => `${line}\n`).join(''));
        return undefined;
      });
    });
  addFlags(withdraw, outputSchema);
  withdraw.addHelpText('after', '\nExample:\n  sluice rule withdraw ntp --key desk.key >> rules.jsonl');
}

/** Whose rules are believed. */
export const trustOption = (): Option =>
  new Option(
    '--trust <FILE>',
    'Public keys whose signatures count, as sluice rule keygen writes them. Repeatable.',
  )
    .argParser((value: string, before: string[]) => [...before, value])
    .default([] as string[], 'none');

function registerVerify(rule: Command, host: Parameters<Register>[1]): void {
  const check = rule
    .command('verify')
    .description('Whether signed rules count, line by line; fails when one does not.')
    .addArgument(new Argument('<FILE>', 'lines of sluice rule sign; - is stdin'))
    .addOption(trustOption())
    .action(async (path: string) => {
      const { config } = configOf(check, outputSchema);
      await host.run(config, async (io) => {
        const { trustedKeys } = await import('../../gate/fleet-options.ts');
        const keys = trustedKeys(check.opts<{ trust: string[] }>().trust);
        const { linesOf } = await import('../../fleet/polled-source.ts');
        const { verifyStatement } = await import('../../fleet/statement.ts');
        const { isBundle, verifyBundle } = await import('../../fleet/program-bundle.ts');
        const { SlPacket } = await import('../../gate/layout.gen.ts');
        const rows = linesOf(readText(path), path).map(({ where, text }) => {
          if (isBundle(text)) {
            const bundle = verifyBundle(text, keys, Date.now() / 1000, SlPacket.members.frame_len);
            if ('refused' in bundle) return { where, id: null, ...bundle };
            const { revision, author, program } = bundle.signed;
            const about = { revision, author, key: bundle.keyName, programs: bundle.set.rules.size };
            return { where, id: program.slice(0, 12), refused: null, ...about };
          }
          const result = verifyStatement(text, keys, Date.now() / 1000);
          if ('refused' in result)
            return { where, id: result.id ?? null, refused: result.refused, why: result.why };
          const { id, revision, author, expires, rule: body } = result.statement;
          return { where, id, refused: null, revision, author, key: result.keyName, expires, rule: body };
        });
        const bad = rows.filter(({ refused }) => refused !== null).length;
        if (config.json) io.out(`${JSON.stringify(rows)}\n`);
        else
          for (const row of rows)
            io.out(
              row.refused === null
                ? `${row.where}: ${row.id} revision ${row.revision} by ${row.author}, key ${row.key}${'programs' in row ? `, programs of ${row.programs} rules` : row.rule === null ? ', withdrawn' : ''}\n`
                : `${row.where}: ${row.id ?? '(nameless)'} ${row.refused}: ${row.why}\n`,
            );
        if (bad > 0) throw new SluiceError('FLEET', `${bad} of ${rows.length} signed rules do not count`);
        return undefined;
      });
    });
  addFlags(check, outputSchema);
  check.addHelpText('after', '\nExample:\n  sluice rule verify rules.jsonl --trust desk.pub');
}
