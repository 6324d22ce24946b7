import { InvalidArgumentError, Option } from 'commander';
import { outputSchema } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import type { DoctorOptions } from '../../doctor/doctor.ts';
import type { Register } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';

interface Given {
  only?: string[];
  skip?: string[];
  sample: number;
  all?: boolean;
  map?: boolean | string;
  budget?: boolean;
  for?: 'zeek' | 'suricata';
  sensorConfig?: string;
  plan?: boolean;
  apply?: boolean;
  undo?: boolean;
  force?: boolean;
  maxRisk: 'none' | 'blip' | 'host';
  facts?: boolean;
  schema?: boolean;
}

const MOST_SECONDS = 3600;

function seconds(text: string): number {
  const value = Number(text);
  if (!/^\d+(\.\d+)?$/.test(text) || value > MOST_SECONDS)
    throw new InvalidArgumentError(`must be seconds, up to ${MOST_SECONDS}`);
  return value;
}

const names = (text: string, before: string[] | undefined): string[] => [
  ...(before ?? []),
  ...text.split(',').filter((name) => name !== ''),
];

/** Ways that exclude each other: each prints something else. */
const WAYS = ['plan', 'apply', 'undo', 'facts', 'schema'] as const;

function check(given: Given): void {
  const ways = WAYS.filter((way) => given[way] === true);
  const [first, second] = ways;
  if (second !== undefined)
    throw new SluiceError('USAGE', `--${first} does not go together with --${second}`, {
      help: 'one of them at a time',
    });
  if (given.force === true && given.undo !== true)
    throw new SluiceError('USAGE', '--force needs --undo', { help: 'sluice doctor --undo --force' });
  if (given.sensorConfig !== undefined && given.for === undefined)
    throw new SluiceError('USAGE', '--sensor-config needs --for', { help: '--for zeek or --for suricata' });
}

/** `sluice doctor`. */
export const registerDoctor: Register = (program, host) => {
  const doctor = program
    .command('doctor')
    .argument('[IFACE...]', 'interfaces to look at (default: all that can be taps)')
    .description(
      'Check the machine for a sensor that loses nothing: card, interrupts, processors, kernel; with what to do.',
    )
    .addOption(
      new Option(
        '--only <CHECK,…>',
        'Only these checks, or areas: nic, rss, pcie, irq, numa, cpu, kernel, bpf, memory, clock, fanout.',
      ).argParser(names),
    )
    .addOption(new Option('--skip <CHECK,…>', 'Not these.').argParser(names))
    .addOption(
      new Option('--sample <SECONDS>', 'Watch rates, losses and processors for this long; 0: not at all.')
        .argParser(seconds)
        .default(1),
    )
    .addOption(new Option('--all', 'What is as it should be too.'))
    .addOption(
      new Option(
        '--map [FILE]',
        'Draw card → node → queue → interrupt → CPU → worker: as text, or into an SVG file.',
      ),
    )
    .addOption(
      new Option(
        '--budget',
        'Time for a packet at the rate of the link, against what gate, softirq and workers take.',
      ),
    )
    .addOption(
      new Option(
        '--for <SENSOR>',
        'Hold the configuration of a sensor against the machine, and print what to put into it.',
      ).choices(['zeek', 'suricata']),
    )
    .addOption(
      new Option(
        '--sensor-config <FILE>',
        'Its node.cfg or suricata.yaml (default: where they are installed).',
      ),
    )
    .addOption(new Option('--plan', 'Print the commands that would make the changes.'))
    .addOption(new Option('--apply', 'Make the changes, and note what was before.'))
    .addOption(new Option('--undo', 'Put back what --apply has changed.'))
    .addOption(new Option('--force', 'With --undo: also what somebody has changed since.'))
    .addOption(
      new Option(
        '--max-risk <RISK>',
        'Of --plan and --apply: no changes that do more than this. blip: the link goes down for a moment; host: other work of the machine is affected.',
      )
        .choices(['none', 'blip', 'host'])
        .default('host'),
    )
    .addOption(new Option('--facts', 'Print what is known of the machine, as JSON, and check nothing.'))
    .addOption(new Option('--schema', 'Print the JSON Schema of what --json prints.'))
    .action(async (interfaces: string[]) => {
      const { config } = configOf(doctor, outputSchema);
      const given = doctor.opts<Given>();
      check(given);
      await host.run(config, async (io) => {
        const { reportJsonSchema, runDoctor } = await import('../../doctor/doctor.ts');
        if (given.schema === true) {
          io.out(reportJsonSchema());
          return undefined;
        }
        const options: DoctorOptions = {
          interfaces,
          only: given.only ?? [],
          skip: given.skip ?? [],
          sample: given.sample,
          all: given.all ?? false,
          map: given.map ?? false,
          budget: given.budget ?? false,
          for: given.for,
          sensorConfig: given.sensorConfig,
          plan: given.plan ?? false,
          apply: given.apply ?? false,
          undo: given.undo ?? false,
          force: given.force ?? false,
          maxRisk: given.maxRisk,
          facts: given.facts ?? false,
        };
        return await runDoctor(options, config, io);
      });
    });
  addFlags(doctor, outputSchema);
  doctor.addHelpText(
    'after',
    `
Exit: 0 without problems (warnings and notes are none), 1 with some, 3 when a privilege or a feature of the kernel is missing.
--apply changes the interfaces that are named; of others only those that do not carry the host's own traffic.

Examples:
  sluice doctor eth1
  sluice doctor eth1 --plan
  sluice doctor eth1 --apply --max-risk none
  sluice doctor --undo
  sluice doctor eth1 --map                     who handles which queue
  sluice doctor eth1 --for suricata            its suricata.yaml against this machine
  sluice doctor --only cpu,bpf --json`,
  );
};
