import { userInfo } from 'node:os';
import { Argument, type Command, Option } from 'commander';
import { natsSchema } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import type { Entry } from '../../fleet/rule-book.ts';
import type { Register } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';
import { readText } from './gate-fleet.ts';
import { type AuthorOptions, trustOption, withAuthor } from './rule-signed.ts';

interface CompileOptions extends AuthorOptions {
  trust: string[];
  from?: string;
}

/** Rules that can be compiled for all; tells of the others, which each edge compiles, or refuses, for itself. */
async function forAll(entries: readonly Entry[], say: (text: string) => void): Promise<Entry[]> {
  const { compileFilterText } = await import('../../filter/index.ts');
  return entries.filter(({ statement: { id, rule } }) => {
    if (rule === null) return false;
    if (rule.tests.match.length + rule.tests.noMatch.length > 0) {
      say(`${id} is left to the edges, which try it on its packets`);
      return false;
    }
    try {
      compileFilterText(rule.expr, rule.lang);
      return true;
    } catch (error) {
      say(`${id} is left out: ${(error as Error).message}`);
      return false;
    }
  });
}

/** `sluice rule compile`: programs for the edges of a fleet that take them. */
export function registerRuleCompile(rule: Command, host: Parameters<Register>[1]): void {
  const compile = withAuthor(
    rule
      .command('compile')
      .description(
        "Compile a fleet's signed rules once, for gates with --trust-programs: one signed line on the standard output (docs/fleet.md).",
      ),
    'several bundles',
  )
    .addArgument(new Argument('[FILE]', 'lines of sluice rule sign; - is stdin; not with --from'))
    .addOption(new Option('--from <URL>', 'All rules of a fleet: nats://HOST[:PORT][/BUCKET].'))
    .addOption(trustOption())
    .action(async (path: string | undefined) => {
      const { config } = configOf(compile, natsSchema);
      const given = compile.opts<CompileOptions>();
      await host.run(config, async (io) => {
        if ((path === undefined) === (given.from === undefined))
          throw new SluiceError('USAGE', 'rules come from a file or with --from, one of the two', {
            help: 'sluice rule compile rules.jsonl --trust desk.pub --key programs.key',
          });
        const { readSigningKey } = await import('../../fleet/keys.ts');
        const { natsAccess } = await import('../../fleet/nats-access.ts');
        const { natsPlace } = await import('../../fleet/nats-place.ts');
        const { NatsDesk } = await import('../../fleet/nats-desk.ts');
        const { linesOf } = await import('../../fleet/polled-source.ts');
        const { isBundle, signBundle } = await import('../../fleet/program-bundle.ts');
        const { RuleBook } = await import('../../fleet/rule-book.ts');
        const { ruleOf } = await import('../../fleet/statement.ts');
        const { trustedKeys } = await import('../../gate/fleet-options.ts');
        const { SlPacket } = await import('../../gate/layout.gen.ts');
        const { compilerAbi, compileSet } = await import('../../rules/taken/program-set.ts');
        const book = new RuleBook(trustedKeys(given.trust));
        const key = readSigningKey(readText(given.key), given.key);
        const lines =
          given.from === undefined
            ? linesOf(readText(path as string), path as string).map(({ text }) => text)
            : await new NatsDesk(natsPlace(given.from, natsAccess(config))).lines();
        const now = Date.now() / 1000;
        let refused = 0;
        for (const line of lines) if (!isBundle(line) && 'refused' in book.offer(line, now)) refused++;
        if (refused > 0) io.say(`${refused} lines do not count (sluice rule verify names them)`);
        const rules = (await forAll(book.entries(now), (text) => io.say(text))).flatMap(({ statement }) => {
          const made = ruleOf(statement);
          return made === undefined ? [] : [{ ...made, revision: statement.revision }];
        });
        if (rules.length === 0) throw new SluiceError('RULE', 'there is no rule to compile');
        const frameLength = SlPacket.members.frame_len;
        const { revision = Date.now(), author = userInfo().username } = given;
        const about = { revision, author, issued: Math.floor(now), abi: compilerAbi(frameLength) };
        const line = signBundle(compileSet(rules, frameLength), about, key);
        io.out(`${line}\n`);
        io.say(`${rules.length} rules compiled, ${line.length} bytes`);
        return undefined;
      });
    });
  addFlags(compile, natsSchema);
  compile.addHelpText(
    'after',
    `
Examples:
  sluice rule compile rules.jsonl --trust desk.pub --key programs.key >> rules.jsonl
  sluice rule compile --from nats+tls://nats.example --nats-creds desk.creds --trust desk.pub --key programs.key \\
    | sluice rule publish - --to nats+tls://nats.example --nats-creds desk.creds`,
  );
}
