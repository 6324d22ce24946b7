import { type OutputConfig, outputSchema, type ReadConfig, readSchema } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import type { CommandIo } from '../../base/io.ts';
import {
  FIELDS,
  loadPolicies,
  PRESETS,
  rangesIn,
  readSignatures,
  textOf,
  triggerOf,
} from '../../policy/index.ts';
import type { Register } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';

const pad = (rows: readonly (readonly [string, string])[]): string => {
  const width = Math.max(...rows.map(([name]) => name.length));
  return rows.map(([name, text]) => `${name.padEnd(width)}  ${text}\n`).join('');
};

async function check(files: readonly string[], config: ReadConfig, io: CommandIo): Promise<undefined> {
  const plan = await loadPolicies(files.length > 0 && config.policy.length > 0 ? [] : config.policy, [
    ...config.policyFile,
    ...files,
  ]);
  for (const warning of plan.warnings) io.warn(`warning: ${warning}`);
  if (config.json) {
    io.out(`${JSON.stringify({ policies: plan.specs })}\n`);
    return;
  }
  io.out(
    pad(
      plan.specs
        .toSorted((a, b) => b.priority - a.priority)
        .map((spec) => [
          spec.name,
          `${spec.action}${spec.dryRun ? ' (dry run)' : ''}  ${triggerOf(spec)}  when ${spec.when.replace(/\s+/g, ' ').trim()}`,
        ]),
    ),
  );
  for (const [name, table] of plan.prefixes) {
    const { ipv4, ipv6 } = rangesIn(table);
    io.detail(`set ${name}: ${ipv4} ranges of IPv4, ${ipv6} of IPv6`);
  }
  for (const [name, { count }] of plan.domains) io.detail(`set ${name}: ${count} domains`);
  for (const [name, list] of plan.signatures) io.detail(`set ${name}: ${list.length} signatures`);
}

async function signatures(
  files: readonly string[],
  vars: readonly string[],
  config: OutputConfig,
  io: CommandIo,
): Promise<undefined> {
  const variables: Record<string, string> = {};
  for (const text of vars) {
    const match = /^(\w+)=(.+)$/.exec(text);
    if (match === null)
      throw new SluiceError('USAGE', `--var ${text} is no variable`, {
        help: "write it like --var HOME_NET='[10.0.0.0/8]'",
      });
    variables[match[1]] = match[2];
  }
  const all = [];
  for (const file of files) all.push({ file, ...(await readSignatures(await textOf(file), variables)) });
  if (config.json) {
    const told = all.map(({ signatures: taken, ...rest }) => ({
      ...rest,
      honoured: taken.map(({ sid, msg }) => ({ sid, msg })),
    }));
    io.out(`${JSON.stringify(told)}\n`);
    return;
  }
  for (const { file, rules, signatures: taken, refused, damaged } of all) {
    io.out(
      `${file}: ${rules} rules, ${taken.length + refused.length} with bypass, ${taken.length} honoured\n`,
    );
    for (const { sid, msg } of taken) io.out(`  honoured  ${sid}  ${msg}\n`);
    for (const { line, sid, msg, reason } of refused)
      io.out(`  refused   ${sid}  ${msg}: ${reason} (line ${line})\n`);
    for (const { line, reason } of damaged) io.warn(`${file}, line ${line}: ${reason}`);
  }
}

/** `sluice policy`: what policies there are, and whether one's own are right. */
export const registerPolicy: Register = (program, host) => {
  const policy = program
    .command('policy')
    .description('What is shunted and when: presets, fields of the language, checks (docs/policies.md).');

  const presets = policy
    .command('presets')
    .description('The policies that --policy knows by name.')
    .action(async () => {
      const { config } = configOf(presets, outputSchema);
      await host.run(config, async (io) => {
        const rows = Array.from(PRESETS.values(), ({ help }): [string, string] => {
          const colon = help.indexOf(': ');
          return [help.slice(0, colon), help.slice(colon + 2)];
        });
        io.out(
          config.json ? `${JSON.stringify(rows.map(([usage, help]) => ({ usage, help })))}\n` : pad(rows),
        );
      });
    });
  addFlags(presets, outputSchema);
  presets.addHelpText('after', '\nExample:\n  sluice policy presets --json');

  const fields = policy
    .command('fields')
    .description('The fields that conditions are written over.')
    .action(async () => {
      const { config } = configOf(fields, outputSchema);
      await host.run(config, async (io) => {
        const rows = Array.from(FIELDS, ([name, { kind, change, help }]) => ({ name, kind, change, help }));
        io.out(
          config.json
            ? `${JSON.stringify(rows)}\n`
            : pad(rows.map(({ name, kind, help }) => [name, `${kind.padEnd(9)}  ${help}`])),
        );
      });
    });
  addFlags(fields, outputSchema);
  fields.addHelpText('after', '\nExample:\n  sluice policy fields');

  const checking = policy
    .command('check')
    .argument('[FILE...]', 'policy files')
    .description('Reads policies as a run would, and prints them in the order in which they are asked.')
    .action(async (files: string[]) => {
      const { config } = configOf(checking, readSchema);
      await host.run(config, (io) => check(files, config, io));
    });
  addFlags(checking, readSchema);
  checking.addHelpText('after', '\nExample:\n  sluice policy check policies.yaml');

  const signing = policy
    .command('signatures')
    .argument('<FILE...>', "Suricata's rule files")
    .option(
      '--var <NAME=VALUE>',
      'An address or port variable of suricata.yaml.',
      (value: string, before: string[] | undefined) => [...(before ?? []), value],
    )
    .description('Which signatures with bypass can be honoured, and why others cannot.')
    .action(async (files: string[], options: { var?: string[] }) => {
      const { config } = configOf(signing, outputSchema);
      await host.run(config, (io) => signatures(files, options.var ?? [], config, io));
    });
  addFlags(signing, outputSchema);
  signing.addHelpText(
    'after',
    '\nExample:\n  sluice policy signatures suricata.rules --var HOME_NET=10.0.0.0/8',
  );

  policy.addHelpText(
    'after',
    `
Examples:
  sluice policy presets                              what --policy takes
  sluice policy check policies.yaml                  errors show the place
  sluice policy signatures suricata.rules --var HOME_NET=10.0.0.0/8`,
  );
};
