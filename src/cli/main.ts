import { Command, CommanderError } from 'commander';
import { asSluiceError, Exit, SluiceError } from '../base/errors.ts';
import type { CommandHost, Register } from './command.ts';
import { errorDocument, sayError } from './report-error.ts';
import { type Streams, Terminal } from './terminal.ts';
import { version } from './version.ts';

const STOP_SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** In the order of the help. Only what is asked for is loaded: all together take longer than reading a small file. */
const COMMANDS: Readonly<Record<string, () => Promise<Register>>> = {
  run: async () => (await import('./commands/run.ts')).registerRun,
  read: async () => (await import('./commands/read.ts')).registerRead,
  replay: async () => (await import('./commands/replay.ts')).registerReplay,
  gate: async () => (await import('./commands/gate.ts')).registerGate,
  fanout: async () => (await import('./commands/fanout.ts')).registerFanout,
  shunt: async () => (await import('./commands/shunt.ts')).registerShunt,
  enrich: async () => (await import('./commands/enrich.ts')).registerEnrich,
  hold: async () => (await import('./commands/hold.ts')).registerHold,
  policy: async () => (await import('./commands/policy.ts')).registerPolicy,
  rule: async () => (await import('./commands/rule.ts')).registerRule,
  filter: async () => (await import('./commands/filter.ts')).registerFilter,
  detect: async () => (await import('./commands/detect.ts')).registerDetect,
  attack: async () => (await import('./commands/attack.ts')).registerAttack,
  cap: async () => (await import('./commands/cap.ts')).registerCap,
  query: async () => (await import('./commands/query.ts')).registerQuery,
  lab: async () => (await import('./commands/lab.ts')).registerLab,
  top: async () => (await import('./commands/top.ts')).registerTop,
  doctor: async () => (await import('./commands/doctor.ts')).registerDoctor,
  bench: async () => (await import('./commands/bench.ts')).registerBench,
  config: async () => (await import('./commands/config.ts')).registerConfig,
};

function usageError(error: CommanderError): SluiceError {
  if (error.code === 'commander.help') {
    return new SluiceError('USAGE', 'a command is missing', {
      help: 'sluice COMMAND --help lists what it takes',
    });
  }
  const [first = '', suggestion] = error.message.replace(/^error: /, '').split('\n');
  const meant =
    suggestion === undefined ? undefined : /\(Did you mean (?:one of )?(.*?)\?\)/.exec(suggestion)?.[1];
  return new SluiceError('USAGE', first, {
    help:
      meant === undefined
        ? 'sluice --help lists the commands, sluice COMMAND --help their flags'
        : `did you mean ${meant}?`,
  });
}

async function build(terminal: Terminal, host: CommandHost, name: string | undefined): Promise<Command> {
  const program = new Command('sluice')
    .description(
      'An XDP gate in front of network sensors: drops what they learn nothing from, and keeps the books.',
    )
    .version(version(), '-V, --version', 'Print the version.')
    .helpOption('-h, --help', 'Print this help.')
    .helpCommand('help [COMMAND]', 'Print the help of a command.')
    .showSuggestionAfterError(true)
    .exitOverride()
    .configureOutput({ writeOut: (text) => terminal.out(text), writeErr: () => {}, outputError: () => {} });
  const only = name === undefined || !Object.hasOwn(COMMANDS, name) ? undefined : COMMANDS[name];
  for (const load of only === undefined ? Object.values(COMMANDS) : [only]) (await load())(program, host);
  program.addHelpText(
    'after',
    `
Examples:
  sluice run                          shunt real traffic in a test network of its own
  sluice run -i eth1 --tap            the same on a tap
  sluice read trace.pcap --log-dir d  connections of a capture file, no privileges needed`,
  );
  return program;
}

/**
 * The command line: parses, runs one command, reports. Resolves to the exit code (docs/cli.md); never rejects.
 * @param argv arguments behind the program's name
 */
export async function main(
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
  streams: Streams = { stdout: process.stdout, stderr: process.stderr },
): Promise<number> {
  const terminal = new Terminal(streams, env);
  let json = argv.includes('--json');
  let verbose = argv.includes('--verbose') || argv.includes('-v');
  let reported = false;
  let stoppedBy: NodeJS.Signals | undefined;

  const onSignal = (signal: NodeJS.Signals) => {
    stoppedBy ??= signal;
    const again = terminal.requestStop(signal);
    // Ctrl-C again: whoever asks does not want to wait for the clean end. Supervisors repeat SIGTERM without meaning that.
    if (again && signal === 'SIGINT') process.exit(Exit.interrupted);
  };
  const host: CommandHost = {
    async run(config, body) {
      json = config.json;
      verbose = config.verbose;
      terminal.configure(config);
      for (const signal of STOP_SIGNALS) process.on(signal, onSignal);
      try {
        const problem = await body(terminal);
        if (problem !== undefined) {
          reported = true;
          throw problem;
        }
      } finally {
        for (const signal of STOP_SIGNALS) process.off(signal, onSignal);
      }
    },
  };

  const fail = (error: SluiceError): number => {
    terminal.progressDone();
    if (json && !reported) terminal.out(`${JSON.stringify({ error: errorDocument(error) })}\n`);
    sayError(terminal, error, verbose);
    return error.exit;
  };

  let code: number = Exit.done;
  try {
    if (argv.length === 0) {
      throw new SluiceError('USAGE', 'no command given', {
        help: 'sluice --help lists the commands; npm start runs the main job',
      });
    }
    await (await build(terminal, host, argv[0])).parseAsync([...argv], { from: 'user' });
  } catch (thrown) {
    if (!(thrown instanceof CommanderError)) code = fail(asSluiceError(thrown));
    // Help and version that were asked for are thrown by commander as well.
    else if (thrown.exitCode !== 0) code = fail(usageError(thrown));
  }
  if (stoppedBy !== undefined && code === Exit.done)
    code = stoppedBy === 'SIGINT' ? Exit.interrupted : Exit.done;
  try {
    await terminal.finish();
  } catch (thrown) {
    json = false;
    if (code === Exit.done) code = fail(asSluiceError(thrown));
  }
  return code;
}
