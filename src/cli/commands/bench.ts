import { Argument, Option } from 'commander';
import { BENCHES, machine, reportText } from '../../../bench/index.ts';
import { outputSchema } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import { nearest } from '../../base/suggest.ts';
import { wholeNumber } from '../arguments.ts';
import type { Register } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';

const MOST_ROUNDS = 100;

interface BenchFlags {
  rounds?: number;
  against?: string;
  xdpFilter?: string;
  report?: string;
}

/** `sluice bench [NAME]`: the project's measurements. */
export const registerBench: Register = (program, host) => {
  const bench = program
    .command('bench')
    .description('Measure: without a name, list the measurements.')
    .addArgument(new Argument('[NAME]', 'what to measure'))
    .addOption(
      new Option('--rounds <N>', 'Rounds; medians over them are reported.').argParser(
        wholeNumber(1, MOST_ROUNDS),
      ),
    )
    .addOption(
      new Option('--against <OBJECT>', 'gate: another build of gate.bpf.o, measured in the same rounds.'),
    )
    .addOption(
      new Option(
        '--xdp-filter <OBJECT>',
        'gate: the object of xdp-filter (default: where xdp-tools has it).',
      ),
    )
    .addOption(new Option('--report <FILE>', 'shunt: write a page that shows it over time.'))
    .action(async (name: string | undefined) => {
      const { config } = configOf(bench, outputSchema);
      await host.run(config, async (io) => {
        if (name === undefined) {
          const list = BENCHES.map(({ name: each, about }) => ({ name: each, about }));
          io.out(
            config.json
              ? `${JSON.stringify(list)}\n`
              : list.map((each) => `${each.name.padEnd(12)}${each.about}\n`).join(''),
          );
          return undefined;
        }
        const one = BENCHES.find((each) => each.name === name);
        if (one === undefined) {
          const names = BENCHES.map((each) => each.name);
          const near = nearest(name, names);
          throw new SluiceError('USAGE', `there is no measurement ${name}`, {
            help: near === undefined ? `there are: ${names.join(', ')}` : `did you mean ${near}?`,
          });
        }
        const { rounds = one.rounds, against, xdpFilter, report: page } = bench.opts<BenchFlags>();
        const begun = performance.now();
        const { tables, notes } = await one.run(rounds, io, { against, xdpFilter, report: page });
        io.progressDone();
        const report = {
          bench: name,
          command: [
            `sluice bench ${name} --rounds ${rounds}`,
            ...(against === undefined ? [] : [`--against ${against}`]),
            ...(xdpFilter === undefined ? [] : [`--xdp-filter ${xdpFilter}`]),
            ...(page === undefined ? [] : [`--report ${page}`]),
          ].join(' '),
          machine: machine(),
          seconds: (performance.now() - begun) / 1000,
          tables,
          notes,
        };
        io.out(config.json ? `${JSON.stringify(report)}\n` : reportText(report));
        return undefined;
      });
    });
  addFlags(bench, outputSchema);
  bench.addHelpText(
    'after',
    `
Examples:
  sluice bench
  sluice bench gate --rounds 15
  sluice bench shunt --report shunt.html
  sluice bench gate --against old/gate.bpf.o --json`,
  );
};
