import { type Command, Option } from 'commander';
import { type FleetReport, LEAST_SIMULATED, runFleetLab, type Spread } from '../../../lab/fleet/fleet-lab.ts';
import { outputSchema } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import { scaled } from '../../base/units.ts';
import { wholeNumber } from '../arguments.ts';
import type { CommandHost } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';
import { errorDocument } from '../report-error.ts';

/** `sluice lab fleet`. */
export function registerLabFleet(lab: Command, host: CommandHost): void {
  const fleet = lab
    .command('fleet')
    .description(
      'A fleet on this machine: nats-server, three gates with traffic, simulated edges; how fast rules spread, and what becomes of them when things go wrong. Takes some minutes.',
    )
    .addOption(
      new Option('--simulated <N>', 'Edges without a kernel, beside the three gates.')
        .argParser(wholeNumber(LEAST_SIMULATED, 2000))
        .default(200),
    )
    .addOption(
      new Option('--rules <N>', 'Rules whose spread is measured.').argParser(wholeNumber(1, 500)).default(40),
    )
    .addOption(
      new Option(
        '--attack <SECONDS>',
        'Of an attack that two detectors find, one of which is killed; 0: none.',
      )
        .argParser(wholeNumber(0, 600))
        .default(60),
    )
    .action(async () => {
      const { config } = configOf(fleet, outputSchema);
      const given = fleet.opts<{ simulated: number; rules: number; attack: number }>();
      await host.run(config, async (io) => {
        const report = await runFleetLab({ ...given, progress: (text) => io.progress(text), stop: io.stop });
        io.progressDone();
        const [first] = report.failures;
        const problem =
          first === undefined
            ? undefined
            : new SluiceError('LAB', `${report.failures.length} things are not as they should be: ${first}`);
        const failure = problem === undefined ? {} : { error: errorDocument(problem) };
        io.out(config.json ? `${JSON.stringify({ ...report, ...failure })}\n` : reportText(report));
        return problem;
      });
    });
  addFlags(fleet, outputSchema);
  fleet.addHelpText(
    'after',
    `
It starts a server of its own. One for a fleet, by hand (Debian: apt-get install nats-server):
  nats-server -c nats.conf
with, in nats.conf (docs/fleet.md has TLS and credentials):
  host: 127.0.0.1
  jetstream { store_dir: "/var/lib/nats" }
  authorization { user: sluice, password: "SECRET" }

Examples:
  sluice lab fleet
  sluice lab fleet --simulated 50 --json`,
  );
}

const milliseconds = (seconds: number): string => `${Math.round(1000 * seconds)} ms`.padStart(9);

function spreadText(name: string, { landings, p50, p99, most }: Spread): string {
  const figures = [p50, p99, most].map(milliseconds).join('');
  return `  ${name.padEnd(10)}${String(landings).padStart(7)} arrivals${figures}\n`;
}

function reportText(report: FleetReport): string {
  const { edges, spread, cases, figures, failures } = report;
  return [
    `${edges.real} gates and ${edges.simulated} simulated edges over nats-server, ${report.seconds.toFixed(0)} s\n\n`,
    `${report.rules} rules, from signing to in force:             p50      p99     most\n`,
    spreadText('gates', spread.real),
    spreadText('simulated', spread.simulated),
    '\n',
    ...cases.map(({ name, seconds, shown }) => `${name} (${seconds.toFixed(1)} s)\n  ${shown}\n`),
    `\nin the end ${report.inForce} rules are in force at ${edges.real + edges.simulated} edges, ${failures.length === 0 ? 'each as it was signed' : `${failures.length} things are wrong`}; ${report.dropped.toLocaleString('en-US')} packets dropped\n`,
    ...failures.map((text) => `  ${text}\n`),
    `a signed rule has ${Math.round(figures.statement)} bytes; nats-server: ${scaled(figures.serverMemory, 'B')}, ${(100 * figures.serverCpu).toFixed(1)} % of a processor while rules spread\n`,
  ].join('');
}
