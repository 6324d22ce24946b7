import { runSchema } from '../../base/config.ts';
import type { Register } from '../command.ts';
import { addFlags, configOf } from '../flags.ts';

/** `sluice run`: the main job, on taps or in the lab. */
export const registerRun: Register = (program, host) => {
  const run = program
    .command('run')
    .description(
      'The main job: gate, sensor and logs, on interfaces or (without -i) in a test network of its own.',
    )
    .action(async () => {
      const { config } = configOf(run, runSchema);
      await host.run(config, async (io) => {
        // Loaded here and not above: other commands work where the native addon does not.
        if (config.interface.length > 0) {
          const { runSensor } = await import('../../sensor/run.ts');
          return await runSensor(config, io);
        }
        const { runInLab } = await import('../lab-run.ts');
        return await runInLab(config, io);
      });
    });
  addFlags(run, runSchema);
  run.addHelpText(
    'after',
    `
Examples:
  sluice run --duration 60                        the lab for a minute
  sluice run -i eth1 --tap                        a tap, until Ctrl-C
  sluice run -i eth1,eth2 --tap --policy bulk=5MB two taps, shunt only bulk
  sluice run -i eth1 --tap --no-gate              the sensor alone`,
  );
};
