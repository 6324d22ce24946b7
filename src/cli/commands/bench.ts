import { Argument, Option } from 'commander';
import { BENCHES, machine, reportText, untilStopped } from '../../../bench/index.ts';
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
  live?: boolean;
  cost?: boolean;
  duration?: number;
  benign?: string;
  kind: string[];
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
    .addOption(
      new Option('--live', 'mitigation: real gates and traffic in a network namespace, no simulated time.'),
    )
    .addOption(
      new Option('--cost', 'mitigation: what the detector costs, and nothing else.').conflicts('live'),
    )
    .addOption(
      new Option('--duration <S>', 'mitigation --live: seconds of each attack (default: 60).').argParser(
        wholeNumber(3, 3600),
      ),
    )
    .addOption(
      new Option(
        '--benign <FILE>',
        'mitigation --live: the usual traffic (default: the corpus of SLUICE_CORPUS, else made-up).',
      ),
    )
    .addOption(
      new Option('--kind <KIND>', 'mitigation --live: only this kind, tool or surprise. Repeatable.')
        .argParser((value: string, before: string[]) => [...before, value])
        .default([] as string[], 'all'),
    )
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
        const flags = bench.opts<BenchFlags>();
        const { rounds = one.rounds, against, xdpFilter, report: page, kind, ...mitigation } = flags;
        const begun = performance.now();
        const found = await untilStopped(io, () =>
          one.run(rounds, io, {
            against,
            xdpFilter,
            report: page,
            ...mitigation,
            only: kind.length === 0 ? undefined : kind,
          }),
        );
        io.progressDone();
        if (found === undefined) {
          io.say('stopped in the middle of a round: there is nothing to report');
          return undefined;
        }
        const { tables, notes } = found;
        const report = {
          bench: name,
          command: [
            `sluice bench ${name} --rounds ${rounds}`,
            ...(against === undefined ? [] : [`--against ${against}`]),
            ...(xdpFilter === undefined ? [] : [`--xdp-filter ${xdpFilter}`]),
            ...(page === undefined ? [] : [`--report ${page}`]),
            ...(flags.live === true ? ['--live'] : []),
            ...(flags.cost === true ? ['--cost'] : []),
            ...(flags.duration === undefined ? [] : [`--duration ${flags.duration}`]),
            ...(flags.benign === undefined ? [] : [`--benign ${flags.benign}`]),
            ...kind.map((each) => `--kind ${each}`),
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
  sluice bench gate --against old/gate.bpf.o --json
  sluice bench mitigation --live --duration 10 --rounds 1 --kind syn-flood`,
  );
};
