import { readFileSync } from 'node:fs';
import { Option } from 'commander';
import { natsSchema, outputSchema } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import type { NatsConfig } from '../../fleet/nats-access.ts';
import type { Register } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';

/** As src/mitigation/report.ts writes it. */
interface AttackRow {
  id: string;
  kind: string;
  target: string;
  began: number;
  ended: number | null;
  peak: number;
  attack: boolean;
  surprise: string | null;
  why: string;
  uncovered: number;
  dryRun: boolean;
  rules: { id: string; expr: string; action: string; covers: number }[];
}

async function attacks(ifname: string | undefined): Promise<AttackRow[]> {
  const { findPlace } = await import('../../gate/control-places.ts');
  const place = findPlace(ifname);
  try {
    return JSON.parse(readFileSync(place.attacks, 'utf8')) as AttackRow[];
  } catch (cause) {
    throw new SluiceError('NOT_FOUND', `the gate of ${place.ifname} does not look for attacks`, {
      cause,
      help: `sluice gate up -i ${place.ifname} --mitigate does`,
    });
  }
}

function find(rows: readonly AttackRow[], id: string): AttackRow {
  const row = rows.find((each) => each.id === id);
  if (row === undefined)
    throw new SluiceError('NOT_FOUND', `there is no attack ${id}`, { help: 'sluice attack ls lists them' });
  return row;
}

const line = ({
  id,
  kind,
  target,
  began,
  ended,
  peak,
  attack,
  surprise,
  rules,
  dryRun,
}: AttackRow): string => {
  const what = attack ? kind : `no attack: ${surprise}`;
  const done = rules.length === 0 ? 'no rule' : `${rules.length} rules${dryRun ? ' (dry run)' : ''}`;
  const time = new Date(began * 1000).toISOString().slice(0, 19);
  return `${id}  ${time}  ${ended === null ? 'lasts' : `${(ended - began).toFixed(0)} s`}  ${what}  ${target}  ${peak} packets/s  ${done}\n`;
};

const option = (): Option =>
  new Option('-i, --interface <IFACE>', 'The gate of this interface, where several are up.');
const fromOption = (): Option =>
  new Option('--from <URL>', "Those of a fleet's detectors: nats://HOST[:PORT][/NAME].").conflicts(
    'interface',
  );

interface Where {
  interface?: string;
  from?: string;
}

async function rowsOf({ interface: ifname, from }: Where, config: NatsConfig): Promise<AttackRow[]> {
  if (from === undefined) return await attacks(ifname);
  const { fleetAttacks } = await import('../../detect/fleet-attacks.ts');
  const { natsAccess } = await import('../../fleet/nats-access.ts');
  const { natsPlace } = await import('../../fleet/nats-place.ts');
  return await fleetAttacks(natsPlace(from, natsAccess(config)));
}

/** `sluice attack ls|show|revert`. */
export const registerAttack: Register = (program, host) => {
  const attack = program
    .command('attack')
    .description(
      'Attacks that a gate with --mitigate or the detectors of a fleet have seen, and what was done (docs/mitigation.md).',
    );

  const list = attack
    .command('ls')
    .description('The attacks of late, and what looked like one.')
    .addOption(option())
    .addOption(fromOption())
    .action(async (options: Where) => {
      const { config } = configOf(list, natsSchema);
      await host.run(config, async (io) => {
        const rows = await rowsOf(options, config);
        io.out(config.json ? `${JSON.stringify(rows)}\n` : rows.map(line).join(''));
        return undefined;
      });
    });
  addFlags(list, natsSchema);
  list.addHelpText('after', '\nExample:\n  sluice attack ls --json');

  const show = attack
    .command('show')
    .argument('<ID>', 'as attack ls has it')
    .description('All that is known of one: evidence, estimates, rules.')
    .addOption(option())
    .addOption(fromOption())
    .action(async (id: string, options: Where) => {
      const { config } = configOf(show, natsSchema);
      await host.run(config, async (io) => {
        const row = find(await rowsOf(options, config), id);
        io.out(`${JSON.stringify(row, null, config.json ? 0 : 2)}\n`);
        return undefined;
      });
    });
  addFlags(show, natsSchema);
  show.addHelpText('after', '\nExample:\n  sluice attack show t3k2p0-1');

  const revert = attack
    .command('revert')
    .argument('<ID>', 'as attack ls has it')
    .description('Take its rules out, and make none again while it lasts.')
    .addOption(option())
    .action(async (id: string, options: { interface?: string }) => {
      const { config } = configOf(revert, outputSchema);
      await host.run(config, async (io) => {
        const { findPlace } = await import('../../gate/control-places.ts');
        const { ControlClient } = await import('../../gate/control-client.ts');
        const row = find(await attacks(options.interface), id);
        if (row.rules.length === 0 || row.dryRun)
          throw new SluiceError('NOT_FOUND', `attack ${id} has no rules in force`);
        const client = await ControlClient.connect(findPlace(options.interface));
        try {
          const ids = row.rules.map((rule) => rule.id);
          await client.ask('rule.remove', { ids, why: `attack ${id} reverted` });
          if (config.json) io.out(`${JSON.stringify({ reverted: ids })}\n`);
          else io.say(`removed ${ids.join(', ')}`);
        } finally {
          client.close();
        }
        return undefined;
      });
    });
  addFlags(revert, outputSchema);
  revert.addHelpText('after', '\nExample:\n  sluice attack revert t3k2p0-1');
  attack.addHelpText(
    'after',
    `
Examples:
  sluice attack ls
  sluice attack ls --from nats://nats.example
  sluice attack show t3k2p0-1
  sluice attack revert t3k2p0-1`,
  );
};
