import { Argument, type Command, Option } from 'commander';
import { outputSchema } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import { scaled } from '../../base/units.ts';
import { LANGUAGES, type Language } from '../../filter/index.ts';
import type { ControlClient } from '../../gate/control-client.ts';
import type { RuleRow, RulesAdded } from '../../gate/control-protocol.ts';
import { parseRule, type Rule, type RuleInput } from '../../rules/spec.ts';
import type { Register } from '../command.ts';
import { configOf } from '../flags.ts';
import { withGate } from '../gate-choice.ts';
import { registerRuleCompile } from './rule-compile.ts';
import { registerRuleFleet } from './rule-fleet.ts';
import { fromFile, type RuleOptions, withRule, written } from './rule-input.ts';
import { registerRuleSamples } from './rule-samples.ts';
import { registerSigned } from './rule-signed.ts';

/** Rules in one request: a request has 64 KiB. */
const REQUEST_BYTES = 48 * 1024;
const REQUEST_RULES = 256;
/** Requests that are under way at once; the daemon makes them live together. */
const AHEAD = 12;

const parts = async () => ({
  findPlace: (await import('../../gate/control-places.ts')).findPlace,
  Client: (await import('../../gate/control-client.ts')).ControlClient,
});

async function connect(ifname: string | undefined): Promise<ControlClient> {
  const { findPlace, Client } = await parts();
  return await Client.connect(findPlace(ifname));
}

/** `sluice rule add|rm|ls|on|off|test|samples`, and what goes to many gates. */
export const registerRule: Register = (program, host) => {
  const rule = program
    .command('rule')
    .description('Mitigation rules of a gate that is up: drop, rate-limit, count, sample.');

  const add = withRule(
    rule
      .command('add')
      .description('Put a rule into force, or all of a file at once; a set that fails changes nothing.'),
  )
    .addOption(
      new Option(
        '--file <FILE>',
        'Rules from a YAML or JSON file (- is stdin): a list, as docs/rules.md has it.',
      ),
    )
    .addOption(new Option('--replace', 'Change rules of the same id; their counts go on.'))
    .addOption(new Option('--off', 'Add it switched off.'))
    .addOption(
      new Option(
        '--offload <WHERE>',
        'Drop in the NIC as well, where it can: header fields only (docs/rules.md).',
      ).choices(['nic']),
    )
    .addOption(new Option('--why <TEXT>', 'Reason, for the audit log.'))
    .action(async (expr: string | undefined) => {
      const { config } = configOf(add, outputSchema);
      const given = add.opts<RuleOptions>();
      await host.run(config, async (io) => {
        const rules = given.file === undefined ? [written(expr, given)] : fromFile(given.file, expr);
        using client = await connect(given.interface);
        const added = await addAll(client, rules, given);
        for (const { id, state, reason } of added.offload)
          if (state === 'xdp') io.warn(`rule ${id} stays in XDP: ${reason}`);
        const ids = added.added;
        if (config.json) io.out(`${JSON.stringify(added)}\n`);
        else io.say(ids.length === 1 ? `rule ${ids[0]} is in force` : `${ids.length} rules are in force`);
        return undefined;
      });
    });
  withGate(add);
  add.addHelpText(
    'after',
    `
Examples:
  sluice rule add 'dst host 192.0.2.7 and udp src port 123' --action drop --ttl 1h
  sluice rule add 'udp dst port 53' --action limit=50kpps,per=target/32 --id dns
  sluice rule add '*.attacked.example' --lang dns --action limit=1000pps
  sluice rule add 'dst host 192.0.2.7 and udp src port 123' --offload nic
  sluice rule add --file rules.yaml --replace`,
  );

  for (const [name, description] of [
    ['rm', 'Take rules out of force; their last counts are printed.'],
    ['on', 'Switch rules on.'],
    ['off', 'Switch rules off, from this packet to the next; nothing of them is left in the programs.'],
  ] as const) {
    const command = rule
      .command(name)
      .description(description)
      .addArgument(new Argument('<ID...>', 'ids of rules'))
      .addOption(new Option('--why <TEXT>', 'Reason, for the audit log.'))
      .action(async (ids: string[]) => {
        const { config } = configOf(command, outputSchema);
        const { interface: ifname, why } = command.opts<RuleOptions>();
        await host.run(config, async (io) => {
          using client = await connect(ifname);
          const reason = why === undefined ? {} : { why };
          if (name === 'rm') {
            const { removed } = await client.ask<{ removed: RuleRow[] }>('rule.remove', { ids, ...reason });
            io.out(config.json ? `${JSON.stringify(removed)}\n` : removed.map(rowText).join(''));
          } else {
            const result = await client.ask<object>('rule.switch', { ids, on: name === 'on', ...reason });
            if (config.json) io.out(`${JSON.stringify(result)}\n`);
            else io.say(`${ids.join(', ')} ${ids.length === 1 ? 'is' : 'are'} ${name}`);
          }
          return undefined;
        });
      });
    withGate(command);
    command.addHelpText('after', `\nExample:\n  sluice rule ${name} ntp-flood`);
  }

  const ls = rule
    .command('ls')
    .description('The rules with what they matched and dropped.')
    .action(async () => {
      const { config } = configOf(ls, outputSchema);
      await host.run(config, async (io) => {
        using client = await connect(ls.opts<RuleOptions>().interface);
        const rows = await listed(client);
        if (config.json) io.out(`[${rows.map((row) => JSON.stringify(row)).join(',\n')}]\n`);
        else io.out(rows.map(rowText).join(''));
        if (!config.json) io.say(`${rows.length} ${rows.length === 1 ? 'rule' : 'rules'}`);
        return undefined;
      });
    });
  withGate(ls);
  ls.addHelpText('after', '\nExample:\n  sluice rule ls --json');

  registerTest(rule, host);
  registerRuleSamples(rule, host);
  registerSigned(rule, host);
  registerRuleCompile(rule, host);
  registerRuleFleet(rule, host);
};

/** `sluice rule test`: what rules would match, without privileges and without a gate. */
function registerTest(rule: Command, host: Parameters<Register>[1]): void {
  const test = rule
    .command('test')
    .description('What a rule would match in a capture file, before it is live. Needs no privileges.')
    .addArgument(new Argument('[EXPR]', 'the expression; not with --file or --id'))
    .addOption(
      new Option(
        '--pcap <FILE>',
        'A pcap or pcapng file of Ethernet frames; - is stdin.',
      ).makeOptionMandatory(),
    )
    .addOption(
      new Option('--lang <LANG>', 'Language of the expression.').choices(LANGUAGES).default('tcpdump'),
    )
    .addOption(new Option('--file <FILE>', 'All rules of a YAML or JSON file instead.'))
    .addOption(new Option('--id <ID>', 'A rule of the gate that is up instead.'))
    .action(async (expr: string | undefined) => {
      const { config } = configOf(test, outputSchema);
      const given = test.opts<RuleOptions & { pcap: string }>();
      await host.run(config, async (io) => {
        const rules = await rulesToTest(expr, given);
        const { testRules } = await import('../rule-test.ts');
        const report = await testRules(rules, given.pcap, io);
        if (config.json) io.out(`${JSON.stringify(report)}\n`);
        else {
          io.out(report.rules.map((row) => testText(row, report.packets)).join(''));
          io.say(`${report.packets.toLocaleString('en-US')} packets`);
        }
        return undefined;
      });
    });
  withGate(test);
  test.addHelpText(
    'after',
    `
Examples:
  sluice rule test 'udp src port 123' --pcap attack.pcap
  sluice rule test --file rules.yaml --pcap benign.pcap --json`,
  );
}

/** Sends rules in requests that fit, several at once, so that the daemon makes them live together. */
async function addAll(
  client: ControlClient,
  rules: readonly RuleInput[],
  given: RuleOptions,
): Promise<RulesAdded> {
  const requests: RuleInput[][] = [];
  let bytes = Number.POSITIVE_INFINITY;
  for (const one of rules) {
    const size = JSON.stringify(one).length;
    if (bytes + size > REQUEST_BYTES || (requests.at(-1)?.length ?? 0) >= REQUEST_RULES) {
      requests.push([]);
      bytes = 0;
    }
    requests.at(-1)?.push(one);
    bytes += size;
  }
  const options = {
    replace: given.replace === true,
    ...(given.why === undefined ? {} : { why: given.why }),
  };
  const all: RulesAdded = { added: [], programs: null, offload: [] };
  for (let from = 0; from < requests.length; from += AHEAD) {
    const answers = requests
      .slice(from, from + AHEAD)
      .map((each) => client.ask<RulesAdded>('rule.add', { rules: each, ...options }));
    for (const { added, programs, offload } of await Promise.all(answers)) {
      all.added.push(...added);
      all.programs = programs;
      all.offload.push(...offload);
    }
  }
  return all;
}

async function listed(client: ControlClient): Promise<RuleRow[]> {
  const rows: RuleRow[] = [];
  await client.ask('rule.list', {}, (page) => {
    for (const row of page) rows.push(row as RuleRow);
  });
  return rows;
}

/** What `rule test` looks at: the expression, a file, or a rule of the gate. */
async function rulesToTest(
  expr: string | undefined,
  given: RuleOptions,
): Promise<Pick<Rule, 'id' | 'expr' | 'lang'>[]> {
  if (given.file !== undefined) return fromFile(given.file, expr);
  if (given.id !== undefined) {
    if (expr !== undefined) throw new SluiceError('USAGE', 'give an expression or --id, not both');
    using client = await connect(given.interface);
    const row = (await listed(client)).find(({ id }) => id === given.id);
    if (row === undefined) throw new SluiceError('NOT_FOUND', `there is no rule ${given.id}`);
    return [{ id: row.id, expr: row.expr, lang: row.lang as Language }];
  }
  const { id, expr: text, lang } = parseRule(written(expr, { ...given, action: 'count' }));
  return [{ id, expr: text, lang }];
}

interface TestRow {
  id: string;
  expr: string;
  matched: { pkts: number; bytes: number };
}

function testText({ id, expr, matched }: TestRow, packets: number): string {
  const share = packets === 0 ? 0 : (100 * matched.pkts) / packets;
  const pkts = matched.pkts.toLocaleString('en-US');
  return `${id}  ${pkts} packets (${share.toFixed(2)} %), ${scaled(matched.bytes, 'B')}  ${expr}\n`;
}

const count = ({ pkts, bytes }: RuleRow['matched']): string =>
  `${pkts.toLocaleString('en-US')} packets, ${scaled(bytes, 'B')}`;

function rowText(row: RuleRow): string {
  const { id, expr, lang, action, enabled, inScope, expires, matched, dropped, offload } = row;
  const nic =
    offload === null ? [] : [offload.state === 'nic' ? 'in the NIC' : `not in the NIC: ${offload.reason}`];
  const left = expires === null ? [] : [`${Math.max(0, Math.round(expires - Date.now() / 1000))} s left`];
  const state = [...(enabled ? [] : ['off']), ...(inScope ? [] : ['not for here']), ...left, ...nic];
  const marks = state.length === 0 ? '' : ` (${state.join(', ')})`;
  const what = lang === 'tcpdump' ? expr : `${lang}: ${expr}`;
  return `${id}  ${action}${marks}  matched ${count(matched)}; dropped ${count(dropped)}  ${what}\n`;
}
