import { Option } from 'commander';
import { outputSchema } from '../../base/config.ts';
import { SluiceError } from '../../base/errors.ts';
import { parseDuration } from '../../base/units.ts';
import type { Register } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';
import { interfaceOption } from '../gate-choice.ts';
import { VIEWS, type View } from '../top/views.ts';

const LEAST_SECONDS = 0.2;
const MOST_SECONDS = 3600;

interface Options {
  interface?: string;
  interval: string;
  once?: boolean;
  from?: string;
  token?: string;
  view: View;
}

/** @throws SluiceError USAGE */
function intervalOf(text: string): number {
  try {
    const seconds = parseDuration(text);
    if (seconds >= LEAST_SECONDS && seconds <= MOST_SECONDS) return seconds;
  } catch {
    // Said below.
  }
  throw new SluiceError('USAGE', `--interval: '${text}' is no time from 200ms to 1h`);
}

/** `sluice top`. */
export const registerTop: Register = (program, host) => {
  const top = program
    .command('top')
    .description(
      'What a gate or a run sees, drops and loses, live (docs/losses.md): Tab or a letter shows another view, s sorts, p pauses, q quits.',
    )
    .addOption(interfaceOption())
    .addOption(new Option('--interval <TIME>', 'Time between two looks.').default('1s'))
    .addOption(new Option('--view <VIEW>', 'What to show at first.').choices(VIEWS).default('overview'))
    .addOption(new Option('--once', 'One frame, with the rates of one interval, and done.'))
    .addOption(
      new Option(
        '--from <API>',
        'Ask the API of a run there, and no gate: http://HOST:PORT, a port of this host, or unix:/PATH.',
      ),
    )
    .addOption(new Option('--token <FILE>', 'The token that this API wants to see.'))
    .action(async (options: Options) => {
      const { config } = configOf(top, outputSchema);
      await host.run(config, async (io) => {
        const interval = intervalOf(options.interval);
        const { followTop } = await import('../top/follow.ts');
        const { ApiSource, readToken, SocketSource } = await import('../top/reading.ts');
        const source =
          options.from === undefined
            ? await SocketSource.open(options.interface)
            : new ApiSource(options.from, readToken(options.token));
        try {
          await followTop(
            source,
            { interval, once: options.once === true, json: config.json, view: options.view },
            io,
          );
        } finally {
          source.close();
        }
        return undefined;
      });
    });
  addFlags(top, outputSchema);
  top.addHelpText(
    'after',
    `
Examples:
  sluice top                      the gate that is up, or the run that has one
  sluice top -i eth1 --interval 5s
  sluice top --once               one frame for a script or a ticket
  sluice top --once --view losses every counter from the card on
  sluice top --json               a document a second
  sluice top --from 9900          a run without a gate, by its API`,
  );
};
